//! The table of tokens: the kind and the bytes of each id.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// A file with a larger id is damaged: Mistral's largest vocabularies have 131,072 tokens.
pub(crate) const MAX_ID: u32 = (1 << 22) - 1;

/// All tokens by id.
#[derive(Debug)]
pub(crate) struct Vocab {
    tokens: Vec<Option<Token>>,
    control: BTreeMap<String, u32>,
    /// Whether the first space of a decoded text was added by the tokenizer.
    drops_first_space: bool,
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The text in the file.
    pub text: String,
    /// The bytes that it is decoded to.
    pub bytes: Vec<u8>,
    /// Whether only a template can produce it.
    pub control: bool,
    /// The white space rules; for control tokens only.
    pub strips: Strips,
}

/// Whether a control token removes the white space around it, as added tokens of Hugging Face may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Strips {
    pub before: bool,
    pub after: bool,
}

impl Vocab {
    /// Builds the table. Refuses two tokens with the same id and two control tokens with the same text.
    pub fn new(path: &Path, tokens: impl IntoIterator<Item = (u32, Token)>, drops_first_space: bool) -> Result<Self> {
        let bad = |place: String, reason: String| Error::BadTokenizer { path: path.to_owned(), place, reason };
        let mut table: Vec<Option<Token>> = Vec::new();
        let mut control = BTreeMap::new();
        for (id, token) in tokens {
            let place = || format!("token {:?}", token.text);
            if id > MAX_ID {
                return Err(bad(place(), format!("its id {id} is beyond {MAX_ID}")));
            }
            let slot = id as usize;
            if table.len() <= slot {
                table.resize(slot + 1, None);
            }
            let Some(entry) = table.get_mut(slot) else { continue };
            if let Some(other) = entry {
                return Err(bad(place(), format!("its id {id} is also that of {:?}", other.text)));
            }
            if token.control && control.insert(token.text.clone(), id).is_some() {
                return Err(bad(place(), "it is a control token twice".to_owned()));
            }
            *entry = Some(token);
        }
        Ok(Self { tokens: table, control, drops_first_space })
    }

    pub fn get(&self, id: u32) -> Option<&Token> {
        self.tokens.get(id as usize)?.as_ref()
    }

    pub fn text(&self, id: u32) -> Option<&str> {
        self.get(id).map(|token| token.text.as_str())
    }

    /// The bytes of a token, where control tokens are not left out.
    pub fn bytes(&self, id: u32) -> &[u8] {
        match self.get(id) {
            Some(token) if token.control => token.text.as_bytes(),
            Some(token) => &token.bytes,
            None => &[],
        }
    }

    pub fn is_control(&self, id: u32) -> bool {
        self.get(id).is_some_and(|token| token.control)
    }

    pub fn control(&self, text: &str) -> Option<u32> {
        self.control.get(text).copied()
    }

    pub fn controls(&self) -> impl Iterator<Item = (&str, u32, Strips)> {
        let strips = |id: u32| self.get(id).map_or(Strips::default(), |token| token.strips);
        self.control.iter().map(move |(text, id)| (text.as_str(), *id, strips(*id)))
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn drops_first_space(&self) -> bool {
        self.drops_first_space
    }

    /// Adds every token to a hash, with its length before it, so that different tables never give the same bytes.
    pub fn digest(&self, hash: &mut Sha256) {
        hash.update([u8::from(self.drops_first_space)]);
        for token in &self.tokens {
            match token {
                None => hash.update([2]),
                Some(token) => {
                    hash.update([token.control, token.strips.before, token.strips.after].map(u8::from));
                    digest_bytes(hash, token.text.as_bytes());
                    digest_bytes(hash, &token.bytes);
                }
            }
        }
    }
}

/// Adds bytes to a hash, with their length before them.
pub(crate) fn digest_bytes(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// The byte of a token such as `<0x0A>`.
pub(crate) fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// The bytes of a token in which `▁` means a space.
pub(crate) fn metaspace_bytes(token: &str) -> Vec<u8> {
    token.replace('▁', " ").into_bytes()
}
