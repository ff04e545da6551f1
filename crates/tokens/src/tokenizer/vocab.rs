//! The table of tokens: what each id is, and the bytes that it stands for.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Larger ids than this are a damaged file: Mistral's largest vocabularies have 131,072 tokens.
const MAX_ID: u32 = (1 << 22) - 1;

/// All tokens by id.
#[derive(Debug)]
pub(crate) struct Vocab {
    tokens: Vec<Option<Token>>,
    control: BTreeMap<String, u32>,
    /// Whether the first space of a decoded text is the tokenizer's own.
    drops_first_space: bool,
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// As the file writes it.
    pub text: String,
    /// What it decodes to.
    pub bytes: Vec<u8>,
    /// Whether only a template may give it.
    pub control: bool,
    /// For control tokens.
    pub strips: Strips,
}

/// Whether a control token swallows the white space around it, as Hugging Face's added tokens may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Strips {
    pub before: bool,
    pub after: bool,
}

impl Vocab {
    /// Builds the table, refusing two tokens of one id and two control tokens of one text.
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

    /// Feeds every token to a hash, each with its length before it so that no two tables give the same bytes.
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

/// Feeds a string of bytes to a hash, after its length.
pub(crate) fn digest_bytes(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// The byte that a token such as `<0x0A>` stands for.
pub(crate) fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// The bytes of a token in which `▁` stands for a space.
pub(crate) fn metaspace_bytes(token: &str) -> Vec<u8> {
    token.replace('▁', " ").into_bytes()
}
