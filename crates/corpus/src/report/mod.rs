//! The report of a cleaning.

mod earlier;
mod lengths;
mod page;
mod samples;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use foehn_files::printable;
use serde::{Deserialize, Serialize};

use crate::audit::Section;
use crate::error::{Error, Result};
use crate::read::{Place, ReadAs};

pub use earlier::{Difference, EarlierReport, Limit};
pub use lengths::{Bin, Distributions, LabelCounts, Lengths, PairLengths};
pub use samples::{Change, Reason, Repairs, Sample, Turn};
pub(crate) use samples::{Needed, Samples, Shown};

/// The report of one [`clean`](crate::clean). Every record that was read is either kept or among the rejections.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CleanReport {
    /// The number of records read, including those that could not be parsed.
    pub read: u64,
    /// The number of records written, or that would be written.
    pub kept: u64,
    /// The number of rejected records.
    pub rejected: u64,
    /// The number of kept records in which a pass found something that may be a fault or may be intended.
    pub flagged: u64,
    /// The [hash](crate::Pipeline::hash) of the pipeline.
    pub pipeline: String,
    /// The counts of each pass, in order. The first entry is `read`, which rejects records that cannot be read.
    pub passes: Vec<PassReport>,
    /// All rejected records, in the order of the inputs.
    pub rejections: Vec<Rejection>,
    /// The flags on kept records, in the order of the inputs. A record can have flags of several passes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Rejection>,
    /// The records that passes would have rejected and that the caller kept, in the order of the inputs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub put_back: Vec<Rejection>,
    /// The results of the audits on the kept records, in the order of the pipeline.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<Section>,
    /// The parts of records that were left out, as paths, each with the number of records: side columns and metadata
    /// that JSON cannot express, and keys of messages that do not concern the text.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
    /// The files, as the caller wrote them.
    pub inputs: Vec<String>,
    /// How the tables and the files in another encoding than UTF-8 were read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_as: Vec<ReadAs>,
    /// The number of records kept of each file. Kept records have the order of the files.
    #[serde(skip)]
    pub kept_of: Vec<u64>,
    /// The distributions of the kept records.
    pub distributions: Distributions,
    /// The kinds of reasons, each with some records as samples; in the order of the passes, the most frequent first.
    pub reasons: Vec<Reason>,
    /// The kinds of reasons for flags, in the same form.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flag_reasons: Vec<Reason>,
    /// Some of the repairs of each pass, in the order of the passes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<Repairs>,
}

/// The counts of one pass, over the records that reached it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassReport {
    /// The pass.
    pub pass: String,
    /// The number of records that it kept, changed or not.
    pub kept: u64,
    /// The number of records that it changed.
    pub changed: u64,
    /// The number of records that it rejected.
    pub rejected: u64,
    /// The number of records that it flagged, among those that are kept at the end.
    pub flagged: u64,
}

/// A record that was rejected, or kept and flagged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// The record's id, or the hash of its content.
    pub id: String,
    /// The place where it was read.
    #[serde(flatten)]
    pub place: Place,
    /// The pass that found it.
    pub pass: String,
    /// The reason.
    pub reason: String,
    /// The other records because of which it was rejected or flagged, if there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Place>,
}

impl CleanReport {
    /// Returns an error if records were read but none was kept.
    ///
    /// # Errors
    /// [`Error::NothingKept`](crate::Error::NothingKept) with the most frequent reasons.
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

    /// The parts that were left out, as text: `score (of 12 records), messages[].name (of 3 records)`.
    fn left_out_in_words(&self) -> String {
        let named = self.left_out.iter().map(|(name, count)| {
            let name: String = printable(name).to_string().chars().take(60).collect();
            format!("{name} (of {count} records)")
        });
        named.collect::<Vec<_>>().join(", ")
    }

    /// Writes the report as JSON.
    ///
    /// # Errors
    /// [`Error::Write`](crate::Error::Write).
    pub fn save(&self, path: &Path) -> Result<()> {
        crate::file::write_json(path, self)
    }

    /// Writes the report as one HTML page. The page is self-contained: it needs no network and no script.
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

/// A table of at most 100 columns, with one line per pass.
impl fmt::Display for CleanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { read, kept, rejected, flagged, .. } = self;
        writeln!(f, "{read} records read, {kept} kept, {rejected} rejected")?;
        if *flagged > 0 {
            writeln!(f, "{flagged} of those kept are flagged, and worth a look")?;
        }
        if let Some(pairs) = &self.distributions.pairs {
            writeln!(f, "{}", pairs.said())?;
            if let Some(bias) = pairs.bias() {
                writeln!(f, "{bias}")?;
            }
        }
        for file in self.read_as.iter().filter(|file| file.is_unusual()) {
            writeln!(f, "{file}")?;
        }
        if !self.left_out.is_empty() {
            writeln!(f, "left out: {}", self.left_out_in_words())?;
        }
        writeln!(f, "{:<24}{:>12}{:>12}{:>12}{:>12}", "pass", "kept", "changed", "rejected", "flagged")?;
        for PassReport { pass, kept, changed, rejected, flagged } in &self.passes {
            // The name of a caller's own pass may be long.
            let name: String = printable(pass).to_string().chars().take(23).collect();
            writeln!(f, "{name:<24}{kept:>12}{changed:>12}{rejected:>12}{flagged:>12}")?;
        }
        Ok(())
    }
}
