//! The files beside a tokenizer's own: `tokenizer_config.json`, `generation_config.json`, and those that are copied.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::tokenizer::files::read_json;
use crate::tokenizer::{Encoder, Tokenizer};
use crate::{ChatTemplate, Error, Result};

/// Files of a folder that other programs read, and Foehn does not.
const COPIED: [&str; 2] = ["special_tokens_map.json", "added_tokens.json"];

/// The file with the template.
const TEMPLATE: &str = "chat_template.jinja";

/// A file's name and contents.
pub(super) type File = (String, Vec<u8>);

/// The configuration of the tokenizer, with the template, and the copied files. `source` is the folder that the
/// tokenizer came from; `None` for a GGUF file, which is not one of a folder.
pub(super) fn files(tokenizer: &Tokenizer, template: &ChatTemplate, source: Option<&Path>) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let mut config = object(source, "tokenizer_config.json")?;
    let had_field = config.as_ref().is_some_and(|config| config.contains_key("chat_template"));
    let kept = had_field && config.as_ref().is_some_and(|config| default_of(config) == template.jinja_source());
    if let Some(config) = config.as_mut().filter(|_| had_field && !kept) {
        config.shift_remove("chat_template");
    }
    // Beside the file, transformers reads no templates of other names in the field.
    let has_names =
        kept && config.as_ref().is_some_and(|config| config.get("chat_template").is_some_and(Value::is_array));
    let has_file = source.is_some_and(|folder| folder.join(TEMPLATE).is_file());
    if let Some(jinja) = template.jinja_source().filter(|_| has_file || !has_names) {
        files.push((TEMPLATE.to_owned(), jinja.as_bytes().to_vec()));
    }
    if let Some(config) = config.or_else(|| made(tokenizer)) {
        files.push(("tokenizer_config.json".to_owned(), text(&Value::Object(config))));
    }
    files.push(("generation_config.json".to_owned(), text(&generation_config(tokenizer, source)?)));
    for name in COPIED {
        if let Some(path) = source.map(|folder| folder.join(name)).filter(|path| path.is_file()) {
            files.push((name.to_owned(), copy(&path)?));
        }
    }
    Ok(files)
}

/// A file's bytes.
pub(super) fn copy(path: &Path) -> Result<Vec<u8>> {
    foehn_files::read(path, foehn_files::MAX_TEXT).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// A JSON file as people read it.
pub(super) fn text(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// The template in the configuration, or the one called `default` of several.
fn default_of(config: &Map<String, Value>) -> Option<&str> {
    match config.get("chat_template")? {
        Value::Array(named) => {
            let default = named.iter().find(|named| named.get("name").is_some_and(|name| name == "default"));
            default?.get("template")?.as_str()
        }
        one => one.as_str(),
    }
}

/// The configuration of a tokenizer whose source has none. A `tekken.json` needs none.
fn made(tokenizer: &Tokenizer) -> Option<Map<String, Value>> {
    let mut config = Map::new();
    let mut set = |key: &str, value: Value| config.insert(key.to_owned(), value);
    match &tokenizer.encoder {
        Encoder::Bpe(_) => set("tokenizer_class", json!("PreTrainedTokenizerFast")),
        Encoder::SentencePiece(_) => set("tokenizer_class", json!("LlamaTokenizer")),
        Encoder::Tekken(_) => return None,
    };
    if let Encoder::SentencePiece(model) = &tokenizer.encoder {
        // Spaces are added at the start alone, as the templates expect.
        set("legacy", json!(false));
        set("add_prefix_space", json!(model.file.add_dummy_prefix));
    }
    set("add_bos_token", json!(tokenizer.add_bos));
    // Without this setting, older versions of transformers remove the spaces before punctuation.
    set("clean_up_tokenization_spaces", json!(false));
    let extras = &tokenizer.extras;
    let unknown = extras.unknown.filter(|_| matches!(tokenizer.encoder, Encoder::SentencePiece(_)));
    let roles = [
        ("bos_token", tokenizer.bos),
        ("eos_token", tokenizer.eos_token),
        ("unk_token", unknown),
        ("pad_token", extras.padding),
    ];
    for (key, id) in roles {
        if let Some(text) = id.and_then(|id| tokenizer.token_text(id)) {
            set(key, json!(text));
        }
    }
    if let Some(length) = extras.context_length {
        set("model_max_length", json!(length));
    }
    Some(config)
}

/// The settings of the source's file, with the stop tokens.
fn generation_config(tokenizer: &Tokenizer, source: Option<&Path>) -> Result<Value> {
    let found = object(source, "generation_config.json")?;
    let mut config = found.clone().unwrap_or_default();
    if let (None, Some(bos)) = (&found, tokenizer.bos_id()) {
        config.insert("bos_token_id".to_owned(), json!(bos));
    }
    if let (None, Some(padding)) = (source, tokenizer.padding_id()) {
        config.insert("pad_token_id".to_owned(), json!(padding));
    }
    let mut stops: Vec<Value> = match config.get("eos_token_id") {
        Some(Value::Array(ids)) => ids.clone(),
        Some(id @ Value::Number(_)) => vec![id.clone()],
        _ => Vec::new(),
    };
    let before = stops.len();
    stops.extend(tokenizer.eos_ids().iter().map(|id| json!(id)).filter(|id| !stops.contains(id)).collect::<Vec<_>>());
    if stops.len() > before {
        let stops = if let [one] = stops.as_slice() { one.clone() } else { Value::Array(stops) };
        config.insert("eos_token_id".to_owned(), stops);
    }
    Ok(Value::Object(config))
}

/// A JSON object in the source's folder, if there is one.
fn object(source: Option<&Path>, name: &str) -> Result<Option<Map<String, Value>>> {
    match source.map(|folder| folder.join(name)).filter(|path| path.is_file()) {
        Some(path) => read_json(&path).map(Some),
        None => Ok(None),
    }
}
