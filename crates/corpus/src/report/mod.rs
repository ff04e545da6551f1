//! What cleaning did, and why.

mod lengths;
mod page;
mod samples;

use std::fmt;
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use crate::audit::Section;
use crate::error::Result;
use crate::file::write_error;
use crate::read::Place;

pub use lengths::{Bin, Distributions, LabelCounts, Lengths};
pub use samples::{Change, Reason, Repairs, Sample, Turn};
pub(crate) use samples::{Samples, Shown};

/// The account of one [`clean`](crate::clean): every record that was read is kept, or is among the rejections.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The records read, those included that could not be.
    pub read: u64,
    /// The records written, or that would be.
    pub kept: u64,
    /// The records rejected.
    pub rejected: u64,
    /// What each pass did, in their order; the first is `read`, which rejects what cannot be read.
    pub passes: Vec<PassReport>,
    /// Every record rejected, in the order of the inputs.
    pub rejections: Vec<Rejection>,
    /// What passes would have rejected, and the caller kept; in the order of the inputs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub put_back: Vec<Rejection>,
    /// What the audits found in the records kept, in the pipeline's order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<Section>,
    /// The files read, as the caller named them.
    pub inputs: Vec<String>,
    /// What the records kept are like.
    pub distributions: Distributions,
    /// The kinds of reasons, each with some of its records; in the order of the passes, the most frequent first.
    pub reasons: Vec<Reason>,
    /// Some of what each pass repaired, in the order of the passes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<Repairs>,
}

/// What one pass did with the records that reached it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassReport {
    /// The pass.
    pub pass: String,
    /// The records that it let go on, changed or not.
    pub kept: u64,
    /// The records that it changed.
    pub changed: u64,
    /// The records that it rejected.
    pub rejected: u64,
}

/// One record that was rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// The record's id, or the hash of its content.
    pub id: String,
    /// Where it was read.
    #[serde(flatten)]
    pub place: Place,
    /// The pass that rejected it.
    pub pass: String,
    /// Why.
    pub reason: String,
    /// The records because of which it was rejected, if it was for others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Place>,
}

impl Report {
    /// Writes the account as JSON.
    ///
    /// # Errors
    /// [`Error::Write`](crate::Error::Write).
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut draft = Draft::new(path)?;
        let written = serde_json::to_writer_pretty(&mut draft, self).map_err(Into::into);
        written.and_then(|()| draft.write_all(b"\n")).map_err(|source| write_error(path, source))?;
        draft.finish()
    }

    /// Writes the account as one page of HTML for people. It holds everything that it shows: it needs no network and no script.
    ///
    /// # Errors
    /// [`Error::Write`](crate::Error::Write).
    pub fn save_page(&self, path: &Path) -> Result<()> {
        let mut draft = Draft::new(path)?;
        draft.write_all(self.to_html().as_bytes()).map_err(|source| write_error(path, source))?;
        draft.finish()
    }

    /// The page that [`save_page`](Self::save_page) writes.
    pub fn to_html(&self) -> String {
        page::page(self)
    }
}

impl PassReport {
    pub(crate) fn new(pass: &str) -> Self {
        Self { pass: pass.to_owned(), kept: 0, changed: 0, rejected: 0 }
    }
}

/// A table of at most 100 columns, one line a pass.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { read, kept, rejected, .. } = self;
        writeln!(f, "{read} records read, {kept} kept, {rejected} rejected")?;
        writeln!(f, "{:<24}{:>12}{:>12}{:>12}", "pass", "kept", "changed", "rejected")?;
        for PassReport { pass, kept, changed, rejected } in &self.passes {
            // A caller's own pass may have any name.
            let name: String = pass.chars().take(23).collect();
            writeln!(f, "{name:<24}{kept:>12}{changed:>12}{rejected:>12}")?;
        }
        Ok(())
    }
}
