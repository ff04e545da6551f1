//! Writes a tokenizer and its template into a folder in Hugging Face's layout.
//!
//! Source: <https://huggingface.co/docs/tokenizers>; fields as `tokenizers` 0.23 writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, create_dir_all};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::template::MistralVersion;
use crate::{ChatTemplate, Error, Result};

use super::bpe::BpeFile;
use super::files::{Model, locate, sentencepiece_version};
use super::{Encoder, Tokenizer, tekken};

/// See [`Tokenizer::save`].
pub(super) fn save(tokenizer: &Tokenizer, template: &ChatTemplate, folder: &Path) -> Result<()> {
    let mut files = match &tokenizer.encoder {
        Encoder::Bpe(bpe) => merges(&bpe.parts, template)?,
        Encoder::SentencePiece(model) => vec![sentencepiece(&model.file.path, template)?],
        Encoder::Tekken(tekken) => vec![(tekken::FILE.to_owned(), tekken_json(&tekken.path, template)?)],
    };
    if template.mistral_version().is_none() {
        files.push(("chat_template.jinja".to_owned(), template.source().as_bytes().to_vec()));
    }
    files.push(("generation_config.json".to_owned(), text(&generation_config(tokenizer))));

    let failed = |source| Error::Write { path: folder.to_owned(), source };
    create_dir_all(folder).map_err(failed)?;
    for (name, bytes) in &files {
        write(folder, name, bytes)?;
    }
    if cfg!(unix) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    check(tokenizer, template, folder)
}

/// Opens the written files again and compares. For example, an older `tokenizer.json` would be preferred to a
/// `tokenizer.model`.
fn check(tokenizer: &Tokenizer, template: &ChatTemplate, folder: &Path) -> Result<()> {
    let differs = || Error::SavedDiffers { path: folder.to_owned() };
    let opened = Tokenizer::open(folder)?;
    if opened.fingerprint() != tokenizer.fingerprint() {
        return Err(differs());
    }
    let same = ChatTemplate::open(folder, &opened)?.fingerprint() == template.fingerprint();
    if same { Ok(()) } else { Err(differs()) }
}

/// `tokenizer.json` and `tokenizer_config.json`.
fn merges(parts: &BpeFile, template: &ChatTemplate) -> Result<Vec<(String, Vec<u8>)>> {
    if template.mistral_version().is_some() {
        let reason = format!("its template {} has no Jinja source, choose a Jinja template", template.source());
        return Err(unsaveable(&parts.path, reason));
    }
    let texts: BTreeSet<&str> = parts.tokens.iter().map(|(_, text)| text.as_str()).collect();
    if texts.len() != parts.tokens.len() {
        let reason = "two of its tokens have one text, which tokenizer.json can't say".to_owned();
        return Err(unsaveable(&parts.path, reason));
    }
    let files = [("tokenizer.json", tokenizer_json(parts)), ("tokenizer_config.json", tokenizer_config(parts))];
    Ok(files.map(|(name, value)| (name.to_owned(), text(&value))).into())
}

/// The model's own file, with a name that identifies its template.
fn sentencepiece(path: &Path, template: &ChatTemplate) -> Result<(String, Vec<u8>)> {
    if !matches!(locate(path), Ok(Model::SentencePiece(_))) {
        let reason = "a SentencePiece model is copied from a tokenizer.model, and this one came from a GGUF file: \
                      put its tokenizer.model into the folder by hand";
        return Err(unsaveable(path, reason.to_owned()));
    }
    let own = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let own_version = sentencepiece_version(path).and_then(MistralVersion::of_number);
    let name = match template.mistral_version() {
        None => "tokenizer.model".to_owned(),
        Some(version) => own
            .filter(|_| own_version == Some(version))
            .unwrap_or_else(|| format!("tokenizer.model.{}", template.source().trim_start_matches("mistral-"))),
    };
    let bytes = foehn_files::read(path, foehn_files::MAX_TEXT)
        .map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Ok((name, bytes))
}

/// The model's own file. If it would choose another of Mistral's templates, it gets that one's version.
fn tekken_json(path: &Path, template: &ChatTemplate) -> Result<Vec<u8>> {
    let own = MistralVersion::of_number(tekken::version(path)?);
    if template.mistral_version().is_none() || template.mistral_version() == own {
        return foehn_files::read(path, foehn_files::MAX_TEXT)
            .map_err(|source| Error::Read { path: path.to_owned(), source });
    }
    let number = template.source().trim_start_matches("mistral-v").parse().ok();
    let changed = number.map(|number| tekken::with_version(path, number)).transpose()?;
    changed.flatten().ok_or_else(|| {
        let reason = format!("its file lists no control tokens, which {} needs, choose mistral-v7", template.source());
        unsaveable(path, reason)
    })
}

fn tokenizer_json(parts: &BpeFile) -> Value {
    let vocab: Map<String, Value> = parts.tokens.iter().map(|(id, text)| (text.clone(), json!(id))).collect();
    let merges: Vec<Value> = parts.merges.iter().map(|(left, right)| json!([left, right])).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(parts),
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": post_processor(parts),
        "decoder": decoder(parts),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": !parts.byte_level,
            "byte_fallback": !parts.byte_level,
            "ignore_merges": parts.ignore_merges,
            "vocab": vocab,
            "merges": merges,
        },
    })
}

/// The control tokens by id, then the text tokens that are matched as a whole, in their order.
fn added_tokens(parts: &BpeFile) -> Vec<Value> {
    let by_id: BTreeMap<u32, &str> = parts.tokens.iter().map(|(id, text)| (*id, text.as_str())).collect();
    let by_text: BTreeMap<&str, u32> = by_id.iter().map(|(id, text)| (*text, *id)).collect();
    let control = parts.control.iter().map(|(id, strips)| {
        json!({
            "id": id, "content": by_id.get(id), "single_word": false, "lstrip": strips.before, "rstrip": strips.after,
            "normalized": false, "special": true,
        })
    });
    let added = parts.added.iter().map(|token| {
        json!({
            "id": by_text.get(token.content.as_str()), "content": token.content, "single_word": token.single_word,
            "lstrip": token.lstrip, "rstrip": token.rstrip, "normalized": token.normalized, "special": false,
        })
    });
    control.chain(added).collect()
}

/// A post-processor that adds the bos before a text, if the tokenizer does so.
fn post_processor(parts: &BpeFile) -> Value {
    let Some((id, bos)) = bos(parts).filter(|_| parts.specials.add_bos) else { return Value::Null };
    let special = |type_id: u32| json!({"SpecialToken": {"id": bos, "type_id": type_id}});
    let sequence = |name: &str, type_id: u32| json!({"Sequence": {"id": name, "type_id": type_id}});
    json!({
        "type": "TemplateProcessing",
        "single": [special(0), sequence("A", 0)],
        "pair": [special(0), sequence("A", 0), special(1), sequence("B", 1)],
        "special_tokens": {bos: {"id": bos, "ids": [id], "tokens": [bos]}},
    })
}

fn decoder(parts: &BpeFile) -> Value {
    let mut steps = match parts.byte_level {
        true => vec![json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})],
        false => vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ],
    };
    if parts.drops_first_space {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}

fn tokenizer_config(parts: &BpeFile) -> Value {
    let mut config = Map::new();
    config.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
    config.insert("add_bos_token".to_owned(), json!(parts.specials.add_bos));
    // Without this setting, older versions of transformers remove the spaces before punctuation.
    config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
    if let Some((_, bos)) = bos(parts) {
        config.insert("bos_token".to_owned(), json!(bos));
    }
    if let Some(eos) = parts.specials.eos.first().and_then(|id| text_of(parts, *id)) {
        config.insert("eos_token".to_owned(), json!(eos));
    }
    Value::Object(config)
}

fn generation_config(tokenizer: &Tokenizer) -> Value {
    let mut config = Map::new();
    if let Some(bos) = tokenizer.bos_id() {
        config.insert("bos_token_id".to_owned(), json!(bos));
    }
    match tokenizer.eos_ids() {
        [] => None,
        [one] => config.insert("eos_token_id".to_owned(), json!(one)),
        more => config.insert("eos_token_id".to_owned(), json!(more)),
    };
    Value::Object(config)
}

fn bos(parts: &BpeFile) -> Option<(u32, &str)> {
    let id = parts.specials.bos?;
    Some((id, text_of(parts, id)?))
}

fn text_of(parts: &BpeFile, id: u32) -> Option<&str> {
    parts.tokens.iter().find(|(other, _)| *other == id).map(|(_, text)| text.as_str())
}

fn text(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    foehn_files::write(&path, bytes).map_err(|source| Error::Write { path, source })
}

fn unsaveable(path: &Path, reason: String) -> Error {
    Error::Unsaveable { path: path.to_owned(), reason }
}
