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
    /// A field of the suite can't be used.
    #[error(
        "{}: `{field}` is {found}, expected {expected}",
        path.display(),
        found = printable(found),
        expected = printable(expected)
    )]
    SuiteField {
        /// The suite file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// The accepted values.
        expected: String,
    },
    /// A line of a probe file is not valid.
    #[error("{}:{line}: not a probe of this suite", path.display())]
    ProbeSyntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// A field of a probe can't be used.
    #[error(
        "{}:{line}: probe `{id}` has `{field}` = `{found}`, expected {expected}",
        path.display(),
        id = printable(id),
        found = printable(found),
        expected = printable(expected)
    )]
    ProbeField {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The probe.
        id: String,
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// The accepted values.
        expected: String,
    },
    /// A probe file has changed since the suite was frozen.
    #[error(
        "{} has changed since the suite was frozen: its sha256 is {found}, the suite says {expected}; figures over different probes can't be compared",
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
    /// A training record contains a probe.
    #[error(
        "probe `{probe}` is in the training record `{record}` ({how}): take the record out of the training data",
        probe = printable(probe),
        record = printable(record)
    )]
    Leak {
        /// The probe or scene.
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
    /// The log-likelihood of a label is not a finite number.
    #[error(
        "the log-probability of a token of `{label}` after `{question}` is {value}: the weights or the adapter are broken",
        label = printable(label),
        question = printable(question)
    )]
    NonFiniteScore {
        /// The label.
        label: String,
        /// The question.
        question: String,
        /// The token's log-probability.
        value: f64,
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
    /// The lexicon cannot be used.
    #[error("the suite's lexicon can't be used")]
    Lexicon {
        /// The reader's error.
        #[from]
        source: foehn_corpus::Error,
    },
    /// A question could not be rendered or packed.
    #[error("a probe could not be rendered with the model's template")]
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
}

/// What a training record and a probe share.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shared {
    /// The group.
    Group(String),
    /// The whole probe, ignoring case and punctuation. For a scene, the request to describe it.
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
