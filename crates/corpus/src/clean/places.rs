//! The places of the stored records.

use std::path::Path;
use std::sync::Arc;

use crate::read::Place;

/// The places of records in the order in which they were read: a number for each, and the runs of one file.
#[derive(Debug, Default)]
pub(super) struct Places {
    lines: Vec<u64>,
    /// For each run of records of one file, the index of its first record.
    files: Vec<(usize, Arc<Path>)>,
}

impl Places {
    pub fn push(&mut self, Place { file, line }: Place) {
        if self.files.last().is_none_or(|(_, last)| !Arc::ptr_eq(last, &file) && *last != file) {
            self.files.push((self.lines.len(), file));
        }
        self.lines.push(line);
    }

    pub fn reserve(&mut self, count: usize) {
        self.lines.reserve_exact(count);
    }

    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn get(&self, index: usize) -> Option<Place> {
        let line = *self.lines.get(index)?;
        let run = self.files.partition_point(|(first, _)| *first <= index).checked_sub(1)?;
        Some(Place { file: Arc::clone(&self.files[run].1), line })
    }

    /// The places with these indices, as far as there are such.
    pub fn of(&self, indices: &[usize]) -> Vec<Place> {
        indices.iter().filter_map(|index| self.get(*index)).collect()
    }

    /// Each run of one file: the file, and the indices of its records.
    pub fn runs(&self) -> impl Iterator<Item = (&Path, std::ops::Range<usize>)> {
        let ends = self.files.iter().skip(1).map(|(first, _)| *first).chain([self.lines.len()]);
        self.files.iter().zip(ends).map(|((first, file), end)| (&**file, *first..end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_has_the_place_it_was_pushed_with() {
        let files: [Arc<Path>; 3] = ["a", "b", "a"].map(|name| Path::new(name).into());
        let pushed: Vec<Place> = files
            .iter()
            .zip([3, 1, 2])
            .flat_map(|(file, lines)| (1..=lines).map(|line| Place { file: Arc::clone(file), line }))
            .collect();
        let mut places = Places::default();
        pushed.iter().cloned().for_each(|place| places.push(place));
        assert_eq!(places.of(&(0..6).collect::<Vec<_>>()), pushed);
        assert_eq!(places.get(6), None);
        let runs: Vec<_> = places.runs().map(|(file, run)| (file.to_str().expect("ASCII"), run)).collect();
        assert_eq!(runs, [("a", 0..3), ("b", 3..4), ("a", 4..6)]);
        assert_eq!(Places::default().runs().count(), 0);
    }
}
