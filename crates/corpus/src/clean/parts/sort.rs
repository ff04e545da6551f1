//! Sorts pairs of numbers outside of memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The smallest number of pairs that are sorted in memory: 16 MiB.
const LEAST: usize = 1 << 20;

/// A run is read in pieces of this number of bytes. So 300 runs are merged in 20 MB.
const READ: usize = 64 << 10;

/// Pairs that are to be sorted. Sorted runs lie in temporary files, which the system removes when the process ends.
pub(super) struct Sorter {
    folder: PathBuf,
    in_memory: usize,
    pairs: Vec<[u64; 2]>,
    runs: Vec<File>,
}

impl Sorter {
    /// The temporary files are in the given folder. A pair for every sixteen records is held in memory: a byte a record, so
    /// that 17 keys a record make 272 runs, whatever the number of records.
    pub fn new(folder: &Path, records: usize) -> Self {
        Self::with_room(folder, LEAST.max(records / 16))
    }

    fn with_room(folder: &Path, in_memory: usize) -> Self {
        Self { folder: folder.to_owned(), in_memory, pairs: Vec::new(), runs: Vec::new() }
    }

    pub fn push(&mut self, pair: [u64; 2]) -> io::Result<()> {
        self.pairs.push(pair);
        if self.pairs.len() < self.in_memory {
            return Ok(());
        }
        self.pairs.sort_unstable();
        let mut writer = BufWriter::with_capacity(READ, tempfile::tempfile_in(&self.folder)?);
        for word in self.pairs.drain(..).flatten() {
            writer.write_all(&word.to_le_bytes())?;
        }
        let mut file = writer.into_inner().map_err(|error| error.into_error())?;
        file.seek(SeekFrom::Start(0))?;
        self.runs.push(file);
        Ok(())
    }

    /// Calls a function with each pair, in ascending order.
    pub fn each(mut self, mut show: impl FnMut([u64; 2])) -> io::Result<()> {
        self.pairs.sort_unstable();
        let mut rest = self.pairs.into_iter();
        let mut runs: Vec<_> = self.runs.into_iter().map(|file| BufReader::with_capacity(READ, file)).collect();
        let sources = 0..=runs.len();
        // The last source is the memory.
        let mut next = |source: usize| match runs.get_mut(source) {
            Some(run) => read_pair(run),
            None => Ok(rest.next()),
        };
        let mut heads = BinaryHeap::new();
        for source in sources {
            heads.extend(next(source)?.map(|pair| Reverse((pair, source))));
        }
        while let Some(Reverse((pair, source))) = heads.pop() {
            show(pair);
            heads.extend(next(source)?.map(|pair| Reverse((pair, source))));
        }
        Ok(())
    }
}

/// The next pair; `None` at the end of the run.
fn read_pair(run: &mut BufReader<File>) -> io::Result<Option<[u64; 2]>> {
    let mut bytes = [[0; 8]; 2];
    match run.read_exact(&mut bytes[0]) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    run.read_exact(&mut bytes[1])?;
    Ok(Some(bytes.map(u64::from_le_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pairs_come_as_a_sort_in_memory_orders_them(pairs: Vec<[u64; 2]>, in_memory in 1usize..20) {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mut sorter = Sorter::with_room(folder.path(), in_memory);
            for pair in &pairs {
                sorter.push(*pair).expect("writable");
            }
            let mut found = Vec::new();
            sorter.each(|pair| found.push(pair)).expect("readable");
            let mut expected = pairs;
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
