//! What a person decides about doubtful records: new labels, and labels that stay.

mod lines;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use foehn_evaluate::LabelRule;
use foehn_record::Record;
use serde::{Deserialize, Serialize};

use super::source::Source;
use super::{Audit, AuditError, AuditedTask, Judged};

/// A label for one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The record's line.
    pub line: u64,
    /// Its new label.
    pub label: String,
}

/// What was changed in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// The number of records with another label than before.
    pub records: usize,
    /// Whether all other records have their bytes of before. Data in other formats than JSON lines is written as such.
    pub same_bytes: bool,
    /// Other fields of changed records that say the old label, and how often. They are left as they are.
    pub others: BTreeMap<String, usize>,
}

impl Audit {
    /// The change that `NAME` or `NAME=LABEL` asks for. A name is a line or an id; without a label, the record gets the
    /// one that the model prefers.
    ///
    /// # Errors
    /// [`AuditError::UnknownRecord`], [`AuditError::UnknownLabel`], and [`AuditError::SameLabel`] if this is no change.
    pub fn change(&self, asked: &str) -> Result<Change, AuditError> {
        let (judged, label) = match (self.record(asked), asked.split_once('=')) {
            (Err(_), Some((name, label))) => (self.record(name.trim())?, label.trim()),
            (judged, _) => judged.map(|judged| (judged, judged.likeliest()))?,
        };
        let (line, labels) = (judged.line, &self.task(judged).labels);
        if !labels.iter().any(|known| known == label) {
            return Err(AuditError::UnknownLabel { line, found: label.to_owned(), labels: labels.clone() });
        }
        if label == judged.given {
            return Err(AuditError::SameLabel { line, label: label.to_owned() });
        }
        Ok(Change { line, label: label.to_owned() })
    }

    fn task(&self, judged: &Judged) -> &AuditedTask {
        &self.tasks[judged.task]
    }

    /// Writes the audited data with other labels. A label is changed in the record's answer, in the field that the rule
    /// names, and in a field `label` that says the same; nothing else is changed, and no record is dropped.
    ///
    /// JSON lines keep every other byte. Data in another format is written as JSON lines. What is written is read again
    /// and compared before it takes its place.
    ///
    /// # Errors
    /// [`AuditError::DataChanged`] if the data is not what was audited; [`AuditError::NotLines`],
    /// [`AuditError::WouldBeLost`], [`AuditError::NotChanged`], and the errors of reading and writing.
    pub fn relabel(&self, changes: &[Change], out: &Path) -> Result<Changed, AuditError> {
        let is_lines = out.extension().is_some_and(|end| end == "jsonl");
        if !is_lines {
            return Err(AuditError::NotLines { path: out.to_owned() });
        }
        let data = self.source()?;
        let changes: BTreeMap<u64, &str> = changes.iter().map(|change| (change.line, change.label.as_str())).collect();
        let mut wanted: BTreeMap<u64, Record> =
            data.entries.iter().map(|entry| (entry.line, entry.record.clone())).collect();
        let mut changed = Changed { records: changes.len(), ..Changed::default() };
        for (line, label) in &changes {
            let judged = self.record(&line.to_string())?;
            let (Some(record), Ok(rule)) = (wanted.get_mut(line), self.task(judged).rule.parse()) else {
                return Err(AuditError::NotChanged { line: *line });
            };
            set_label(record, &rule, &judged.given, label).ok_or(AuditError::NotChanged { line: *line })?;
            let says_old = record.metadata.iter().filter(|(_, value)| value.as_str() == Some(&judged.given));
            says_old.for_each(|(field, _)| *changed.others.entry(field.clone()).or_default() += 1);
        }
        let bytes = std::fs::read(&data.path).map_err(failed(&data.path))?;
        let text = match lines::changed(&bytes, &data, &wanted) {
            Some(text) => {
                changed.same_bytes = true;
                text
            }
            None => lines::all(&data, &wanted)?,
        };
        lines::check(&text, &data, &wanted, changed.same_bytes)?;
        foehn_files::write(out, &text).map_err(failed(out))?;
        Ok(changed)
    }

    /// The audited data.
    fn source(&self) -> Result<Source, AuditError> {
        let data = Source::read(&self.data)?;
        match data.sha256 == self.data_sha256 {
            true => Ok(data),
            false => Err(AuditError::DataChanged { path: self.data.clone() }),
        }
    }

    /// Saves the audit as JSON.
    ///
    /// # Errors
    /// [`AuditError::File`].
    pub fn save(&self, path: &Path) -> Result<(), AuditError> {
        let json = serde_json::to_string_pretty(self).unwrap_or_default();
        foehn_files::write(path, json.as_bytes()).map_err(failed(path))
    }

    /// Reads an audit that was saved.
    ///
    /// # Errors
    /// [`AuditError::File`] and [`AuditError::Syntax`].
    pub fn load(path: &Path) -> Result<Self, AuditError> {
        let text = foehn_files::read_to_string(path, foehn_files::MAX_TEXT).map_err(failed(path))?;
        let syntax = |source| AuditError::Syntax { path: path.to_owned(), what: "an audit", source };
        let audit: Self = serde_json::from_str(&text).map_err(syntax)?;
        let is_sound = |judged: &Judged| judged.task < audit.tasks.len();
        match audit.judged.iter().all(is_sound) {
            true => Ok(audit),
            false => Err(syntax(serde::de::Error::custom("a record is of no task"))),
        }
    }
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> AuditError {
    move |source| AuditError::File { path: path.to_owned(), source }
}

/// Puts a label in the place of the old one. `None` if the record does not have it where the rule says.
fn set_label(record: &mut Record, rule: &LabelRule, old: &str, new: &str) -> Option<()> {
    let answer = &mut record.messages.last_mut()?.content;
    let place = rule.find(answer, &[old.to_owned()])?;
    answer.replace_range(place, &rule.written(new));
    let named = if let LabelRule::Field(name) = rule { name.as_str() } else { "label" };
    for field in BTreeSet::from([named, "label"]) {
        match record.metadata.get_mut(field) {
            Some(value) if value.as_str() == Some(old) => *value = new.into(),
            _ => {}
        }
    }
    // The rule has to find the new label, or the next audit would not.
    (rule.of_record(record)? == new).then_some(())
}

/// Records that a person has looked at, and whose labels stay.
///
/// A record is known by what it says: after a change of its text or its label it is open again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Review(Vec<Kept>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    fingerprint: String,
    line: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    label: String,
}

impl Review {
    /// Reads a review that was saved; an empty one if there is no file.
    ///
    /// # Errors
    /// [`AuditError::File`] and [`AuditError::Syntax`].
    pub fn load(path: &Path) -> Result<Self, AuditError> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = foehn_files::read_to_string(path, foehn_files::MAX_TEXT).map_err(failed(path))?;
        let syntax = |source| AuditError::Syntax { path: path.to_owned(), what: "a list of kept records", source };
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        Ok(Self(lines.map(serde_json::from_str).collect::<Result<_, _>>().map_err(syntax)?))
    }

    /// Adds a record.
    pub fn keep(&mut self, judged: &Judged) {
        if !self.0.iter().any(|kept| kept.fingerprint == judged.fingerprint) {
            let Judged { fingerprint, line, id, given, .. } = judged.clone();
            self.0.push(Kept { fingerprint, line, id, label: given });
        }
    }

    /// Marks the records of the review in an audit. Returns the number of records that are marked now.
    pub fn mark(&self, audit: &mut Audit) -> usize {
        let known: BTreeSet<&str> = self.0.iter().map(|kept| kept.fingerprint.as_str()).collect();
        audit.judged.iter_mut().for_each(|judged| judged.is_kept |= known.contains(judged.fingerprint.as_str()));
        audit.judged.iter().filter(|judged| judged.is_kept).count()
    }

    /// Saves the review: a JSON object a line.
    ///
    /// # Errors
    /// [`AuditError::File`].
    pub fn save(&self, path: &Path) -> Result<(), AuditError> {
        let line = |kept: &Kept| serde_json::to_string(kept).unwrap_or_default() + "\n";
        foehn_files::write(path, self.0.iter().map(line).collect::<String>().as_bytes()).map_err(failed(path))
    }
}
