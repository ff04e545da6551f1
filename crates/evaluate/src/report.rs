//! The result of an evaluation, as JSON and as text.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Comparison, Error, Evaluation, Hashes, Result, Suite, compare, table};

/// A base model, an adapter on it, and the comparison of the two.
///
/// [`Display`](std::fmt::Display) prints tables of up to 100 columns, for up to ten labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The suite's name.
    pub suite: String,
    /// The hashes of its files.
    pub hashes: Hashes,
    /// Its labels, in the order of every list and matrix.
    pub labels: Vec<String>,
    /// Its paraphrases of the recognition question, in the order of every list.
    pub questions: Vec<String>,
    /// The base model.
    pub base: Evaluation,
    /// The base with the adapter.
    pub adapter: Option<Evaluation>,
    /// The adapter's run compared with the base's.
    pub comparison: Option<Comparison>,
}

impl Report {
    /// A report of one run, or of two runs and their comparison. `seed` is the seed of the bootstrap.
    ///
    /// # Errors
    /// [`Error::DifferentItems`].
    pub fn new(suite: &Suite, base: Evaluation, adapter: Option<Evaluation>, seed: u64) -> Result<Self> {
        let comparison = adapter.as_ref().map(|adapter| compare(&base, adapter, seed)).transpose()?;
        Ok(Self {
            suite: suite.name().to_owned(),
            hashes: suite.hashes().clone(),
            labels: suite.labels().to_vec(),
            questions: suite.questions().to_vec(),
            base,
            adapter,
            comparison,
        })
    }

    /// Writes the report as JSON, whole or not at all; it can be printed.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let failed = |source| Error::Write { path: path.to_owned(), source };
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.into()))?;
        let text = format!("{}\n", foehn_files::printable_json(text));
        foehn_files::write(path, text.as_bytes()).map_err(failed)
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", foehn_files::printable_text(table::render(self)))
    }
}
