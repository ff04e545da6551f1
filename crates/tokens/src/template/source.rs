//! Finds the chat template of a model.

use std::path::Path;

use foehn_weights::{Gguf, Weights};
use serde::Deserialize;

use crate::tokenizer::{Model, locate, read_json, read_to_string, sentencepiece_version, tekken_version};
use crate::{Error, Result, Tokenizer};

use super::{ChatTemplate, MistralVersion};

/// The only field of `tokenizer_config.json` that is used here.
#[derive(Deserialize)]
struct TokenizerConfig {
    chat_template: Option<OneOrNamed>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrNamed {
    One(String),
    Named(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

pub(super) fn open(path: &Path, tokenizer: &Tokenizer) -> Result<ChatTemplate> {
    let none = || Error::NoTemplate { path: path.to_owned() };
    if path.extension().is_some_and(|extension| extension == "jinja") {
        return ChatTemplate::jinja(&read_to_string(path)?, tokenizer);
    }
    let model = locate(path)?;
    match &model {
        Model::Gguf(file) => from_gguf(Weights::open(file)?.gguf().ok_or_else(none)?, tokenizer),
        Model::SentencePiece(file) => match sentencepiece_version(file).and_then(MistralVersion::of_number) {
            Some(version) => ChatTemplate::mistral(version, tokenizer),
            None => ChatTemplate::jinja(&beside(model.folder())?.ok_or_else(none)?, tokenizer),
        },
        Model::Json(_) | Model::Tekken(_) => match beside(model.folder())? {
            Some(source) => ChatTemplate::jinja(&source, tokenizer),
            None => {
                let version = tekken_version(&model)?.and_then(MistralVersion::of_number);
                ChatTemplate::mistral(version.ok_or_else(none)?, tokenizer)
            }
        },
    }
}

pub(super) fn from_gguf(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<ChatTemplate> {
    match gguf.get_str("tokenizer.chat_template")? {
        Some(source) => ChatTemplate::jinja(source, tokenizer),
        None => Err(Error::NoTemplate { path: gguf.path().to_owned() }),
    }
}

/// The Jinja source in a folder in Hugging Face's layout. A separate file is preferred to the field of the
/// configuration, as in transformers.
fn beside(folder: &Path) -> Result<Option<String>> {
    let file = folder.join("chat_template.jinja");
    if file.is_file() {
        return read_to_string(&file).map(Some);
    }
    let file = folder.join("tokenizer_config.json");
    if !file.is_file() {
        return Ok(None);
    }
    let config: TokenizerConfig = read_json(&file)?;
    Ok(match config.chat_template {
        None => None,
        Some(OneOrNamed::One(source)) => Some(source),
        Some(OneOrNamed::Named(all)) => {
            all.into_iter().find(|named| named.name == "default").map(|named| named.template)
        }
    })
}
