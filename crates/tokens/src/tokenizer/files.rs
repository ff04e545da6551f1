//! Finds the files of a tokenizer or a template, and reads them with errors that name the place.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

use super::tekken;

/// The kind of a tokenizer's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    /// Hugging Face's `tokenizer.json`, with its configuration beside it.
    Json(PathBuf),
    /// SentencePiece's `tokenizer.model`, optionally with a version at the end of its name.
    SentencePiece(PathBuf),
    /// Mistral's `tekken.json`.
    Tekken(PathBuf),
    /// A GGUF file.
    Gguf(PathBuf),
}

impl Model {
    /// The folder of the file.
    pub fn folder(&self) -> &Path {
        let (Self::Json(file) | Self::SentencePiece(file) | Self::Tekken(file) | Self::Gguf(file)) = self;
        file.parent().unwrap_or(Path::new(""))
    }
}

/// The version in the name `tokenizer.model.v3` (or `.v7m1`).
pub(crate) fn sentencepiece_version(file: &Path) -> Option<u32> {
    let name = file.file_name()?.to_str()?;
    let (_, version) = name.rsplit_once(".model.v")?;
    version.split('m').next()?.parse().ok()
}

/// The version in a `tekken.json`: this file, or the one beside a `tokenizer.json`.
pub(crate) fn tekken_version(model: &Model) -> Result<Option<u32>> {
    let file = match model {
        Model::Tekken(file) => file.clone(),
        _ => model.folder().join(tekken::FILE),
    };
    if file.is_file() { tekken::version(&file).map(Some) } else { Ok(None) }
}

/// Finds the tokenizer's file in a folder, or recognises a file by its name.
pub(crate) fn locate(path: &Path) -> Result<Model> {
    if path.is_dir() {
        return locate_in(path);
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name.ends_with(".json") && name.contains("tekken") {
        Ok(Model::Tekken(path.to_owned()))
    } else if name.ends_with(".json") {
        Ok(Model::Json(path.to_owned()))
    } else if name.ends_with(".gguf") {
        Ok(Model::Gguf(path.to_owned()))
    } else if name.ends_with(".model") || sentencepiece_version(path).is_some() {
        Ok(Model::SentencePiece(path.to_owned()))
    } else {
        Err(Error::NoTokenizer { path: path.to_owned() })
    }
}

fn locate_in(folder: &Path) -> Result<Model> {
    let json = folder.join("tokenizer.json");
    if json.is_file() {
        return Ok(Model::Json(json));
    }
    // As in mistral-common, this file is preferred to a `tokenizer.model`.
    let tekken = folder.join(tekken::FILE);
    if tekken.is_file() {
        return Ok(Model::Tekken(tekken));
    }
    let read = |source| Error::Read { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        files.push(entry.map_err(read)?.path());
    }
    // The order of files in a folder depends on the file system. The highest version belongs to the model; the others
    // belong to earlier models.
    files.sort_by_key(|file| (sentencepiece_version(file), file.clone()));
    let is_model = |file: &&PathBuf| {
        file.file_name().is_some_and(|name| name == "tokenizer.model") || sentencepiece_version(file).is_some()
    };
    let is_gguf = |file: &&PathBuf| file.extension().is_some_and(|extension| extension == "gguf");
    if let Some(file) = files.iter().rev().find(is_model) {
        return Ok(Model::SentencePiece(file.clone()));
    }
    match files.iter().find(is_gguf) {
        Some(file) => Ok(Model::Gguf(file.clone())),
        None => Err(Error::NoTokenizer { path: folder.to_owned() }),
    }
}

/// Reads a text file of at most [`foehn_files::MAX_TEXT`] bytes.
pub(crate) fn read_to_string(path: &Path) -> Result<String> {
    foehn_files::read_to_string(path, foehn_files::MAX_TEXT)
        .map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// Reads a JSON file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    parse_json(path, &read_to_string(path)?)
}

/// Parses the text of a JSON file.
pub(crate) fn parse_json<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|source| Error::Json {
        path: path.to_owned(),
        line: source.line(),
        column: source.column(),
        source,
    })
}

/// Reads a JSON file beside this one, if it exists.
pub(crate) fn sibling<T: DeserializeOwned>(path: &Path, name: &str) -> Result<Option<T>> {
    let file = path.with_file_name(name);
    if file.is_file() { read_json(&file).map(Some) } else { Ok(None) }
}

/// The stop tokens of a model's configuration.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMore {
    One(u32),
    More(Vec<u32>),
}

impl OneOrMore {
    pub fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::More(ids) => ids,
        }
    }
}
