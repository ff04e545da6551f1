//! Reads a suite's files. Errors name the file and the line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use foehn_corpus::SenseLexicon;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::Probe;
use crate::{Error, Result};

/// The suite file; its fields are those of the example of [`Suite`](super::Suite).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteFile {
    pub name: String,
    pub labels: Vec<String>,
    pub recognition: RecognitionFile,
    pub production: ProductionFile,
}

/// Its table `recognition`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecognitionFile {
    pub probes: PathBuf,
    pub sha256: String,
    pub questions: Vec<String>,
}

/// Its table `production`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProductionFile {
    pub scenes: PathBuf,
    pub sha256: String,
    pub question: String,
    pub lexicon: PathBuf,
    pub unseen_lexicon: Option<PathBuf>,
}

/// The items of a JSONL file with their line numbers, at least one. Checks that the file is the frozen one.
pub fn frozen_lines<T: DeserializeOwned>(path: &Path, expected: &str) -> Result<Vec<(usize, T)>> {
    let bytes = read(path)?;
    let found = sha256(&bytes);
    if found != expected {
        return Err(Error::NotFrozen { path: path.to_owned(), expected: expected.to_owned(), found });
    }
    let lines = (1..).zip(bytes.split(|byte| *byte == b'\n'));
    let items = lines.filter(|(_, line)| !line.trim_ascii().is_empty()).map(|(line, text)| {
        let item = serde_json::from_slice(text);
        item.map(|item| (line, item)).map_err(|source| Error::ProbeSyntax { path: path.to_owned(), line, source })
    });
    let items: Vec<(usize, T)> = items.collect::<Result<_>>()?;
    if items.is_empty() {
        return Err(suite_field(path, "probes", "an empty file".to_owned(), "a line at least".to_owned()));
    }
    Ok(items)
}

/// The index of each probe's label.
pub fn truth(path: &Path, probes: &[(usize, Probe)], labels: &[String]) -> Result<Vec<usize>> {
    let label = |(line, probe): &(usize, Probe)| {
        let found = labels.iter().position(|label| *label == probe.modality);
        found.ok_or_else(|| Error::ProbeField {
            path: path.to_owned(),
            line: *line,
            id: probe.id.clone(),
            field: "modality",
            found: probe.modality.clone(),
            expected: format!("one of {labels:?}"),
        })
    };
    probes.iter().map(label).collect()
}

/// A lexicon for the suite's labels, with its hash.
pub fn lexicon_of(suite: &Path, path: &Path, labels: &[String]) -> Result<(SenseLexicon, String)> {
    let lexicon = SenseLexicon::load(path)?;
    let classes: BTreeSet<&String> = lexicon.classes().iter().collect();
    if classes != labels.iter().collect() {
        let expected = format!("one whose classes are {labels:?}");
        return Err(suite_field(suite, "production.lexicon", format!("one of {classes:?}"), expected));
    }
    Ok((lexicon, sha256(&read(path)?)))
}

/// Refuses an id that occurs twice.
pub fn check_ids<'a>(path: &Path, ids: impl Iterator<Item = (usize, &'a String)>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (line, id) in ids {
        if !seen.insert(id) {
            return Err(Error::ProbeField {
                path: path.to_owned(),
                line,
                id: id.clone(),
                field: "id",
                found: id.clone(),
                expected: "an id of its own".to_owned(),
            });
        }
    }
    Ok(())
}

/// Refuses labels and questions that cannot be used to ask anything.
pub fn check_wording(path: &Path, file: &SuiteFile) -> Result<()> {
    let SuiteFile { labels, recognition, production, .. } = file;
    let distinct: BTreeSet<&str> = labels.iter().map(|label| label.trim()).filter(|label| !label.is_empty()).collect();
    let lacks_sentence = recognition.questions.iter().find(|question| !question.contains("{sentence}"));
    let lacks_scene = ["{scene}", "{label}"].iter().any(|part| !production.question.contains(part));
    let rules = [
        (
            labels.len() >= 2 && distinct.len() == labels.len(),
            "labels",
            format!("{labels:?}"),
            "two or more different names",
        ),
        (!recognition.questions.is_empty(), "recognition.questions", "[]".to_owned(), "a question at least"),
        (
            lacks_sentence.is_none(),
            "recognition.questions",
            format!("`{}`", lacks_sentence.map_or("", String::as_str)),
            "a question with {sentence} in it",
        ),
        (
            !lacks_scene,
            "production.question",
            format!("`{}`", production.question),
            "a question with {scene} and {label} in it",
        ),
    ];
    match rules.into_iter().find(|(holds, ..)| !holds) {
        None => Ok(()),
        Some((_, field, found, expected)) => Err(suite_field(path, field, found, expected.to_owned())),
    }
}

fn suite_field(path: &Path, field: &'static str, found: String, expected: String) -> Error {
    Error::SuiteField { path: path.to_owned(), field, found, expected }
}

/// SHA-256 in hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}
