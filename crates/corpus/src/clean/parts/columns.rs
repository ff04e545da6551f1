//! The columns that each record of a part needs in a table.
//!
//! Most records of a part have the same columns. So each kind of columns is written once, and then named by its number.

use std::collections::HashMap;

use super::manifest::{COLUMNS, Part};
use super::sealed::{Seal, Sealing};
use crate::error::Result;
use crate::output::Columns;

/// The largest number of kinds that are remembered. A record of another kind has its columns written with it.
const KINDS: usize = 1 << 12;

/// A record whose columns follow. Other numbers name a kind, from 1.
const FOLLOWS: u64 = 0;

pub(super) struct ColumnsWriter {
    file: Sealing,
    kinds: HashMap<String, u64>,
}

impl ColumnsWriter {
    pub fn new(file: Sealing) -> Self {
        Self { file, kinds: HashMap::new() }
    }

    pub fn push(&mut self, columns: &Columns) -> Result<()> {
        let kind = columns.to_json();
        if let Some(number) = self.kinds.get(&kind) {
            return self.file.number(*number);
        }
        self.file.number(FOLLOWS)?;
        self.file.frame(|to| to.extend_from_slice(kind.as_bytes()))?;
        if self.kinds.len() < KINDS {
            self.kinds.insert(kind, self.kinds.len() as u64 + 1);
        }
        Ok(())
    }

    pub fn finish(self) -> Result<Seal> {
        self.file.finish()
    }
}

/// Adds the columns that the records of a part need, those for which `is_kept`.
pub(super) fn add(part: &Part, is_kept: impl Fn(usize) -> bool, columns: &mut Columns) -> Result<()> {
    let mut file = part.file(COLUMNS)?;
    let failed = |source| part.unreadable(COLUMNS, source);
    // The known kinds, each with whether it has been added.
    let (mut kinds, mut frame): (Vec<(Columns, bool)>, _) = (Vec::new(), Vec::new());
    for index in 0..part.manifest.stored as usize {
        let number = file.number().map_err(failed)?;
        let at = if number == FOLLOWS {
            file.frame(&mut frame).map_err(failed)?;
            let kind = Columns::from_json(&frame).ok_or_else(|| part.damaged(COLUMNS))?;
            if kinds.len() == KINDS {
                if is_kept(index) {
                    columns.merge(&kind);
                }
                continue;
            }
            kinds.push((kind, false));
            kinds.len() - 1
        } else {
            number as usize - 1
        };
        let (kind, is_added) = kinds.get_mut(at).ok_or_else(|| part.damaged(COLUMNS))?;
        if !*is_added && is_kept(index) {
            columns.merge(kind);
            *is_added = true;
        }
    }
    part.close(COLUMNS, file)
}
