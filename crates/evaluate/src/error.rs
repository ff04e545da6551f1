//! What can go wrong while a model is measured.

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
        /// What the system said.
        source: std::io::Error,
    },
    /// A report could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The suite file is not the TOML that it should be.
    #[error("{}: not a suite", path.display())]
    SuiteSyntax {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
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
        /// What would be accepted.
        expected: String,
    },
    /// A line of a probe file is not the JSON that it should be.
    #[error("{}:{line}: not a probe of this suite", path.display())]
    ProbeSyntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser said.
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
        /// What would be accepted.
        expected: String,
    },
    /// A probe file is not the one that the suite was frozen with.
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
    /// A training record gives a probe away.
    #[error(
        "probe `{probe}` is in the training record `{record}` ({how}): take the record out of the training data",
        probe = printable(probe),
        record = printable(record)
    )]
    Leak {
        /// The probe or scene.
        probe: String,
        /// The training record's id, or its place in the data.
        record: String,
        /// What the two share.
        how: Shared,
    },
    /// A setting of the evaluation is out of its range.
    #[error("the evaluation setting `{field}` is {found}, expected {expected}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// Its value.
        found: usize,
        /// What would be accepted.
        expected: &'static str,
    },
    /// The tokenizer has tokens that the model has no embedding for.
    #[error("the tokenizer has {tokens} tokens, the model {vocab_size}: do they belong together?")]
    TokenizerMismatch {
        /// The tokenizer's vocabulary.
        tokens: usize,
        /// Rows of the model's embedding.
        vocab_size: usize,
    },
    /// The model gives a label no likelihood that is a number.
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
    /// Two runs are not over the same items, so they can't be compared.
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
        /// What differs.
        what: &'static str,
    },
    /// The lexicon can't be used.
    #[error("the suite's lexicon can't be used")]
    Lexicon {
        /// What its reader said.
        #[from]
        source: foehn_corpus::Error,
    },
    /// A question could not be rendered or packed.
    #[error("a probe could not be rendered with the model's template")]
    Tokens {
        /// What the template said.
        #[from]
        source: foehn_tokens::Error,
    },
    /// An answer could not be generated.
    #[error("an answer could not be generated")]
    Generate {
        /// What the generation said.
        #[from]
        source: foehn_generate::Error,
    },
}

/// What a training record has in common with a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shared {
    /// The group.
    Group(String),
    /// The whole probe, but for case and punctuation; of a scene, the request to describe it.
    Text(String),
    /// A run of so many words.
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
