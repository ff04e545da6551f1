//! Text to token ids and back.
//!
//! Three kinds of file describe the tokenizers of the Mistral family: Hugging Face's `tokenizer.json`, SentencePiece's
//! `tokenizer.model`, and the metadata of a GGUF file. Whichever it is, the tokens are split in two: *text* tokens, which
//! [`Tokenizer::encode_text`] gives, and *control* tokens, which it never gives, whatever the text says.

mod bpe;
mod files;
mod gguf;
mod gpt2_bytes;
mod json;
mod protobuf;
mod rules;
mod save;
mod sentencepiece;
mod stream;
mod vocab;

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{ChatTemplate, Error, Result};

use bpe::Bpe;
use sentencepiece::SentencePiece;
pub use stream::TextStream;
pub(crate) use vocab::Strips;
use vocab::Vocab;

pub(crate) use files::{Model, locate, read_json, read_to_string, sentencepiece_version};

/// A tokenizer: a vocabulary of text and control tokens, and the rule that cuts text into the former.
///
/// Decoding gives an encoded text back, but for what its file changes: a normaliser; `▁`, which SentencePiece can't tell from
/// a space; and bytes that a byte-level vocabulary lacks, which are left out as in transformers (of ASCII, SmolLM2's lacks
/// six control characters).
#[derive(Debug)]
pub struct Tokenizer {
    encoder: Encoder,
    vocab: Vocab,
    bos: Option<u32>,
    /// What templates call `eos_token`.
    eos_token: Option<u32>,
    eos: Vec<u32>,
    add_bos: bool,
    fingerprint: String,
}

/// Where a text stands: SentencePiece-like tokenizers mark the start of a text with a space of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// Nothing precedes it.
    Start,
    /// A control token precedes it.
    AfterControl,
    /// Text precedes it.
    Within,
}

#[derive(Debug)]
enum Encoder {
    Bpe(Box<Bpe>),
    SentencePiece(SentencePiece),
}

/// What a file says of its bos and stop tokens.
#[derive(Clone, Debug, Default)]
struct Specials {
    bos: Option<u32>,
    /// The one that templates call `eos_token` first.
    eos: Vec<u32>,
    add_bos: bool,
}

impl Tokenizer {
    /// Opens the tokenizer of a model: its folder, its GGUF file, or the tokenizer's own `tokenizer.json` or
    /// `tokenizer.model[.vN]`. In a folder, `tokenizer.json` goes before `tokenizer.model`.
    ///
    /// The bos and stop tokens of a `tokenizer.json` are those that `tokenizer_config.json` and `generation_config.json`
    /// beside it name (`config.json` where there is no generation config).
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] if there is none, [`Error::Unsupported`] if it isn't byte-complete BPE, and otherwise
    /// whatever is wrong with the file, with its path and the place.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        match locate(path.as_ref())? {
            Model::Json(file) => json::load(&file),
            Model::SentencePiece(file) => protobuf::load(&file),
            Model::Gguf(file) => {
                let weights = foehn_weights::Weights::open(&file)?;
                Self::from_gguf(weights.gguf().ok_or(Error::NoTokenizer { path: file })?)
            }
        }
    }

    /// The tokenizer in the metadata of a GGUF file (`tokenizer.ggml.*`), of model `gpt2` (byte-level BPE) or `llama`
    /// (SentencePiece BPE).
    ///
    /// # Errors
    /// [`Error::Gguf`] for a missing or mistyped key, [`Error::Unsupported`] for another model or pre-tokenizer,
    /// [`Error::BadTokenizer`] for keys that contradict each other.
    pub fn from_gguf(gguf: &foehn_weights::Gguf) -> Result<Self> {
        gguf::load(gguf)
    }

    /// Writes the tokenizer and its chat template into a folder, made where it is missing, so that the folder opens as this
    /// pair again, by fingerprint, here and in transformers. Each file is written as a whole, over one of its name.
    ///
    /// BPE by merges becomes `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`, whichever file it came
    /// from. A SentencePiece model is its `tokenizer.model`, copied, with the version in its name where the template is
    /// Mistral's own. `generation_config.json` names the bos and stop tokens.
    ///
    /// # Errors
    /// [`Error::Unsaveable`] for what those files can't say, before anything is written; [`Error::Read`] and
    /// [`Error::Write`] where the disk refuses; [`Error::SavedDiffers`] if the folder holds files that go before the written
    /// ones; [`Error::WrongTokenizer`] for the template of another tokenizer.
    pub fn save(&self, template: &ChatTemplate, folder: impl AsRef<Path>) -> Result<()> {
        template.check_tokenizer(self)?;
        save::save(self, template, folder.as_ref())
    }

    /// The ids of a text that stands at the start, or right after a control token as in Mistral's own templates.
    ///
    /// It never gives a control token: `</s>`, `[/INST]` or `<|im_end|>` in the text are plain characters. No bos is added.
    ///
    /// # Errors
    /// [`Error::Encode`] where a pattern of the tokenizer's file takes too many steps on the text.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_at(text, Position::Start)
    }

    /// How many tokens a text has. One that cannot be cut counts as its bytes, which are no fewer.
    pub fn count(&self, text: &str) -> usize {
        self.encode_text(text).map_or(text.len(), |ids| ids.len())
    }

    /// The id of a control token, by its exact text (`<s>`, `[INST]`, `<|im_end|>`).
    pub fn control(&self, text: &str) -> Option<u32> {
        self.vocab.control(text)
    }

    /// Whether an id is a control token.
    pub fn is_control(&self, id: u32) -> bool {
        self.vocab.is_control(id)
    }

    /// The text of a sequence. Bytes that are no UTF-8, and ids outside the vocabulary, become U+FFFD.
    ///
    /// With `skip_control`, control tokens leave no trace; otherwise their own text stands in their place. The space that
    /// a SentencePiece tokenizer puts before a text is taken off again.
    pub fn decode(&self, ids: &[u32], skip_control: bool) -> String {
        let mut stream = TextStream::new(skip_control);
        let mut text: String = ids.iter().map(|id| stream.push(self, *id)).collect();
        text.push_str(&stream.finish());
        text
    }

    /// A token as its file writes it (`Ġthe`, `▁the`, `<0x0A>`), or `None` if there is no such id.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.vocab.text(id)
    }

    /// One more than the largest id. A model's embedding may have more rows than this, never fewer.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The token that begins a sequence, if there is one.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos
    }

    /// Whether a sequence begins with [`Self::bos_id`] even where a template doesn't write it.
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// The tokens that generation stops on, in ascending order. All are control tokens.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos
    }

    /// SHA-256, in hexadecimal, of all that determines ids: tokens, merges or scores, rules, bos and stop tokens.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// As [`Self::encode_text`], for a text that may follow something.
    pub(crate) fn encode_at(&self, text: &str, position: Position) -> Result<Vec<u32>> {
        match &self.encoder {
            Encoder::Bpe(bpe) => bpe.encode(text, position),
            Encoder::SentencePiece(model) => Ok(model.encode(text, position)),
        }
    }

    /// As [`Self::encode_at`], for text that a template in Jinja's language has written: a space of its own after a control
    /// token is the one mark of the turn, and SentencePiece adds no second, as in transformers and mistral-common.
    pub(crate) fn encode_rendered(&self, text: &str, position: Position) -> Result<Vec<u32>> {
        let marked = matches!(self.encoder, Encoder::SentencePiece(_)) && text.starts_with(' ');
        let position = if marked && position == Position::AfterControl { Position::Within } else { position };
        self.encode_at(text, position)
    }

    /// The texts, ids and white space rules of all control tokens, in byte order of the texts.
    pub(crate) fn controls(&self) -> impl Iterator<Item = (&str, u32, Strips)> {
        self.vocab.controls()
    }

    /// The stop token that templates call `eos_token`.
    pub(crate) fn eos_token(&self) -> Option<u32> {
        self.eos_token
    }

    fn assemble(encoder: Encoder, vocab: Vocab, specials: Specials, mut hash: Sha256) -> Self {
        let Specials { bos, mut eos, add_bos } = specials;
        let eos_token = eos.first().copied();
        eos.sort_unstable();
        eos.dedup();
        vocab.digest(&mut hash);
        hash.update(format!("{bos:?} {eos_token:?} {eos:?} {add_bos}"));
        let fingerprint = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { encoder, vocab, bos, eos_token, eos, add_bos: add_bos && bos.is_some(), fingerprint }
    }
}
