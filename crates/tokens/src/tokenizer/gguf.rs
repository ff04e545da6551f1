//! Reads the tokenizer from a GGUF file's metadata, and writes it there.
//!
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer>. The names of the pre-tokenizers are
//! those in `llama-vocab.cpp` of <https://github.com/ggml-org/llama.cpp>; here they are written as in the original
//! `tokenizer.json`.

mod fallback;
mod pre;
mod write;

use std::collections::BTreeMap;

use foehn_weights::Gguf;
use serde_json::Value;
use tokenizers::AddedToken;

use crate::{Error, Result};

use super::bpe::{self, bad};
use super::extras::Extras;
use super::sentencepiece::{self, Kind, Piece};
use super::vocab::Strips;
use super::{Specials, Tokenizer};
pub(super) use write::metadata;

/// Loads the tokenizer.
pub(crate) fn load(gguf: &Gguf) -> Result<Tokenizer> {
    let model = gguf.get_str("tokenizer.ggml.model")?;
    match model {
        Some("gpt2") => byte_level(gguf),
        Some("llama") => llama(gguf),
        Some(found) => Err(unsupported(gguf, "tokenizer.ggml.model", found, "gpt2, llama")),
        None => Err(Error::NoTokenizer { path: gguf.path().to_owned() }),
    }
}

/// `gpt2`: byte-level BPE.
fn byte_level(gguf: &Gguf) -> Result<Tokenizer> {
    let name = gguf.get_str("tokenizer.ggml.pre")?.unwrap_or("default");
    let (pre_tokenizer, is_tiktoken) = pre::pre_tokenizer(name).ok_or_else(|| {
        let supported = "gpt-2, smollm, starcoder, tekken, llama-bpe, llama3, qwen2";
        unsupported(gguf, "tokenizer.ggml.pre", name, supported)
    })?;
    let tokens = tokens(gguf)?;
    let specials = specials(gguf, is_tiktoken)?;
    let is_control = |kind: Kind| matches!(kind, Kind::Control | Kind::Unknown);
    let controls = (0..).zip(&tokens).filter(|(_, (_, kind))| is_control(*kind)).map(|(id, _)| id);
    let control: BTreeMap<u32, Strips> =
        controls.chain(specials.eos.iter().chain(&specials.bos).copied()).map(|id| (id, Strips::default())).collect();
    let added = (0..).zip(&tokens).filter(|(id, (_, kind))| *kind == Kind::UserDefined && !control.contains_key(id));
    let added = added.map(|(_, (text, _))| AddedToken::from(*text, false).normalized(false)).collect();
    let merges = gguf.get_strings("tokenizer.ggml.merges")?.ok_or_else(|| missing(gguf, "tokenizer.ggml.merges"))?;
    let split = |(index, merge): (usize, &str)| {
        // In files that are not completely written in GPT-2's alphabet, a token may begin with a space.
        let seam = merge.char_indices().skip(1).find(|(_, letter)| *letter == ' ').map(|(at, _)| at);
        let parts = seam.and_then(|seam| Some((merge.get(..seam)?, merge.get(seam + 1..)?)));
        let place = format!("tokenizer.ggml.merges[{index}]");
        let (left, right) = parts.ok_or_else(|| bad(gguf.path(), &place, format!("{merge:?} is not two tokens")))?;
        Ok((left.to_owned(), right.to_owned()))
    };
    bpe::BpeFile {
        path: gguf.path().to_owned(),
        merges: merges.into_iter().enumerate().map(split).collect::<Result<_>>()?,
        tokens: (0..)
            .zip(&tokens)
            .filter(|(id, (text, kind))| !is_filler(*id, text, *kind))
            .map(|(id, (text, _))| (id, (*text).to_owned()))
            .collect(),
        control,
        added,
        normalizer: Value::Null,
        pre_tokenizer,
        byte_level: true,
        ignore_merges: is_tiktoken,
        drops_first_space: false,
        specials,
    }
    .build()
}

/// `llama`: SentencePiece BPE.
fn llama(gguf: &Gguf) -> Result<Tokenizer> {
    for key in ["tokenizer.ggml.remove_extra_whitespaces", "tokenizer.ggml.treat_whitespace_as_suffix"] {
        if gguf.get_bool(key)? == Some(true) {
            return Err(unsupported(gguf, key, "true", "false"));
        }
    }
    let mut tokens = tokens(gguf)?;
    let mut scores = gguf.get_f32s("tokenizer.ggml.scores")?.ok_or_else(|| missing(gguf, "tokenizer.ggml.scores"))?;
    if scores.len() != tokens.len() {
        let reason = format!("{} scores for {} tokens", scores.len(), tokens.len());
        return Err(bad(gguf.path(), "tokenizer.ggml.scores", reason));
    }
    let used = (0..).zip(&tokens).filter(|(id, (text, kind))| !is_filler(*id, text, *kind)).last();
    let used = used.map_or(0, |(id, _)| id as usize + 1);
    tokens.truncate(used);
    scores.truncate(used);
    let piece = |((text, kind), score): ((&str, Kind), f32)| Piece { text: text.to_owned(), score, kind };
    sentencepiece::SentencePieceFile {
        path: gguf.path().to_owned(),
        pieces: tokens.into_iter().zip(scores).map(piece).collect(),
        add_dummy_prefix: gguf.get_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true),
        specials: specials(gguf, true)?,
    }
    .build()
}

/// The tokens and their kinds.
fn tokens(gguf: &Gguf) -> Result<Vec<(&str, Kind)>> {
    let tokens = gguf.get_strings("tokenizer.ggml.tokens")?.ok_or_else(|| missing(gguf, "tokenizer.ggml.tokens"))?;
    let key = "tokenizer.ggml.token_type";
    let kinds = gguf.get_i32s(key)?.ok_or_else(|| missing(gguf, key))?;
    if kinds.len() != tokens.len() {
        return Err(bad(gguf.path(), key, format!("{} types for {} tokens", kinds.len(), tokens.len())));
    }
    let known = |(text, number): (_, i32)| {
        let kind = u64::try_from(number).ok().and_then(Kind::from_number);
        Ok((text, kind.ok_or_else(|| bad(gguf.path(), key, format!("{number} is no token type")))?))
    };
    tokens.into_iter().zip(kinds).map(known).collect()
}

/// Whether an entry only stands for a row of the embedding that has no token.
fn is_filler(id: u32, text: &str, kind: Kind) -> bool {
    kind == Kind::Unused && text == filler(id)
}

/// The text of such an entry.
fn filler(id: u32) -> String {
    format!("[PAD{id}]")
}

fn specials(gguf: &Gguf, adds_bos_by_default: bool) -> Result<Specials> {
    let count = gguf.get_strings("tokenizer.ggml.tokens")?.map_or(0, |tokens| tokens.len());
    let id = |key: &str| match gguf.get_u32(key)? {
        Some(id) if id as usize >= count => Err(bad(gguf.path(), key, format!("there is no token {id}"))),
        id => Ok(id),
    };
    let eos = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"].map(id);
    let eos = eos.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let add_bos = gguf.get_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(adds_bos_by_default);
    Ok(Specials { bos: id("tokenizer.ggml.bos_token_id")?, eos, add_bos, extras: Extras::of_gguf(gguf)? })
}

fn unsupported(gguf: &Gguf, place: &str, found: &str, supported: &'static str) -> Error {
    let (place, found) = (place.to_owned(), found.to_owned());
    Error::Unsupported { path: gguf.path().to_owned(), place, found, supported }
}

fn missing(gguf: &Gguf, key: &str) -> Error {
    bad(gguf.path(), key, "the key is missing".to_owned())
}
