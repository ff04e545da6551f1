//! Converts text to token ids and back.
//!
//! The tokenizers of the Mistral family are described by four kinds of files: Hugging Face's `tokenizer.json`,
//! SentencePiece's `tokenizer.model`, Mistral's `tekken.json`, and the metadata of a GGUF file. In each case there are two kinds of tokens.
//! [`Tokenizer::encode_text`] returns only *text* tokens. It never returns *control* tokens, whatever the text is.

mod bpe;
mod extras;
mod files;
mod gguf;
mod gpt2_bytes;
mod json;
mod merge;
mod protobuf;
mod rules;
mod save;
mod sentencepiece;
mod stream;
mod tekken;
mod vocab;

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{ChatTemplate, Error, Result};

use bpe::Bpe;
pub(crate) use bpe::Marking;
use extras::Extras;
use sentencepiece::SentencePiece;
pub use stream::TextStream;
use tekken::Tekken;
pub(crate) use vocab::Strips;
use vocab::Vocab;

pub(crate) use files::{Model, locate, read_json, read_to_string, sentencepiece_version, tekken_version};

/// A tokenizer: a vocabulary of text and control tokens, and the rules that split text into text tokens.
///
/// Decoding returns the encoded text, with these exceptions: changes of a normaliser; `▁`, which SentencePiece cannot
/// distinguish from a space; and bytes that are missing in a byte-level vocabulary, which are left out as in
/// transformers (of ASCII, SmolLM2's vocabulary has no token for six control characters).
#[derive(Debug)]
pub struct Tokenizer {
    encoder: Encoder,
    vocab: Vocab,
    bos: Option<u32>,
    /// The token that templates call `eos_token`.
    eos_token: Option<u32>,
    eos: Vec<u32>,
    add_bos: bool,
    extras: Extras,
    /// The digest of tokens, merges or scores, and rules.
    rules: Sha256,
    fingerprint: String,
}

/// The position of a text. Tokenizers like SentencePiece add a space at the start of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// At the start of the sequence.
    Start,
    /// After a control token.
    AfterControl,
    /// After other text.
    Within,
}

#[derive(Debug)]
enum Encoder {
    Bpe(Box<Bpe>),
    SentencePiece(Box<SentencePiece>),
    Tekken(Box<Tekken>),
}

/// The bos and stop tokens in a file.
#[derive(Clone, Debug, Default)]
struct Specials {
    bos: Option<u32>,
    /// The first one is the token that templates call `eos_token`.
    eos: Vec<u32>,
    add_bos: bool,
    extras: Extras,
}

impl Tokenizer {
    /// Opens the tokenizer of a model: its folder, its GGUF file, or the tokenizer's own `tokenizer.json`,
    /// `tekken.json` or `tokenizer.model[.vN]`. In a folder, the first of these is preferred.
    ///
    /// The bos and stop tokens of a `tokenizer.json` are those in `tokenizer_config.json` and `generation_config.json`
    /// beside it (or in `config.json`, if there is no generation config).
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] if there is none, [`Error::Unsupported`] if it is not BPE with a token for every byte,
    /// and otherwise the error of the file with its path and place.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        match locate(path.as_ref())? {
            Model::Json(file) => json::load(&file),
            Model::SentencePiece(file) => protobuf::load(&file),
            Model::Tekken(file) => tekken::load(&file),
            Model::Gguf(file) => {
                let weights = foehn_weights::Weights::open(&file)?;
                Self::from_gguf(weights.gguf().ok_or(Error::NoTokenizer { path: file })?)
            }
        }
    }

    /// The tokenizer in the metadata of a GGUF file (`tokenizer.ggml.*`), of the models `gpt2` (byte-level BPE) or
    /// `llama` (SentencePiece BPE).
    ///
    /// # Errors
    /// [`Error::Gguf`] for a missing or mistyped key, [`Error::Unsupported`] for another model or pre-tokenizer,
    /// [`Error::BadTokenizer`] for keys that contradict each other.
    pub fn from_gguf(gguf: &foehn_weights::Gguf) -> Result<Self> {
        gguf::load(gguf)
    }

    /// Writes the tokenizer and its chat template into a folder, which is created if it does not exist. Opened here or
    /// in transformers, the folder gives the same pair again (here, with the same fingerprints). Each file is replaced
    /// atomically.
    ///
    /// The tokenizer's own file is copied, and so are `special_tokens_map.json` and `added_tokens.json` beside it. Every field of
    /// its `tokenizer_config.json` and `generation_config.json` is kept; the latter gets the stop tokens that it lacks. What
    /// came from a GGUF file is written as `tokenizer.json` (byte-level BPE) or `tokenizer.model` (SentencePiece), with the bos,
    /// stop and padding tokens and the context length in `tokenizer_config.json`.
    ///
    /// The template is `chat_template.jinja`; another one in `tokenizer_config.json` is taken out. For one of Mistral's own
    /// templates it is [`ChatTemplate::jinja_source`], and a SentencePiece model is there a second time, with the template's
    /// version in the name, for mistral-common.
    ///
    /// # Errors
    /// Before anything is written, [`Error::Unsaveable`] for content that these files cannot express. [`Error::Read`]
    /// and [`Error::Write`] if reading or writing fails. [`Error::SavedDiffers`] if the folder has other files that are
    /// preferred to the written ones. [`Error::WrongTokenizer`] for the template of another tokenizer.
    pub fn save(&self, template: &ChatTemplate, folder: impl AsRef<Path>) -> Result<()> {
        template.check_tokenizer(self)?;
        save::save(self, template, folder.as_ref())
    }

    /// The keys `tokenizer.*` of a GGUF file, as llama.cpp's converter writes them, for a model whose embedding has
    /// `vocab_size` rows. A chat template without Jinja source is written as [`ChatTemplate::jinja_source`].
    ///
    /// `tokenizer.ggml.tokens` gets as many entries as the embedding has rows. Missing ones are `[PADn]`, of the type
    /// `UNUSED`, which [`Self::from_gguf`] leaves out again. Control tokens behind the last row have no embedding and are
    /// left out.
    ///
    /// Read by [`Self::from_gguf`], the keys give the same ids, and the same fingerprint where the source was a GGUF file, a
    /// `tokenizer.model` or a byte-level `tokenizer.json` without normalizer. A `tekken.json` and a `tokenizer.json` with byte
    /// fallback become another kind of tokenizer, with another fingerprint. The ids differ in these cases, as in every
    /// GGUF of such a tokenizer:
    ///
    /// - Qwen's tokenizers bring a text into the normal form NFC; llama.cpp doesn't.
    /// - A `Metaspace` adds no space before a text that begins with one; llama.cpp does.
    /// - Where a template needs no space from the tokenizer after control tokens, `add_space_prefix` is false, and a text
    ///   without template does not begin with one either.
    ///
    /// # Errors
    /// [`Error::WrongTokenizer`] for the template of another tokenizer. [`Error::Unsaveable`] for what the keys can't
    /// express: another pattern or normalizer, white space that control tokens strip, two tokens with one text, a text
    /// token without a row, and more stop tokens than there are keys.
    pub fn gguf_metadata(
        &self,
        template: &ChatTemplate,
        vocab_size: usize,
    ) -> Result<Vec<(String, foehn_weights::GgufValue)>> {
        template.check_tokenizer(self)?;
        gguf::metadata(self, template, vocab_size)
    }

    /// The ids of a text at the start of a sequence, or right after a control token as in Mistral's own templates.
    ///
    /// The result has no control tokens: `</s>`, `[/INST]` or `<|im_end|>` in the text are plain characters. No bos is
    /// added.
    ///
    /// # Errors
    /// [`Error::Encode`] if a pattern of the tokenizer's file takes too many steps on the text.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_at(text, Position::Start)
    }

    /// The number of tokens of a text. For a text that cannot be encoded, the number of its bytes, which is an upper
    /// bound.
    pub fn count(&self, text: &str) -> usize {
        self.encode_text(text).map_or(text.len(), |ids| ids.len())
    }

    /// The id of a control token, given its exact text (`<s>`, `[INST]`, `<|im_end|>`).
    pub fn control(&self, text: &str) -> Option<u32> {
        self.vocab.control(text)
    }

    /// Whether an id is a control token.
    pub fn is_control(&self, id: u32) -> bool {
        self.vocab.is_control(id)
    }

    /// The text of a sequence. Bytes that are not UTF-8, and ids outside the vocabulary, become U+FFFD.
    ///
    /// With `skip_control`, control tokens are left out. Otherwise their own text is inserted. The space that a
    /// SentencePiece tokenizer adds before a text is removed.
    pub fn decode(&self, ids: &[u32], skip_control: bool) -> String {
        let mut stream = TextStream::new(skip_control);
        let mut text: String = ids.iter().map(|id| stream.push(self, *id)).collect();
        text.push_str(&stream.finish());
        text
    }

    /// A token as it is in its file (`Ġthe`, `▁the`, `<0x0A>`); `None` if there is no such id.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.vocab.text(id)
    }

    /// The bytes that a token is decoded to, which may be a part of a character; those of its text if it is a control
    /// token. Empty if there is no such id.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.vocab.bytes(id)
    }

    /// The largest id plus one. A model's embedding may have more rows, but not fewer.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The token that begins a sequence, if there is one.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos
    }

    /// Whether a sequence begins with [`Self::bos_id`] even if the template does not write it.
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// The token that fills up batches, if the model's files name one.
    pub fn padding_id(&self) -> Option<u32> {
        self.extras.padding
    }

    /// The texts of [`Self::eos_ids`], in their order. A Modelfile of Ollama has them as `PARAMETER stop`.
    pub fn stop_texts(&self) -> Vec<&str> {
        self.eos.iter().filter_map(|id| self.token_text(*id)).collect()
    }

    /// The tokens that stop generation, in ascending order. All are control tokens.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos
    }

    /// The SHA-256, in hexadecimal, of everything that determines ids: tokens, merges or scores, rules, bos and stop
    /// tokens.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// As [`Self::encode_text`], for a text at the given position.
    pub(crate) fn encode_at(&self, text: &str, position: Position) -> Result<Vec<u32>> {
        match &self.encoder {
            Encoder::Bpe(bpe) => bpe.encode(text, position),
            Encoder::SentencePiece(model) => Ok(model.encode(text, position)),
            Encoder::Tekken(tekken) => tekken.encode(text),
        }
    }

    /// As [`Self::encode_at`], for text that a Jinja template has rendered. If it begins with a space after a control
    /// token, SentencePiece adds no second space, as in transformers and mistral-common.
    pub(crate) fn encode_rendered(&self, text: &str, position: Position) -> Result<Vec<u32>> {
        let marked = matches!(self.encoder, Encoder::SentencePiece(_)) && text.starts_with(' ');
        let position = if marked && position == Position::AfterControl { Position::Within } else { position };
        self.encode_at(text, position)
    }

    /// Where the tokenizer puts a space that no text has.
    pub(crate) fn marking(&self) -> Marking {
        match &self.encoder {
            Encoder::Bpe(bpe) => bpe.marking(),
            Encoder::SentencePiece(model) if model.file.add_dummy_prefix => Marking::StartOnly,
            Encoder::SentencePiece(_) | Encoder::Tekken(_) => Marking::Never,
        }
    }

    /// The file that the tokenizer was read from.
    pub(crate) fn path(&self) -> &Path {
        match &self.encoder {
            Encoder::Bpe(bpe) => &bpe.parts.path,
            Encoder::SentencePiece(model) => &model.file.path,
            Encoder::Tekken(tekken) => &tekken.path,
        }
    }

    /// The texts, ids and white space rules of all control tokens, sorted by the bytes of the texts.
    pub(crate) fn controls(&self) -> impl Iterator<Item = (&str, u32, Strips)> {
        self.vocab.controls()
    }

    /// The stop token that templates call `eos_token`.
    pub(crate) fn eos_token(&self) -> Option<u32> {
        self.eos_token
    }

    fn assemble(encoder: Encoder, vocab: Vocab, specials: Specials, mut hash: Sha256) -> Self {
        let Specials { bos, eos, add_bos, extras } = specials;
        vocab.digest(&mut hash);
        let (eos_token, fingerprint) = (eos.first().copied(), String::new());
        let mut made = Self { encoder, vocab, bos, eos_token, eos, add_bos, extras, rules: hash, fingerprint };
        made.sign();
        made.add_bos &= bos.is_some();
        made
    }

    /// Makes a control token one of those that stop generation.
    pub(crate) fn also_stops_at(&mut self, id: u32) {
        if !self.eos.contains(&id) {
            self.eos.push(id);
            self.eos_token = self.eos_token.or(Some(id));
            self.sign();
        }
    }

    /// Puts the stop tokens in order and computes the fingerprint.
    fn sign(&mut self) {
        self.eos.sort_unstable();
        self.eos.dedup();
        let Self { bos, eos_token, eos, add_bos, .. } = &*self;
        let mut hash = self.rules.clone();
        hash.update(format!("{bos:?} {eos_token:?} {eos:?} {add_bos}"));
        self.fingerprint = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    }
}
