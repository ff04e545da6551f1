//! Writes a tokenizer and its template into a folder in Hugging Face's layout.

mod config;
mod json;
mod model;

use std::collections::BTreeSet;
use std::fs::{File, create_dir_all};
use std::path::Path;

use crate::template::MistralVersion;
use crate::{ChatTemplate, Error, Result};

use super::bpe::BpeFile;
use super::files::{Model, locate, sentencepiece_version};
use super::sentencepiece::SentencePieceFile;
use super::{Encoder, Tokenizer, tekken};

/// See [`Tokenizer::save`].
pub(super) fn save(tokenizer: &Tokenizer, template: &ChatTemplate, folder: &Path) -> Result<()> {
    let mut files = match &tokenizer.encoder {
        Encoder::Bpe(bpe) => vec![("tokenizer.json".to_owned(), tokenizer_json(&bpe.parts, template)?)],
        Encoder::SentencePiece(model) => sentencepiece(&model.file, template)?,
        Encoder::Tekken(tekken) => vec![(tekken::FILE.to_owned(), tekken_json(&tekken.path, template)?)],
    };
    let source = tokenizer.path();
    let beside = if matches!(locate(source), Ok(Model::Gguf(_))) { None } else { source.parent() };
    files.extend(config::files(tokenizer, template, beside)?);

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

/// The file that the tokenizer came from, or one with what another kind of file says.
fn tokenizer_json(parts: &BpeFile, template: &ChatTemplate) -> Result<Vec<u8>> {
    if template.jinja_source().is_none() {
        let reason = format!("its template {} has no Jinja source, choose a Jinja template", template.source());
        return Err(unsaveable(&parts.path, reason));
    }
    if matches!(locate(&parts.path), Ok(Model::Json(_))) {
        return config::copy(&parts.path);
    }
    let texts: BTreeSet<&str> = parts.tokens.iter().map(|(_, text)| text.as_str()).collect();
    if texts.len() != parts.tokens.len() {
        let reason = "two of its tokens have one text, which tokenizer.json can't say".to_owned();
        return Err(unsaveable(&parts.path, reason));
    }
    Ok(config::text(&json::tokenizer_json(parts)))
}

/// The model under the name that transformers reads, and for one of Mistral's own templates under a name that tells its
/// version. It is the file that the tokenizer came from, or one with what a GGUF file says.
fn sentencepiece(file: &SentencePieceFile, template: &ChatTemplate) -> Result<Vec<config::File>> {
    let path = &file.path;
    let bytes = match locate(path) {
        Ok(Model::SentencePiece(_)) => config::copy(path)?,
        _ => model::tokenizer_model(file)?,
    };
    let mut files = vec![("tokenizer.model".to_owned(), bytes.clone())];
    if let Some(version) = template.mistral_version() {
        let own = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let own_version = sentencepiece_version(path).and_then(MistralVersion::of_number);
        let name = own.filter(|_| own_version == Some(version));
        let made = || format!("tokenizer.model.{}", template.source().trim_start_matches("mistral-"));
        files.push((name.unwrap_or_else(made), bytes));
    }
    Ok(files)
}

/// The model's own file. If it would choose another of Mistral's templates, it gets that one's version.
fn tekken_json(path: &Path, template: &ChatTemplate) -> Result<Vec<u8>> {
    let own = MistralVersion::of_number(tekken::version(path)?);
    if template.mistral_version().is_none() || template.mistral_version() == own {
        return config::copy(path);
    }
    let number = template.source().trim_start_matches("mistral-v").parse().ok();
    let changed = number.map(|number| tekken::with_version(path, number)).transpose()?;
    changed.flatten().ok_or_else(|| {
        let reason = format!("its file lists no control tokens, which {} needs, choose mistral-v7", template.source());
        unsaveable(path, reason)
    })
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    foehn_files::write(&path, bytes).map_err(|source| Error::Write { path, source })
}

fn unsaveable(path: &Path, reason: String) -> Error {
    Error::Unsaveable { path: path.to_owned(), reason }
}
