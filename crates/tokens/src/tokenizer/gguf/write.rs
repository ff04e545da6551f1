//! Writes the keys `tokenizer.*` of a GGUF file.
//!
//! Source: `conversion/base.py` and `gguf-py/gguf/vocab.py` of <https://github.com/ggml-org/llama.cpp>, and what
//! `llama-vocab.cpp` reads.

use std::collections::{BTreeSet, HashMap};

use foehn_weights::GgufValue;

use super::super::bpe::{Bpe, BpeFile};
use super::super::sentencepiece::{Kind, Piece, SentencePiece, SentencePieceFile};
use super::super::vocab::Token;
use super::super::{Encoder, Position, Specials, Tokenizer};
use super::{fallback, filler, pre};
use crate::{ChatTemplate, Error, Result};

/// The end tokens that llama.cpp knows by their texts, besides those that keys name.
const KNOWN_ENDS: [&str; 10] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "<|end_of_text|>",
    "<eos>",
];

/// The score of an entry without a token, as in llama.cpp's converter.
const FILLER_SCORE: f32 = -1000.0;

/// The longest run of spaces that is compared.
const LONGEST_RUN: usize = 100;

/// The tokens in the form of a GGUF.
struct Form {
    model: &'static str,
    pre: &'static str,
    entries: Vec<Entry>,
    /// The merges of the model `gpt2`; the model `llama` has scores.
    merges: Option<Vec<String>>,
    /// Whether the model `llama` adds a space after control tokens and at the start, rather than the template.
    add_space_prefix: Option<bool>,
}

struct Entry {
    text: String,
    kind: Kind,
    score: f32,
}

/// See [`Tokenizer::gguf_metadata`].
pub(in crate::tokenizer) fn metadata(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    rows: usize,
) -> Result<Vec<(String, GgufValue)>> {
    check_strips(tokenizer, template)?;
    let mut form = match &tokenizer.encoder {
        Encoder::Bpe(bpe) if bpe.parts.byte_level => byte_level(tokenizer, bpe)?,
        Encoder::Bpe(bpe) => with_fallback(tokenizer, template, &bpe.parts)?,
        Encoder::SentencePiece(model) => sentencepiece(tokenizer, template, model)?,
        Encoder::Tekken(_) => tekken(tokenizer),
    };
    fit(tokenizer, &mut form.entries, rows)?;
    let source = template
        .gguf_source(tokenizer, form.add_space_prefix == Some(true))
        .ok_or_else(|| refused(tokenizer, format!("the template {} has no Jinja source for it", template.source())))?;
    let mut keys = form.keys();
    let mut add = |key: &str, value: GgufValue| keys.push((format!("tokenizer.{key}"), value));
    for (key, id) in ids(tokenizer)? {
        if let Some(id) = id.filter(|id| (*id as usize) < rows) {
            add(&format!("ggml.{key}_token_id"), id.into());
        }
    }
    add("ggml.add_bos_token", tokenizer.add_bos.into());
    add("ggml.add_eos_token", false.into());
    add("chat_template", source.as_str().into());
    for (key, value) in &tokenizer.extras.gguf {
        // A name of the same pre-tokenizer stays as it came.
        keys.retain(|(other, _)| other != key);
        keys.push((key.clone(), value.clone()));
    }
    Ok(keys)
}

impl Form {
    fn keys(&self) -> Vec<(String, GgufValue)> {
        let texts: Vec<&str> = self.entries.iter().map(|entry| entry.text.as_str()).collect();
        let kinds: Vec<i32> = self.entries.iter().map(|entry| entry.kind as i32).collect();
        let mut keys = vec![
            ("tokenizer.ggml.model".to_owned(), self.model.into()),
            ("tokenizer.ggml.pre".to_owned(), self.pre.into()),
            ("tokenizer.ggml.tokens".to_owned(), texts.as_slice().into()),
            ("tokenizer.ggml.token_type".to_owned(), kinds.as_slice().into()),
        ];
        match &self.merges {
            Some(merges) => {
                let merges: Vec<&str> = merges.iter().map(String::as_str).collect();
                keys.push(("tokenizer.ggml.merges".to_owned(), merges.as_slice().into()));
            }
            None => {
                let scores: Vec<f32> = self.entries.iter().map(|entry| entry.score).collect();
                keys.push(("tokenizer.ggml.scores".to_owned(), scores.as_slice().into()));
            }
        }
        let prefix = self.add_space_prefix.map(|adds| ("tokenizer.ggml.add_space_prefix".to_owned(), adds.into()));
        keys.extend(prefix);
        keys
    }
}

/// A byte-level `tokenizer.json`, or the same from a GGUF.
fn byte_level(tokenizer: &Tokenizer, bpe: &Bpe) -> Result<Form> {
    let parts = &bpe.parts;
    let (pre, skips_merges) = pre::name_of(&parts.pre_tokenizer).ok_or_else(|| {
        refused(tokenizer, format!("llama.cpp has no name for its pre-tokenizer {}", parts.pre_tokenizer))
    })?;
    // llama.cpp's own converter leaves this normal form of Qwen's tokenizers out.
    let is_nfc = parts.normalizer.get("type").is_some_and(|kind| kind == "NFC");
    let is_left_out = is_nfc && pre == "qwen2";
    if !parts.normalizer.is_null() && !is_left_out {
        return Err(refused(tokenizer, format!("a GGUF has no place for its normalizer {}", parts.normalizer)));
    }
    if skips_merges != parts.ignore_merges
        && let Some(text) = bpe.first_unreached()?
    {
        let reason = format!("with the pre-tokenizer {pre}, llama.cpp has other ids for its token {text:?}");
        return Err(refused(tokenizer, reason));
    }
    check_added(tokenizer, parts)?;
    let added: BTreeSet<&str> = parts.added.iter().map(|token| token.content.as_str()).collect();
    let entries = entries(tokenizer, |id, token| match added.contains(token.text.as_str()) {
        _ if parts.control.contains_key(&id) => (Kind::Control, 0.0),
        true => (Kind::UserDefined, 0.0),
        false => (Kind::Normal, 0.0),
    });
    let mut merges = Vec::with_capacity(parts.merges.len());
    for (left, right) in parts.reachable_merges() {
        // llama.cpp cuts a merge at its first space behind the first character.
        if left.chars().skip(1).any(|letter| letter == ' ') {
            return Err(refused(tokenizer, format!("its merge of {left:?} and {right:?} has a space inside")));
        }
        merges.push(format!("{left} {right}"));
    }
    Ok(Form { model: "gpt2", pre, entries, merges: Some(merges), add_space_prefix: None })
}

/// A `tokenizer.json` with byte fallback.
fn with_fallback(tokenizer: &Tokenizer, template: &ChatTemplate, parts: &BpeFile) -> Result<Form> {
    let refuse = |reason| refused(tokenizer, reason);
    fallback::check_rules(parts).map_err(refuse)?;
    check_added(tokenizer, parts)?;
    let scores = fallback::scores(parts).map_err(refuse)?;
    let added: BTreeSet<&str> = parts.added.iter().map(|token| token.content.as_str()).collect();
    let entries = entries(tokenizer, |id, token| {
        let kind = fallback::kind(parts, &added, id, &token.text);
        (kind, scores.get(token.text.as_str()).copied().unwrap_or(0.0))
    });
    check_runs(tokenizer, &entries)?;
    let add_space_prefix = Some(template.wants_prefix(tokenizer)?);
    Ok(Form { model: "llama", pre: "default", entries, merges: None, add_space_prefix })
}

/// Compares the ids of runs of spaces. Their tokens can have one score, and then the place decides what is merged first,
/// where a list of merges has an order.
fn check_runs(tokenizer: &Tokenizer, entries: &[Entry]) -> Result<()> {
    let piece = |entry: &Entry| Piece { text: entry.text.clone(), score: entry.score, kind: entry.kind };
    let made = SentencePieceFile {
        path: tokenizer.path().to_owned(),
        pieces: entries.iter().map(piece).collect(),
        add_dummy_prefix: false,
        specials: Specials::default(),
    }
    .build()?;
    for length in 1..=LONGEST_RUN {
        let run = " ".repeat(length);
        let ids = |tokenizer: &Tokenizer| tokenizer.encode_at(&run, Position::Within);
        if ids(tokenizer)? != ids(&made)? {
            return Err(refused(tokenizer, format!("scores give other ids for {length} spaces than its merges")));
        }
    }
    Ok(())
}

fn sentencepiece(tokenizer: &Tokenizer, template: &ChatTemplate, model: &SentencePiece) -> Result<Form> {
    let pieces = &model.file.pieces;
    let entries = pieces.iter().map(|piece| Entry { text: piece.text.clone(), kind: piece.kind, score: piece.score });
    let add_space_prefix = Some(template.wants_prefix(tokenizer)?);
    Ok(Form { model: "llama", pre: "default", entries: entries.collect(), merges: None, add_space_prefix })
}

/// A `tekken.json`: each way to put a token together from two others is a merge, in the order of the ranks.
fn tekken(tokenizer: &Tokenizer) -> Form {
    let entries = entries(tokenizer, |_, token| (if token.control { Kind::Control } else { Kind::Normal }, 0.0));
    let ranks: HashMap<&str, usize> = (0..)
        .zip(&entries)
        .filter(|(_, entry)| entry.kind == Kind::Normal)
        .map(|(at, entry)| (entry.text.as_str(), at))
        .collect();
    let mut merges = Vec::new();
    for entry in entries.iter().filter(|entry| entry.kind == Kind::Normal) {
        let pairs = entry.text.char_indices().skip(1).filter_map(|(at, _)| {
            let (left, right) = entry.text.split_at(at);
            Some(((*ranks.get(left)?, *ranks.get(right)?), format!("{left} {right}")))
        });
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_unstable();
        merges.extend(pairs.into_iter().map(|(_, merge)| merge));
    }
    Form { model: "gpt2", pre: "tekken", entries, merges: Some(merges), add_space_prefix: None }
}

/// All tokens by id, with fillers where there is none.
fn entries(tokenizer: &Tokenizer, describe: impl Fn(u32, &Token) -> (Kind, f32)) -> Vec<Entry> {
    let entry = |id: u32| match tokenizer.vocab.get(id) {
        None => Entry { text: filler(id), kind: Kind::Unused, score: FILLER_SCORE },
        Some(token) => {
            let (kind, score) = describe(id, token);
            Entry { text: token.text.clone(), kind, score }
        }
    };
    (0..).take(tokenizer.vocab.len()).map(entry).collect()
}

/// Brings the entries to the number of rows, and refuses two with one text, which llama.cpp does not load.
fn fit(tokenizer: &Tokenizer, entries: &mut Vec<Entry>, rows: usize) -> Result<()> {
    let beyond = entries.get(rows..).unwrap_or_default();
    let in_use = |entry: &&Entry| !matches!(entry.kind, Kind::Control | Kind::Unused);
    if let Some(entry) = beyond.iter().find(in_use) {
        let reason = format!("its token {:?} is behind the last of {rows} rows of the embedding", entry.text);
        return Err(refused(tokenizer, reason));
    }
    if let Some(id) = tokenizer.eos.iter().chain(&tokenizer.bos).find(|id| **id as usize >= rows) {
        let reason = format!("its token {id}, a bos or stop token, is behind the last of {rows} rows of the embedding");
        return Err(refused(tokenizer, reason));
    }
    entries.truncate(rows);
    let first = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let last = u32::try_from(rows).unwrap_or(u32::MAX);
    entries.extend((first..last).map(|id| Entry { text: filler(id), kind: Kind::Unused, score: FILLER_SCORE }));
    let mut known = BTreeSet::new();
    match entries.iter().find(|entry| !known.insert(entry.text.as_str())) {
        None => Ok(()),
        Some(twice) => Err(refused(
            tokenizer,
            format!("two of its tokens have the text {:?}, which llama.cpp refuses", twice.text),
        )),
    }
}

/// The tokens with a role, by their keys. llama.cpp stops at `eos`, `eot` and `eom`, and at the ends that it knows by
/// their texts.
fn ids(tokenizer: &Tokenizer) -> Result<[(&'static str, Option<u32>); 6]> {
    let known = |id: &u32| tokenizer.token_text(*id).is_some_and(|text| KNOWN_ENDS.contains(&text));
    let mut others: Vec<u32> = tokenizer.eos.iter().copied().filter(|id| Some(*id) != tokenizer.eos_token).collect();
    others.sort_by_key(known);
    let [eot, eom] = [0, 1].map(|at| others.get(at).copied());
    if let Some(id) = others.get(2..).unwrap_or_default().iter().find(|id| !known(id)) {
        let text = tokenizer.token_text(*id).unwrap_or_default();
        return Err(refused(tokenizer, format!("a GGUF has keys for three stop tokens, {text:?} is one more")));
    }
    let extras = &tokenizer.extras;
    Ok([
        ("bos", tokenizer.bos),
        ("eos", tokenizer.eos_token),
        ("eot", eot),
        ("eom", eom),
        ("unknown", extras.unknown),
        ("padding", extras.padding),
    ])
}

/// Refuses a template with control tokens that strip white space around them. Mistral's own templates place control
/// tokens by id.
fn check_strips(tokenizer: &Tokenizer, template: &ChatTemplate) -> Result<()> {
    if template.mistral_version().is_some() {
        return Ok(());
    }
    let role = |id: u32| Some(id) == tokenizer.bos || Some(id) == tokenizer.eos_token;
    let used = |text: &str, id: u32| role(id) || template.source().contains(text);
    match tokenizer.controls().find(|(text, id, strips)| (strips.before || strips.after) && used(text, *id)) {
        None => Ok(()),
        Some((text, ..)) => {
            let reason = format!("its control token {text:?} strips white space, which a GGUF can't say");
            Err(refused(tokenizer, reason))
        }
    }
}

fn check_added(tokenizer: &Tokenizer, parts: &BpeFile) -> Result<()> {
    match parts.added.iter().find(|token| token.single_word || token.lstrip || token.rstrip) {
        None => Ok(()),
        Some(token) => {
            let reason = format!("its token {:?} depends on the characters around it", token.content);
            Err(refused(tokenizer, reason))
        }
    }
}

fn refused(tokenizer: &Tokenizer, reason: String) -> Error {
    Error::Unsaveable { path: tokenizer.path().to_owned(), reason }
}
