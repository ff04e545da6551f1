//! BPE by merges, as the `tokenizers` crate does it: byte-level (GPT-2, SmolLM2, Tekken) or with byte fallback (Llama).
//!
//! The crate is the reference implementation of `tokenizer.json`. It is given a vocabulary without control tokens, so that
//! no text can reach one, neither as an added token nor by merges; and normalisers and pre-tokenizers that are checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokenizers::models::bpe::{self, BPE, Merges};
use tokenizers::{AddedToken, DecoderWrapper, PostProcessorWrapper, TokenizerImpl};

use crate::{Error, Result};

use super::rules::{Normalizer, PreTokenizer, rules, take_failure};
use super::vocab::{Strips, Token, Vocab, digest_bytes, fallback_byte, metaspace_bytes};
use super::{Encoder, Position, Specials, Tokenizer, gpt2_bytes};

/// The crate's tokenizer, with what this one checks.
type Inner = TokenizerImpl<BPE, Normalizer, PreTokenizer, PostProcessorWrapper, DecoderWrapper>;

/// The encoder.
#[derive(Debug)]
pub(crate) struct Bpe {
    /// Marks the start of a text where the file says so.
    marking: Inner,
    /// The same without the mark, where there is one.
    bare: Option<Inner>,
    /// Whether the mark stands at the start only, and not after control tokens too.
    marks_start_only: bool,
    /// What it was made from, to be written again.
    pub parts: Parts,
}

/// What a file says.
#[derive(Debug)]
pub(crate) struct Parts {
    pub path: PathBuf,
    /// All tokens, control tokens included.
    pub tokens: Vec<(u32, String)>,
    pub merges: Merges,
    /// The ids that no text may reach.
    pub control: BTreeMap<u32, Strips>,
    /// Text tokens that are matched whole before anything else.
    pub added: Vec<AddedToken>,
    pub normalizer: Value,
    pub pre_tokenizer: Value,
    /// Whether the tokens are written in GPT-2's alphabet; otherwise bytes are `<0xXX>` and spaces `▁`.
    pub byte_level: bool,
    pub ignore_merges: bool,
    pub drops_first_space: bool,
    pub specials: Specials,
}

impl Parts {
    /// Builds the tokenizer.
    pub fn build(self) -> Result<Tokenizer> {
        self.check_coverage()?;
        let mut hash = Sha256::new();
        self.digest(&mut hash);
        let vocab = self.vocab()?;
        let specials = self.specials.clone();
        let encoder = Bpe {
            marking: self.tokenizer(&self.normalizer, &self.pre_tokenizer)?,
            bare: self.bare()?,
            marks_start_only: contains(&self.pre_tokenizer, "prepend_scheme", "first"),
            parts: self,
        };
        Ok(Tokenizer::assemble(Encoder::Bpe(Box::new(encoder)), vocab, specials, hash))
    }

    /// Refuses a vocabulary that leaves an ordinary byte without a token: it could not encode every text. Byte-level
    /// vocabularies may lack those that their training data lacked (SmolLM2's lacks most control characters).
    fn check_coverage(&self) -> Result<()> {
        let texts: BTreeSet<&str> = self.text_tokens().map(|(_, text)| text).collect();
        for byte in 0..=255_u8 {
            let token = if self.byte_level { gpt2_bytes::char_of(byte).to_string() } else { format!("<0x{byte:02X}>") };
            let needed = !self.byte_level || matches!(byte, b' '..=b'~' | b'\n');
            if needed && !texts.contains(token.as_str()) {
                let reason = format!("no token {token:?} for byte {byte}: some texts could not be encoded");
                return Err(self.bad("model.vocab", reason));
            }
        }
        Ok(())
    }

    fn vocab(&self) -> Result<Vocab> {
        let added: BTreeSet<&str> = self.added.iter().map(|token| token.content.as_str()).collect();
        let tokens = self.tokens.iter().map(|(id, text)| {
            let bytes = match self.byte_level {
                true => gpt2_bytes::bytes_of(text),
                false if added.contains(text.as_str()) => text.as_bytes().to_vec(),
                false => fallback_byte(text).map_or_else(|| metaspace_bytes(text), |byte| vec![byte]),
            };
            let strips = self.control.get(id).copied();
            (*id, Token { text: text.clone(), bytes, control: strips.is_some(), strips: strips.unwrap_or_default() })
        });
        Vocab::new(&self.path, tokens, self.drops_first_space)
    }

    fn tokenizer(&self, normalizer: &Value, pre_tokenizer: &Value) -> Result<Inner> {
        let (normalizer, pre_tokenizer) = rules(&self.path, normalizer, pre_tokenizer)?;
        let control: BTreeSet<&str> =
            self.tokens.iter().filter(|(id, _)| self.control.contains_key(id)).map(|(_, text)| text.as_str()).collect();
        let vocab: bpe::Vocab = self.text_tokens().map(|(id, text)| (text.to_owned(), id)).collect();
        let reachable = |(left, right): &&(String, String)| {
            !control.contains(left.as_str())
                && !control.contains(right.as_str())
                && !control.contains(format!("{left}{right}").as_str())
        };
        let merges: Merges = self.merges.iter().filter(reachable).cloned().collect();
        let model = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .byte_fallback(!self.byte_level)
            .ignore_merges(self.ignore_merges)
            .build()
            .map_err(|error| self.bad("model.merges", error.to_string()))?;
        let mut tokenizer = Inner::new(model);
        tokenizer.with_normalizer(normalizer).map_err(|error| self.bad("normalizer", error.to_string()))?;
        tokenizer.with_pre_tokenizer(pre_tokenizer);
        tokenizer
            .add_tokens(self.added.iter().cloned())
            .map_err(|error| self.bad("added_tokens", error.to_string()))?;
        Ok(tokenizer)
    }

    /// The tokenizer for text that follows text, if that is another.
    fn bare(&self) -> Result<Option<Inner>> {
        let (normalizer, pre_tokenizer) = (without_mark(&self.normalizer), without_mark(&self.pre_tokenizer));
        if normalizer == self.normalizer && pre_tokenizer == self.pre_tokenizer {
            return Ok(None);
        }
        self.tokenizer(&normalizer, &pre_tokenizer).map(Some)
    }

    fn text_tokens(&self) -> impl Iterator<Item = (u32, &str)> {
        self.tokens.iter().filter(|(id, _)| !self.control.contains_key(id)).map(|(id, text)| (*id, text.as_str()))
    }

    fn digest(&self, hash: &mut Sha256) {
        hash.update(format!("bpe {} {}", self.byte_level, self.ignore_merges));
        digest_bytes(hash, self.normalizer.to_string().as_bytes());
        digest_bytes(hash, self.pre_tokenizer.to_string().as_bytes());
        for (left, right) in &self.merges {
            digest_bytes(hash, left.as_bytes());
            digest_bytes(hash, right.as_bytes());
        }
        for AddedToken { content, single_word, lstrip, rstrip, normalized, .. } in &self.added {
            digest_bytes(hash, content.as_bytes());
            hash.update([*single_word, *lstrip, *rstrip, *normalized].map(u8::from));
        }
    }

    fn bad(&self, place: &str, reason: String) -> Error {
        bad(&self.path, place, reason)
    }
}

impl Bpe {
    /// The ids of a text; an error where a pattern of the file gives up on it.
    pub fn encode(&self, text: &str, position: Position) -> Result<Vec<u32>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let marks = match position {
            Position::Start => true,
            Position::AfterControl => !self.marks_start_only,
            Position::Within => false,
        };
        let tokenizer = self.bare.as_ref().filter(|_| !marks).unwrap_or(&self.marking);
        let failed = |source| Error::Encode { path: self.parts.path.clone(), bytes: text.len(), source };
        drop(take_failure());
        let encoding = tokenizer.encode_fast(text, false).map_err(failed)?;
        match take_failure() {
            Some(source) => Err(failed(source)),
            None => Ok(encoding.get_ids().to_vec()),
        }
    }
}

/// A normaliser or pre-tokenizer, without what marks the start of a text with a space.
fn without_mark(component: &Value) -> Value {
    let kind = component.get("type").and_then(Value::as_str);
    match (kind, component) {
        (Some("Prepend"), _) => Value::Null,
        (_, Value::Object(fields)) => {
            let mut fields = fields.clone();
            match kind {
                Some("ByteLevel") => {
                    fields.insert("add_prefix_space".to_owned(), Value::Bool(false));
                }
                Some("Metaspace") => {
                    fields.remove("add_prefix_space");
                    fields.insert("prepend_scheme".to_owned(), Value::from("never"));
                }
                _ => {}
            }
            for list in ["normalizers", "pretokenizers"] {
                if let Some(Value::Array(parts)) = fields.get_mut(list) {
                    *parts = parts.iter().map(without_mark).filter(|part| !part.is_null()).collect();
                }
            }
            Value::Object(fields)
        }
        _ => component.clone(),
    }
}

/// Whether some object inside has this field with this value.
pub(crate) fn contains(component: &Value, field: &str, value: &str) -> bool {
    match component {
        Value::Object(fields) => {
            fields.get(field).and_then(Value::as_str) == Some(value)
                || fields.values().any(|inner| contains(inner, field, value))
        }
        Value::Array(parts) => parts.iter().any(|part| contains(part, field, value)),
        _ => false,
    }
}

pub(crate) fn bad(path: &Path, place: &str, reason: String) -> Error {
    Error::BadTokenizer { path: path.to_owned(), place: place.to_owned(), reason }
}
