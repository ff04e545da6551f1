//! The records that wait for the passes over the set.

use std::path::Path;

use super::examine::Stored;
use super::spool::{Spool, Spooled};
use crate::error::Result;
use crate::file::write_error;
use crate::pass::SetPass;

/// Records, by their index among all that are stored.
pub(super) trait Store {
    /// The sketches of a pass over the set, given with its index: at least those of the wanted records that it can
    /// judge.
    fn sketches(&mut self, at: usize, pass: &dyn SetPass, wanted: &dyn Fn(usize) -> bool) -> Result<Sketches>;

    /// Calls a function with each of the records with these indices, which must be ascending.
    fn each(
        &mut self,
        indices: &mut dyn Iterator<Item = usize>,
        show: &mut dyn FnMut(usize, &Spooled) -> Result<()>,
    ) -> Result<()>;
}

/// Lists of numbers, stored one after the other.
#[derive(Debug, Default)]
pub(super) struct Sketches {
    /// The index of the record of each list. If there are no indices, the lists are those of all records.
    indices: Vec<usize>,
    words: Vec<u64>,
    ends: Vec<usize>,
}

impl Sketches {
    /// Appends the sketch of the next record.
    pub fn push(&mut self, sketch: &[u64]) {
        self.words.extend_from_slice(sketch);
        self.ends.push(self.words.len());
    }

    /// Appends the sketch of the record with this index. Either all sketches are given with an index, or none.
    pub fn push_of(&mut self, index: usize, sketch: &[u64]) {
        self.indices.push(index);
        self.push(sketch);
    }

    /// The sketches, each with the index of its record.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[u64])> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        starts.zip(&self.ends).enumerate().map(|(at, (start, end))| {
            let index = self.indices.get(at).copied().unwrap_or(at);
            (index, &self.words[start..*end])
        })
    }
}

/// A store of one process: sketches in memory, records in a temporary file.
pub(super) struct Temporary {
    spool: Spool,
    /// One list for each pass over the set.
    sketches: Vec<Sketches>,
}

impl Temporary {
    /// The temporary file is beside `out`, or in the system's temporary folder.
    pub fn new(out: Option<&Path>, set_passes: usize) -> Result<Self> {
        let spool = Spool::new(out.unwrap_or(&std::env::temp_dir()))?;
        Ok(Self { spool, sketches: (0..set_passes).map(|_| Sketches::default()).collect() })
    }

    pub fn push(&mut self, Stored { id, json, sketches, .. }: Stored) -> Result<()> {
        for (all, sketch) in self.sketches.iter_mut().zip(sketches) {
            all.push(&sketch);
        }
        let json = json.map_err(|error| write_error(self.spool.near(), error.into()))?;
        self.spool.push(&id, &json)
    }
}

impl Store for Temporary {
    fn sketches(&mut self, at: usize, _: &dyn SetPass, _: &dyn Fn(usize) -> bool) -> Result<Sketches> {
        Ok(self.sketches.get_mut(at).map(std::mem::take).unwrap_or_default())
    }

    fn each(
        &mut self,
        indices: &mut dyn Iterator<Item = usize>,
        show: &mut dyn FnMut(usize, &Spooled) -> Result<()>,
    ) -> Result<()> {
        self.spool.each(indices, show)
    }
}
