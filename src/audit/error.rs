//! What can go wrong with an audit.

use std::path::PathBuf;

use foehn_files::printable;

/// An audit cannot be made, or its decisions cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// A setting is out of its range.
    #[error("`{field}` is {found}, expected {expected}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// Its value.
        found: usize,
        /// The accepted values.
        expected: &'static str,
    },
    /// The data has no record with a question and an answer.
    #[error("{}: no record has a question and an answer: there is nothing to judge", path.display())]
    NoRecords {
        /// The data.
        path: PathBuf,
    },
    /// The answers are texts, or no answer has its label where the rule says.
    #[error(
        "{}: the answers of {records} records are texts and no labels ({rule}): name the place of the label",
        path.display(),
        rule = printable(rule)
    )]
    Texts {
        /// The data.
        path: PathBuf,
        /// The number of records.
        records: usize,
        /// The rule that found no labels.
        rule: String,
    },
    /// All records have the same label.
    #[error(
        "{}: all records of the task `{task}` have the label {label:?}: at least two labels are needed",
        path.display(),
        task = printable(task)
    )]
    OneLabel {
        /// The data.
        path: PathBuf,
        /// The task.
        task: String,
        /// The label.
        label: String,
    },
    /// A label has fewer groups of records than there are folds.
    #[error(
        "{}:{line}: the label {label:?} stands in {groups} {}, fewer than the {folds} folds: correct it if it is \
         mistyped, leave it out of the labels to judge, or add records",
        path.display(),
        if *groups == 1 { "group of records" } else { "groups of records" }
    )]
    TooFewGroups {
        /// The data.
        path: PathBuf,
        /// The line of the first record with the label.
        line: u64,
        /// The label.
        label: String,
        /// The number of its groups.
        groups: usize,
        /// The number of folds.
        folds: usize,
    },
    /// Groups with several labels leave a label in one fold alone.
    #[error(
        "{}:{line}: the groups of the label {label:?} have other labels too and came into one fold: use another seed",
        path.display()
    )]
    OneFold {
        /// The data.
        path: PathBuf,
        /// The line of the first record with the label.
        line: u64,
        /// The label.
        label: String,
    },
    /// The data is not what was audited.
    #[error("{} has changed since the audit: audit it again", path.display())]
    DataChanged {
        /// The data.
        path: PathBuf,
    },
    /// A record is named that the audit has not judged.
    #[error("`{name}` is no line and no id of a judged record", name = printable(name))]
    UnknownRecord {
        /// The name.
        name: String,
    },
    /// A record would get the label that it has.
    #[error(
        "line {line}: the label is {label:?} already, and it is the one that the model prefers: keep the record, or \
         name another label"
    )]
    SameLabel {
        /// The line.
        line: u64,
        /// The label.
        label: String,
    },
    /// A record would get a label that the others do not have.
    #[error("line {line}: {found:?} is not one of the labels {labels:?}")]
    UnknownLabel {
        /// The line.
        line: u64,
        /// The label.
        found: String,
        /// The labels.
        labels: Vec<String>,
    },
    /// Lines of the data cannot be read and would be lost in another format.
    #[error(
        "{}:{line}: the record cannot be read, and would be lost in a copy in another format: mend it first",
        path.display()
    )]
    WouldBeLost {
        /// The data.
        path: PathBuf,
        /// The first such line.
        line: u64,
    },
    /// The changed data cannot be written under this name.
    #[error("{} does not end in .jsonl: the changed data is written as JSON lines", path.display())]
    NotLines {
        /// The file.
        path: PathBuf,
    },
    /// The changed data, when read again, differs from what was wanted.
    #[error("line {line}: the label has no place of its own in the file and cannot be changed: change it by hand")]
    NotChanged {
        /// The first line that differs.
        line: u64,
    },
    /// A file of this crate's is not one.
    #[error("{}: not {what}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// A file cannot be read or written.
    #[error("cannot read or write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// An error of reading the data.
    #[error(transparent)]
    Corpus(#[from] foehn_corpus::Error),
    /// An error of a fold's training.
    #[error(transparent)]
    Training(#[from] foehn_finetune::Error),
    /// An error of scoring.
    #[error(transparent)]
    Evaluation(#[from] foehn_evaluate::Error),
}
