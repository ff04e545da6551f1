//! Errors of an evaluation.

use std::path::PathBuf;

use foehn_files::printable;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the suite could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A report could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The suite file is not valid.
    #[error("{}: not a suite", path.display())]
    SuiteSyntax {
        /// The file.
        path: PathBuf,
        /// The parser's error, with line and column.
        source: Box<toml::de::Error>,
    },
    /// A key of a suite can't be used.
    #[error(
        "{}: the task `{task}` has `{field}` = {found}, expected {expected}",
        path.display(),
        task = printable(task),
        found = printable(found),
        expected = printable(expected)
    )]
    SuiteField {
        /// The suite file.
        path: PathBuf,
        /// The task.
        task: String,
        /// The key.
        field: &'static str,
        /// Its value.
        found: String,
        /// The accepted values.
        expected: String,
    },
    /// A record that does not end with an answer to a question, or whose answer has calls of tools or reasoning.
    #[error("the record {} does not end with an answer of text alone to a question", printable(record))]
    NoAnswer {
        /// Its id, or its number.
        record: String,
    },
    /// A scorer's scores cannot be used.
    #[error("the scores of the answers to {} are {found:?}, expected {expected} finite numbers", printable(record))]
    Scores {
        /// The record.
        record: String,
        /// The scores.
        found: Vec<f64>,
        /// The number of answers.
        expected: usize,
    },
    /// A scorer that is another program failed.
    #[error("the scorer `{}` failed: {}", printable(command), printable(reason))]
    Scorer {
        /// The command.
        command: String,
        /// What happened.
        reason: String,
    },
    /// A file has no items.
    #[error("{}: nothing to ask: the file is empty", path.display())]
    NoItems {
        /// The file.
        path: PathBuf,
    },
    /// A line of a task's file is not a JSON object.
    #[error("{}:{line}: not a JSON object", path.display())]
    ItemSyntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// A field of an item can't be used.
    #[error(
        "{place}: `{field}` is {found}, expected {expected}",
        place = printable(place),
        field = printable(field),
        found = printable(found),
        expected = printable(expected)
    )]
    ItemField {
        /// The file and the line.
        place: String,
        /// The field.
        field: String,
        /// Its value.
        found: String,
        /// The accepted values.
        expected: String,
    },
    /// An answer does not have its label where the rule says.
    #[error("{place}: the answer has no label by the rule `{rule}`", place = printable(place), rule = printable(rule))]
    NoLabel {
        /// The file and the line.
        place: String,
        /// The rule.
        rule: String,
    },
    /// All answers have the same label.
    #[error(
        "{place}: every answer has the label `{label}`: with one label there is nothing to tell apart",
        place = printable(place),
        label = printable(label)
    )]
    OneLabel {
        /// The file and the line of the first answer.
        place: String,
        /// The label.
        label: String,
    },
    /// A file has changed since the suite was frozen.
    #[error(
        "{} has changed since the suite was frozen: its sha256 is {found}, the suite says {expected}; figures over different items can't be compared",
        path.display(),
        found = printable(found),
        expected = printable(expected)
    )]
    NotFrozen {
        /// The file.
        path: PathBuf,
        /// The hash in the suite.
        expected: String,
        /// The file's hash.
        found: String,
    },
    /// A training record contains an item.
    #[error(
        "the item `{probe}` is in the training record `{record}` ({how}): take the record out of the training data",
        probe = printable(probe),
        record = printable(record)
    )]
    Leak {
        /// The item.
        probe: String,
        /// The training record's id, or its position in the data.
        record: String,
        /// What they share.
        how: Shared,
    },
    /// A setting of the evaluation is out of its range.
    #[error("the evaluation setting `{field}` is {found}, expected {expected}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// Its value.
        found: usize,
        /// The accepted values.
        expected: &'static str,
    },
    /// The tokenizer has tokens for which the model has no embedding.
    #[error("the tokenizer has {tokens} tokens, the model {vocab_size}: do they belong together?")]
    TokenizerMismatch {
        /// The tokenizer's vocabulary.
        tokens: usize,
        /// The number of rows of the model's embedding.
        vocab_size: usize,
    },
    /// A log-likelihood is not a finite number.
    #[error(
        "{place}: the log-probability of a token of `{text}` is {value}: the weights or the adapter are broken",
        place = printable(place),
        text = printable(text)
    )]
    NonFiniteScore {
        /// The item's file and line.
        place: String,
        /// The text that was scored.
        text: String,
        /// The token's log-probability.
        value: f64,
    },
    /// The model's template changes a text so much that a label is not found in its tokens.
    #[error("{place}: the label `{label}` is not found in the answer that the template renders", place = printable(place), label = printable(label))]
    LabelNotRendered {
        /// The item's file and line.
        place: String,
        /// The label.
        label: String,
    },
    /// Two runs are not over the same items, so they cannot be compared.
    #[error(
        "the runs `{first}` and `{second}` are not over the same items ({what})",
        first = printable(first),
        second = printable(second)
    )]
    DifferentItems {
        /// The first run's name.
        first: String,
        /// The second run's name.
        second: String,
        /// The difference.
        what: &'static str,
    },
    /// The records or a lexicon cannot be read.
    #[error(transparent)]
    Corpus(Box<foehn_corpus::Error>),
    /// An item could not be rendered, or it is too long.
    #[error("{place}: the item `{id}` cannot be asked", place = printable(place), id = printable(id))]
    Render {
        /// The item's file and line.
        place: String,
        /// The item.
        id: String,
        /// The error of the template.
        source: Box<foehn_tokens::Error>,
    },
    /// The model's template cannot be used at all.
    #[error("the model's template could not be rendered")]
    Tokens {
        /// The template's error.
        #[from]
        source: foehn_tokens::Error,
    },
    /// An answer could not be generated.
    #[error("an answer could not be generated")]
    Generate {
        /// The error of the generation.
        #[from]
        source: foehn_generate::Error,
    },
    /// A gate's file is not valid.
    #[error("{}: not a gate", path.display())]
    GateSyntax {
        /// The file.
        path: PathBuf,
        /// The parser's error, with line and column.
        source: Box<toml::de::Error>,
    },
    /// A gate asks for a figure that the report does not have.
    #[error(
        "the floor {number} of the gate asks for {wanted}, which the report does not have: it has {there}",
        wanted = printable(wanted),
        there = printable(there)
    )]
    GateFigure {
        /// The number of the floor in the gate's file, from 1.
        number: usize,
        /// What it asks for.
        wanted: String,
        /// What there is.
        there: String,
    },
}

impl From<foehn_corpus::Error> for Error {
    fn from(source: foehn_corpus::Error) -> Self {
        Self::Corpus(Box::new(source))
    }
}

/// What a training record and an item share.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shared {
    /// The group.
    Group(String),
    /// The whole text of the item, ignoring case and punctuation.
    Text(String),
    /// Consecutive words.
    Words(String),
}

impl std::fmt::Display for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Group(group) => write!(formatter, "both are of the group `{}`", printable(group)),
            Self::Text(text) => write!(formatter, "it holds `{}`", printable(text)),
            Self::Words(words) => write!(formatter, "both hold the words `{}`", printable(words)),
        }
    }
}
