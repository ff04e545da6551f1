//! The verdict on a part: which of its records are removed, and why.

use std::io;

use serde::{Deserialize, Serialize};

use super::fault::PartFault;
use super::manifest::{self, Part, REJECTIONS, REMOVED, VERDICT};
use super::sealed::{Seal, Sealing, Unsealing, read_stamped, write_stamped};
use crate::error::Result;
use crate::output::Columns;
use crate::report::Rejection;

/// The contents of a verdict's file, which is written after the other files of the verdict.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Verdict {
    /// The hash of the part's manifest.
    pub part: String,
    /// A hash of all parts that were judged together.
    pub judgement: String,
    /// The number of the part among them, from 1.
    pub number: usize,
    /// How many parts there are.
    pub of: usize,
    /// The number of records that the part's output has.
    pub kept: u64,
    /// The columns of a table with the records of all parts.
    pub columns: Columns,
    /// The indices of the removed records among those that the part has stored.
    pub removed: Seal,
    /// All rejected records of the part, as in the report.
    pub rejections: Seal,
}

/// A rejection of a verdict, by which a record is found in its file.
#[derive(Debug, Deserialize)]
pub(super) struct Rejected {
    pub file: String,
    pub line: u64,
    pub pass: String,
    pub reason: String,
}

/// Writes the indices of the removed records, which are ascending.
pub(super) fn write_removed(part: &Part, removed: impl Iterator<Item = usize>) -> Result<Seal> {
    let mut file = Sealing::new(part.folder.join(REMOVED))?;
    removed.into_iter().try_for_each(|index| file.number(index as u64))?;
    file.finish()
}

pub(super) fn write_rejections(part: &Part, rejections: &[Rejection]) -> Result<Seal> {
    let mut file = Sealing::new(part.folder.join(REJECTIONS))?;
    for rejection in rejections {
        file.write(|to| {
            serde_json::to_writer(&mut *to, rejection)?;
            to.write_all(b"\n")
        })?;
    }
    file.finish()
}

impl Verdict {
    pub fn write(&self, part: &Part) -> Result<()> {
        write_stamped(&part.folder.join(VERDICT), self)
    }

    /// Reads the verdict on a part.
    pub fn open(part: &Part) -> Result<Self> {
        let text = match foehn_files::read_to_string(part.folder.join(VERDICT), foehn_files::MAX_TEXT) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(part.error(PartFault::NotJudged)),
            text => text.map_err(|source| part.unreadable(VERDICT, source))?,
        };
        let read = read_stamped(&text).ok().flatten();
        let (mut verdict, _): (Self, String) = read.ok_or_else(|| part.damaged(VERDICT))?;
        if verdict.part != part.id {
            return Err(part.error(PartFault::Stale));
        }
        let mut columns = Columns::default();
        columns.merge(&verdict.columns);
        verdict.columns = columns;
        Ok(verdict)
    }

    /// The removed records, in order.
    pub fn removed<'a>(&'a self, part: &'a Part) -> Result<Removed<'a>> {
        let path = part.folder.join(REMOVED);
        let length = std::fs::metadata(&path).map_err(|source| part.unreadable(REMOVED, source))?.len();
        if length != self.removed.bytes {
            return Err(part.damaged(REMOVED));
        }
        let file = Unsealing::new(&path).map_err(|source| part.unreadable(REMOVED, source))?;
        let mut removed = Removed { part, seal: &self.removed, file, next: None };
        removed.advance()?;
        Ok(removed)
    }

    /// The rejections of the part, in order; they are read whole.
    pub fn rejections(&self, part: &Part) -> Result<Vec<Rejected>> {
        let damaged = || part.damaged(REJECTIONS);
        let failed = |source| part.unreadable(REJECTIONS, source);
        let mut file = Unsealing::new(&part.folder.join(REJECTIONS)).map_err(failed)?;
        let mut rejections = Vec::new();
        while let Some(line) = file.line().map_err(failed)? {
            rejections.push(serde_json::from_slice(&line).map_err(|_| damaged())?);
        }
        if file.finish().map_err(failed)? == self.rejections { Ok(rejections) } else { Err(damaged()) }
    }
}

/// The removed records of a part, in order.
pub(super) struct Removed<'a> {
    part: &'a Part,
    seal: &'a Seal,
    file: Unsealing,
    next: Option<u64>,
}

impl Removed<'_> {
    /// Whether the record with this index is removed. It is asked of every record, in order.
    pub fn has(&mut self, index: u64) -> Result<bool> {
        if self.next != Some(index) {
            return Ok(false);
        }
        self.advance()?;
        Ok(true)
    }

    /// Checks that all that was written has been read, as it was written.
    pub fn close(self) -> Result<()> {
        let Self { part, seal, file, next } = self;
        let found = file.finish().map_err(|source| part.unreadable(REMOVED, source))?;
        if next.is_none() && found == *seal { Ok(()) } else { Err(part.damaged(REMOVED)) }
    }

    fn advance(&mut self) -> Result<()> {
        let at_end = self.file.is_at_end().map_err(|source| self.part.unreadable(manifest::REMOVED, source))?;
        let number = || self.file.number().map_err(|source| self.part.unreadable(manifest::REMOVED, source));
        self.next = (!at_end).then(number).transpose()?;
        Ok(())
    }
}
