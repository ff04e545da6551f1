//! [`ModelFiles`]: the roles of the files in a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{Error, Result};

pub(crate) const INDEX: &str = "model.safetensors.index.json";
pub(crate) const SINGLE: &str = "model.safetensors";
/// The weights and the config of Mistral's own checkpoints.
pub(crate) const NATIVE: &str = "consolidated.safetensors";
pub(crate) const PARAMS: &str = "params.json";
pub(crate) const CONFIG: &str = "config.json";
/// In order of preference: Hugging Face's format, then Mistral's two formats.
pub(crate) const TOKENIZERS: [&str; 5] =
    ["tokenizer.json", "tekken.json", "tokenizer.model", "tokenizer.model.v3", "tokenizer.model.v7"];
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(crate) const CHAT_TEMPLATE: &str = "chat_template.jinja";
pub(crate) const GENERATION_CONFIG: &str = "generation_config.json";

/// The files of a model on this disk. For a GGUF file, everything except `weights` is `None`, because the GGUF contains
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFiles {
    /// The requested name.
    pub name: String,
    /// The path to open: a `.gguf` or `.safetensors` file, or a folder with `model.safetensors`, its sharded index, or
    /// `consolidated.safetensors`.
    pub weights: PathBuf,
    /// `config.json`, or `params.json` beside `consolidated.safetensors`.
    pub config: Option<PathBuf>,
    /// The first existing file of `tokenizer.json`, `tekken.json`, `tokenizer.model`.
    pub tokenizer: Option<PathBuf>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<PathBuf>,
    /// `chat_template.jinja`, if the template is not in the tokenizer's configuration.
    pub chat_template: Option<PathBuf>,
    /// `generation_config.json`.
    pub generation_config: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl ModelFiles {
    /// The model at a path: a folder, or a weights file with its other files beside it.
    pub(crate) fn at(name: &str, path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::in_folder(name, path);
        }
        let extension = path.extension().and_then(|extension| extension.to_str());
        match (extension, path.parent()) {
            (Some("gguf"), _) => Ok(Self::gguf(name, path.to_owned())),
            (Some("safetensors"), Some(folder)) => Ok(Self::beside(name, folder, path.to_owned())),
            _ => Err(Error::NoModel { path: path.to_owned(), looked_for: "a .gguf or .safetensors file" }),
        }
    }

    pub(crate) fn gguf(name: &str, weights: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            weights,
            config: None,
            tokenizer: None,
            tokenizer_config: None,
            chat_template: None,
            generation_config: None,
        }
    }

    /// The safetensors model, with all shards; otherwise the only GGUF file.
    pub(crate) fn in_folder(name: &str, folder: &Path) -> Result<Self> {
        let index = folder.join(INDEX);
        if index.is_file() {
            let text = foehn_files::read(&index, foehn_files::MAX_TEXT).map_err(|source| Error::Io {
                action: "read",
                path: index.clone(),
                source,
            })?;
            let shards = shards(&text, &index.display().to_string())?;
            if let Some(missing) = shards.into_iter().find(|shard| !folder.join(shard).is_file()) {
                return Err(Error::Incomplete { path: folder.to_owned(), missing });
            }
        } else if !folder.join(SINGLE).is_file() {
            return match folder.join(NATIVE) {
                native if native.is_file() => Ok(Self::beside(name, folder, native)),
                _ => Self::only_gguf(name, folder),
            };
        }
        Ok(Self::beside(name, folder, folder.to_owned()))
    }

    fn only_gguf(name: &str, folder: &Path) -> Result<Self> {
        let io = |source| Error::Io { action: "list", path: folder.to_owned(), source };
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.extension().is_some_and(|extension| extension == "gguf") && path.is_file() {
                found.push(path);
            }
        }
        found.sort();
        match found.as_slice() {
            [one] => Ok(Self::gguf(name, one.clone())),
            [] => Err(Error::NoModel {
                path: folder.to_owned(),
                looked_for: "model.safetensors.index.json, model.safetensors, consolidated.safetensors, or a .gguf file",
            }),
            several => {
                let names = several.iter().filter_map(|path| path.file_name());
                let found = names.map(|name| name.to_string_lossy().into_owned()).collect();
                Err(Error::SeveralModels { path: folder.to_owned(), found })
            }
        }
    }

    fn beside(name: &str, folder: &Path, weights: PathBuf) -> Self {
        let file = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        let is_native = weights.file_name().is_some_and(|name| name == NATIVE);
        Self {
            name: name.to_owned(),
            weights,
            config: file(PARAMS).filter(|_| is_native).or_else(|| file(CONFIG)),
            tokenizer: TOKENIZERS.into_iter().find_map(file),
            tokenizer_config: file(TOKENIZER_CONFIG),
            chat_template: file(CHAT_TEMPLATE),
            generation_config: file(GENERATION_CONFIG),
        }
    }
}

/// The shards of an index, in byte order.
pub(crate) fn shards(index: &[u8], place: &str) -> Result<BTreeSet<String>> {
    let index: Index =
        serde_json::from_slice(index).map_err(|source| Error::Json { place: place.to_owned(), source })?;
    Ok(index.weight_map.into_values().collect())
}
