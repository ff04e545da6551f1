//! What cleaning did, and why.

mod lengths;
mod page;
mod samples;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use foehn_files::printable;
use serde::Serialize;

use crate::audit::Section;
use crate::error::{Error, Result};
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
    /// The records kept in which a pass found what may be a fault, and may be meant.
    pub flagged: u64,
    /// The [hash](crate::Pipeline::hash) of the pipeline.
    pub pipeline: String,
    /// What each pass did, in their order; the first is `read`, which rejects what cannot be read.
    pub passes: Vec<PassReport>,
    /// Every record rejected, in the order of the inputs.
    pub rejections: Vec<Rejection>,
    /// What passes flag in the records kept, in the order of the inputs. A record may be there for several passes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Rejection>,
    /// What passes would have rejected, and the caller kept; in the order of the inputs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub put_back: Vec<Rejection>,
    /// What the audits found in the records kept, in the pipeline's order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<Section>,
    /// What records do without, as paths, each with the number of records: side columns and metadata that JSON has no
    /// value for, and keys of messages that say nothing of the text.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
    /// The files read, as the caller named them.
    pub inputs: Vec<String>,
    /// What the records kept are like.
    pub distributions: Distributions,
    /// The kinds of reasons, each with some of its records; in the order of the passes, the most frequent first.
    pub reasons: Vec<Reason>,
    /// The kinds of reasons for which records are flagged, likewise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flag_reasons: Vec<Reason>,
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
    /// The records that it flagged, of those that are kept at the end.
    pub flagged: u64,
}

/// One record that was rejected, or kept and flagged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// The record's id, or the hash of its content.
    pub id: String,
    /// Where it was read.
    #[serde(flatten)]
    pub place: Place,
    /// The pass that found it.
    pub pass: String,
    /// Why.
    pub reason: String,
    /// The records because of which it was, if it was for others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Place>,
}

impl Report {
    /// Tells a cleaning that kept nothing from one that left something to use.
    ///
    /// # Errors
    /// [`Error::NothingKept`](crate::Error::NothingKept) with the most frequent reasons, if records were read and none is
    /// kept.
    pub fn require_kept(&self) -> Result<()> {
        if self.kept > 0 || self.read == 0 {
            return Ok(());
        }
        let mut reasons: Vec<&Reason> = self.reasons.iter().collect();
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
        let shown =
            reasons.iter().take(5).map(|found| format!("{} by `{}`: {}", found.count, found.pass, found.reason));
        let reasons = shown.collect::<Vec<_>>().join("; ");
        Err(Error::NothingKept { read: self.read, reasons })
    }

    /// What records do without: `score (of 12 records), messages[].name (of 3 records)`.
    fn left_out_in_words(&self) -> String {
        let named = self.left_out.iter().map(|(name, count)| {
            let name: String = printable(name).to_string().chars().take(60).collect();
            format!("{name} (of {count} records)")
        });
        named.collect::<Vec<_>>().join(", ")
    }

    /// Writes the account as JSON.
    ///
    /// # Errors
    /// [`Error::Write`](crate::Error::Write).
    pub fn save(&self, path: &Path) -> Result<()> {
        crate::file::write_json(path, self)
    }

    /// Writes the account as one page of HTML for people. It holds everything that it shows: it needs no network and no script.
    ///
    /// # Errors
    /// [`Error::Write`](crate::Error::Write).
    pub fn save_page(&self, path: &Path) -> Result<()> {
        crate::file::write(path, &self.to_html())
    }

    /// The page that [`save_page`](Self::save_page) writes.
    pub fn to_html(&self) -> String {
        page::page(self)
    }
}

impl PassReport {
    pub(crate) fn new(pass: &str) -> Self {
        Self { pass: pass.to_owned(), kept: 0, changed: 0, rejected: 0, flagged: 0 }
    }
}

/// A table of at most 100 columns, one line a pass.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { read, kept, rejected, flagged, .. } = self;
        writeln!(f, "{read} records read, {kept} kept, {rejected} rejected")?;
        if *flagged > 0 {
            writeln!(f, "{flagged} of those kept are flagged, and worth a look")?;
        }
        if !self.left_out.is_empty() {
            writeln!(f, "left out: {}", self.left_out_in_words())?;
        }
        writeln!(f, "{:<24}{:>12}{:>12}{:>12}{:>12}", "pass", "kept", "changed", "rejected", "flagged")?;
        for PassReport { pass, kept, changed, rejected, flagged } in &self.passes {
            // A caller's own pass may have any name.
            let name: String = printable(pass).to_string().chars().take(23).collect();
            writeln!(f, "{name:<24}{kept:>12}{changed:>12}{rejected:>12}{flagged:>12}")?;
        }
        Ok(())
    }
}
