//! Reads Hugging Face's `tokenizer.json` and the configuration beside it.
//!
//! Source: <https://huggingface.co/docs/tokenizers>; fields as `tokenizers` 0.23 reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::AddedToken;

use crate::{Error, Result};

use super::bpe::{BpeFile, bad, contains};
use super::extras::Extras;
use super::files::{OneOrMore, parse_json, read_to_string, sibling};
use super::rules::{check_decoder, check_post_processor};
use super::vocab::Strips;
use super::{Specials, Tokenizer};

/// The longest text of an added token, in bytes, and the limit for all of them together. Published files have 100 and
/// 100,000.
const MAX_ADDED: usize = 4096;
const MAX_ADDED_TOTAL: usize = 4 << 20;

/// Read first: for another kind of model, this gives a better error than one about its unknown fields.
#[derive(Deserialize)]
struct Header {
    model: ModelType,
}

#[derive(Deserialize)]
struct ModelType {
    /// Absent in files of early versions; these are BPE in this family.
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "version, truncation and padding are named so that other keys are refused")]
struct File {
    version: Option<Value>,
    /// As in transformers, texts are not truncated or padded according to the file's own settings.
    truncation: Option<Value>,
    padding: Option<Value>,
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    model: Model,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Added {
    id: u32,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "type and fuse_unk are named so that other keys are refused")]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Has no effect if every byte has a token.
    fuse_unk: Option<bool>,
    vocab: BTreeMap<String, u32>,
    merges: Vec<Merge>,
    unk_token: Option<String>,
    dropout: Option<f32>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

/// The bos and stop tokens in `tokenizer_config.json`.
#[derive(Default, Deserialize)]
struct TokenizerConfig {
    bos_token: Option<TokenName>,
    eos_token: Option<TokenName>,
    pad_token: Option<TokenName>,
    add_bos_token: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TokenName {
    Text(String),
    Token { content: String },
}

/// The bos and stop tokens in `generation_config.json` or `config.json`.
#[derive(Default, Deserialize)]
struct ModelConfig {
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMore>,
    /// Some files have -1 for none.
    pad_token_id: Option<i64>,
}

/// Loads a `tokenizer.json`.
pub(crate) fn load(path: &Path) -> Result<Tokenizer> {
    let text = read_to_string(path)?;
    let header: Header = parse_json(path, &text)?;
    if let Some(kind) = header.model.kind.filter(|kind| kind != "BPE") {
        return Err(unsupported(path, "model.type", &kind, "BPE"));
    }
    let file: File = parse_json(path, &text)?;
    let byte_level = contains(&file.pre_tokenizer, "type", "ByteLevel");
    check(path, &file, byte_level)?;

    let mut ids = file.model.vocab.clone();
    for added in &file.added_tokens {
        let known = ids.insert(added.content.clone(), added.id);
        if known.is_some_and(|id| id != added.id) {
            let reason = format!("{:?} has another id in model.vocab than its {}", added.content, added.id);
            return Err(bad(path, "added_tokens", reason));
        }
    }
    let specials = specials(path, &file, &ids)?;
    let unknown = file.model.unk_token.as_ref().and_then(|unknown| ids.get(unknown));
    let named = specials.eos.iter().chain(&specials.bos).chain(unknown);
    let mut control: BTreeMap<u32, Strips> = named.map(|id| (*id, Strips::default())).collect();
    for Added { id, special, lstrip, rstrip, .. } in &file.added_tokens {
        if *special || control.contains_key(id) {
            control.insert(*id, Strips { before: *lstrip, after: *rstrip });
        }
    }
    let added = file.added_tokens.into_iter().filter(|added| !control.contains_key(&added.id));
    BpeFile {
        path: path.to_owned(),
        tokens: ids.into_iter().map(|(text, id)| (id, text)).collect(),
        merges: merges(path, file.model.merges)?,
        added: added.map(token).collect(),
        control,
        drops_first_space: drops_first_space(&file.decoder),
        normalizer: file.normalizer,
        pre_tokenizer: file.pre_tokenizer,
        byte_level,
        ignore_merges: file.model.ignore_merges,
        specials,
    }
    .build()
}

/// Refuses settings that would give other ids or another text than the file means.
fn check(path: &Path, file: &File, byte_level: bool) -> Result<()> {
    let model = &file.model;
    if let Some(dropout) = model.dropout.filter(|dropout| *dropout != 0.0) {
        return Err(unsupported(path, "model.dropout", &dropout.to_string(), "none"));
    }
    for (place, affix) in [
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if let Some(affix) = affix.as_ref().filter(|affix| !affix.is_empty()) {
            return Err(unsupported(path, place, affix, "none"));
        }
    }
    if !byte_level && !model.byte_fallback {
        return Err(unsupported(path, "model.byte_fallback", "false", "true, or a ByteLevel pre-tokenizer"));
    }
    check_post_processor(path, &file.post_processor)?;
    check_decoder(path, &file.decoder)?;
    let mut total = 0;
    for (index, Added { content, .. }) in file.added_tokens.iter().enumerate() {
        total += content.len();
        if content.len() > MAX_ADDED || total > MAX_ADDED_TOTAL {
            let reason = format!(
                "content has {} bytes, {total} with those before it: at most {MAX_ADDED} and {MAX_ADDED_TOTAL} are accepted",
                content.len()
            );
            return Err(bad(path, &format!("added_tokens[{index}]"), reason));
        }
    }
    Ok(())
}

fn token(added: Added) -> AddedToken {
    let Added { content, single_word, lstrip, rstrip, normalized, special, .. } = added;
    AddedToken { content, single_word, lstrip, rstrip, normalized, special }
}

fn merges(path: &Path, merges: Vec<Merge>) -> Result<Vec<(String, String)>> {
    let split = |(index, merge)| match merge {
        Merge::Pair(left, right) => Ok((left, right)),
        Merge::Line(line) => match line.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => Ok((left.to_owned(), right.to_owned())),
            _ => Err(bad(path, &format!("model.merges[{index}]"), format!("{line:?} is not two tokens"))),
        },
    };
    merges.into_iter().enumerate().map(split).collect()
}

/// The bos and stop tokens, from the files beside this one.
fn specials(path: &Path, file: &File, ids: &BTreeMap<String, u32>) -> Result<Specials> {
    let config: TokenizerConfig = sibling(path, "tokenizer_config.json")?.unwrap_or_default();
    let model: ModelConfig = match sibling(path, "generation_config.json")? {
        Some(model) => model,
        None => sibling(path, "config.json")?.unwrap_or_default(),
    };
    let find = |place: &str, name: TokenName| {
        let (TokenName::Text(text) | TokenName::Token { content: text }) = name;
        let missing = || bad(path, place, format!("{text:?} of tokenizer_config.json is not in the vocabulary"));
        ids.get(&text).copied().ok_or_else(missing)
    };
    let template_bos = first_special(&file.post_processor).and_then(|text| ids.get(text).copied());
    let bos = match config.bos_token {
        Some(name) => Some(find("bos_token", name)?),
        None => template_bos.or(model.bos_token_id),
    };
    let mut eos = Vec::new();
    if let Some(name) = config.eos_token {
        eos.push(find("eos_token", name)?);
    }
    eos.extend(model.eos_token_id.map(OneOrMore::into_vec).unwrap_or_default());
    let known: BTreeSet<u32> = ids.values().copied().collect();
    if let Some(id) = bos.iter().chain(&eos).find(|id| !known.contains(id)) {
        return Err(bad(path, "eos_token_id", format!("the model's token {id} is not in the vocabulary")));
    }
    let add_bos = config.add_bos_token.unwrap_or(template_bos.is_some() && template_bos == bos);
    let padding = match config.pad_token {
        Some(TokenName::Text(text) | TokenName::Token { content: text }) => ids.get(&text).copied(),
        None => model.pad_token_id.and_then(|id| u32::try_from(id).ok()).filter(|id| known.contains(id)),
    };
    let unknown = file.model.unk_token.as_ref().and_then(|text| ids.get(text)).copied();
    Ok(Specials { bos, eos, add_bos, extras: Extras { unknown, padding, ..Extras::default() } })
}

/// The control token that a `TemplateProcessing` adds before a text.
fn first_special(post_processor: &Value) -> Option<&str> {
    let processors = post_processor.get("processors").and_then(Value::as_array);
    let mut all = processors.map_or(std::slice::from_ref(post_processor), Vec::as_slice).iter();
    all.find_map(|processor| processor.get("single")?.get(0)?.get("SpecialToken")?.get("id")?.as_str())
}

/// Whether decoding removes a space at the start.
fn drops_first_space(decoder: &Value) -> bool {
    let parts = decoder.get("decoders").and_then(Value::as_array);
    parts.map_or(std::slice::from_ref(decoder), Vec::as_slice).iter().any(|part| {
        match part.get("type").and_then(Value::as_str) {
            Some("Strip") => part.get("start").and_then(Value::as_u64).is_some_and(|start| start > 0),
            Some("Metaspace") => {
                part.get("prepend_scheme").and_then(Value::as_str) != Some("never")
                    && part.get("add_prefix_space") != Some(&Value::Bool(false))
            }
            _ => false,
        }
    })
}

fn unsupported(path: &Path, place: &str, found: &str, supported: &'static str) -> Error {
    Error::Unsupported { path: path.to_owned(), place: place.to_owned(), found: found.to_owned(), supported }
}
