//! What cleaning did, and why.

use std::fmt;

use serde::Serialize;

use crate::read::Place;

/// The account of one [`clean`](crate::clean): every record that was read is kept, or is among the rejections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The records read, those included that could not be.
    pub read: u64,
    /// The records written.
    pub kept: u64,
    /// The records rejected.
    pub rejected: u64,
    /// What each pass did, in their order; the first is `read`, which rejects what cannot be read.
    pub passes: Vec<PassReport>,
    /// Every record rejected, in the order of the inputs.
    pub rejections: Vec<Rejection>,
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
