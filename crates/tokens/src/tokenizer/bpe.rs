//! BPE by merges, with the `tokenizers` crate: byte-level (GPT-2, SmolLM2, Tekken) or with byte fallback (Llama).
//!
//! That crate is the reference implementation of `tokenizer.json`. Here it gets a vocabulary without control tokens, so
//! that no text can produce one, neither as an added token nor by merges. It also gets normalisers and pre-tokenizers
//! that have been checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokenizers::models::bpe::{self, BPE, Merges};
use tokenizers::{AddedToken, DecoderWrapper, Model as _, PostProcessorWrapper, TokenizerImpl};

use crate::{Error, Result};

use super::rules::{Normalizer, PreTokenizer, rules, take_failure};
use super::vocab::{Strips, Token, Vocab, digest_bytes, fallback_byte, metaspace_bytes};
use super::{Encoder, Position, Specials, Tokenizer, gpt2_bytes};

/// The crate's tokenizer, with the normaliser and pre-tokenizer types of this crate.
type Inner = TokenizerImpl<BPE, Normalizer, PreTokenizer, PostProcessorWrapper, DecoderWrapper>;

/// Where a tokenizer adds a space that the text does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marking {
    Never,
    /// At the start of a sequence. For SentencePiece's own models, this is how transformers reads them.
    StartOnly,
    /// There, and after every control token.
    Always,
}

/// The encoder.
#[derive(Debug)]
pub(crate) struct Bpe {
    /// Adds the mark at the start of a text, if the file asks for it.
    marking: Inner,
    /// The same without the mark, if there is a mark.
    bare: Option<Inner>,
    /// Whether the mark is added only at the start, and not after control tokens.
    marks_start_only: bool,
    /// The contents of the file, for writing it again.
    pub parts: BpeFile,
}

/// The contents of a file.
#[derive(Debug)]
pub(crate) struct BpeFile {
    pub path: PathBuf,
    /// All tokens, including control tokens.
    pub tokens: Vec<(u32, String)>,
    pub merges: Merges,
    /// The ids that no text can produce.
    pub control: BTreeMap<u32, Strips>,
    /// Text tokens that are matched as a whole before anything else.
    pub added: Vec<AddedToken>,
    pub normalizer: Value,
    pub pre_tokenizer: Value,
    /// Whether the tokens are written in GPT-2's alphabet. If not, bytes are written as `<0xXX>` and spaces as `▁`.
    pub byte_level: bool,
    pub ignore_merges: bool,
    pub drops_first_space: bool,
    pub specials: Specials,
}

impl BpeFile {
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

    /// Refuses a vocabulary without a token for an ordinary byte, because it could not encode every text. A byte-level
    /// vocabulary may miss bytes that were not in its training data (SmolLM2's misses most control characters).
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
        let mut tokenizer = Inner::new(self.model(self.ignore_merges)?);
        tokenizer.with_normalizer(normalizer).map_err(|error| self.bad("normalizer", error.to_string()))?;
        tokenizer.with_pre_tokenizer(pre_tokenizer);
        tokenizer
            .add_tokens(self.added.iter().cloned())
            .map_err(|error| self.bad("added_tokens", error.to_string()))?;
        Ok(tokenizer)
    }

    /// The vocabulary of text tokens, and the merges among them.
    fn model(&self, ignore_merges: bool) -> Result<BPE> {
        let vocab: bpe::Vocab = self.text_tokens().map(|(id, text)| (text.to_owned(), id)).collect();
        BPE::builder()
            .vocab_and_merges(vocab, self.reachable_merges().cloned().collect::<Merges>())
            .byte_fallback(!self.byte_level)
            .ignore_merges(ignore_merges)
            .build()
            .map_err(|error| self.bad("model.merges", error.to_string()))
    }

    /// The merges that no control token takes part in.
    pub fn reachable_merges(&self) -> impl Iterator<Item = &(String, String)> {
        let control: BTreeSet<&str> =
            self.tokens.iter().filter(|(id, _)| self.control.contains_key(id)).map(|(_, text)| text.as_str()).collect();
        self.merges.iter().filter(move |(left, right)| {
            !control.contains(left.as_str())
                && !control.contains(right.as_str())
                && !control.contains(format!("{left}{right}").as_str())
        })
    }

    /// The tokenizer for text after other text, if it is different.
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
    pub fn marking(&self) -> Marking {
        match (&self.bare, self.marks_start_only) {
            (None, _) => Marking::Never,
            (Some(_), true) => Marking::StartOnly,
            (Some(_), false) => Marking::Always,
        }
    }

    /// The first token of whole characters that merges alone do not give. Without one, it makes no difference whether
    /// merges are skipped for whole words.
    pub fn first_unreached(&self) -> Result<Option<&str>> {
        let model = self.parts.model(false)?;
        let added: BTreeSet<&str> = self.parts.added.iter().map(|token| token.content.as_str()).collect();
        let reached = |id: u32, text: &str| {
            let ids = model.tokenize(text).map(|tokens| tokens.iter().map(|token| token.id).collect::<Vec<_>>());
            ids.is_ok_and(|ids| ids == [id])
        };
        let is_text = |text: &str| std::str::from_utf8(&gpt2_bytes::bytes_of(text)).is_ok() && !added.contains(text);
        Ok(self.parts.text_tokens().find(|(id, text)| is_text(text) && !reached(*id, text)).map(|(_, text)| text))
    }

    /// The ids of a text. Returns an error if a pattern of the file takes too many steps.
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

/// A normaliser or pre-tokenizer, without the part that adds a space at the start of a text.
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

/// Whether this object, or an object inside it, has this field with this value.
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
