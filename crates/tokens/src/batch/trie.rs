//! Orders the rows of samples depth first.

use std::collections::VecDeque;

use crate::Sample;

use super::{Batch, Segment, Target};

/// Lays out one trie per group of samples. A group is a list of indices into the samples.
pub(super) fn lay_out(samples: &[&Sample], groups: Vec<Vec<usize>>) -> Batch {
    let paths: Vec<&[u32]> = samples.iter().map(|sample| sample.computed()).collect();
    let rows_unshared = paths.iter().map(|path| path.len()).sum();
    assert!(u32::try_from(rows_unshared).is_ok(), "a batch of {rows_unshared} rows: pack fewer samples");
    let batch = Batch {
        input_ids: Vec::new(),
        position_ids: Vec::new(),
        subtree_ends: Vec::new(),
        segments: Vec::new(),
        targets: Vec::new(),
        targets_of: vec![Vec::new(); samples.len()],
        rows_unshared,
    };
    let mut builder = Builder { samples, paths, batch };
    for group in groups {
        builder.trie(group);
    }
    builder.close();
    builder.batch
}

/// Samples that continue together from one place.
struct Branch {
    samples: Vec<usize>,
    depth: usize,
    parent: Option<usize>,
}

/// A batch under construction.
struct Builder<'a> {
    samples: &'a [&'a Sample],
    /// The computed tokens of each sample.
    paths: Vec<&'a [u32]>,
    batch: Batch,
}

impl<'a> Builder<'a> {
    /// Lays out the trie of a group of samples, depth first. Branches are in the order in which the samples first take
    /// them.
    fn trie(&mut self, group: Vec<usize>) {
        let mut open: VecDeque<Branch> = self.branches(group, 0, None);
        while let Some(branch) = open.pop_front() {
            let mut further = self.segment(branch);
            further.append(&mut open);
            open = further;
        }
    }

    /// Lays out one segment, and returns the branches at its end.
    fn segment(&mut self, branch: Branch) -> VecDeque<Branch> {
        let Branch { mut samples, mut depth, parent } = branch;
        let index = self.batch.segments.len();
        let (start, position) = (self.batch.rows(), depth);
        loop {
            self.row(&samples, depth);
            depth += 1;
            samples.retain(|sample| self.token(*sample, depth).is_some());
            let Some(first) = samples.first().and_then(|sample| self.token(*sample, depth)) else { break };
            if samples.iter().any(|sample| self.token(*sample, depth) != Some(first)) {
                break;
            }
        }
        self.batch.segments.push(Segment { start, len: depth - position, position, parent });
        self.branches(samples, depth, Some(index))
    }

    /// Lays out one row and its targets.
    fn row(&mut self, samples: &[usize], depth: usize) {
        let row = self.batch.rows() as u32;
        let first = self.batch.targets.len();
        for &index in samples {
            let Some(sample) = self.samples.get(index) else { continue };
            let Some(id) = sample.target_after(depth) else { continue };
            let here = self.batch.targets.get_mut(first..).unwrap_or_default();
            let slot = match here.iter_mut().position(|target| target.id == id) {
                Some(slot) => first + slot,
                None => {
                    self.batch.targets.push(Target { row, id, weight: 0.0 });
                    self.batch.targets.len() - 1
                }
            };
            if let Some(target) = self.batch.targets.get_mut(slot) {
                target.weight += 1.0;
            }
            if let Some(targets) = self.batch.targets_of.get_mut(index) {
                targets.push(slot as u32);
            }
        }
        let token = samples.first().and_then(|sample| self.token(*sample, depth));
        self.batch.input_ids.extend(token);
        self.batch.position_ids.push(depth as u32);
    }

    /// Groups samples by their next token.
    fn branches(&self, samples: Vec<usize>, depth: usize, parent: Option<usize>) -> VecDeque<Branch> {
        let mut branches: VecDeque<(u32, Branch)> = VecDeque::new();
        for sample in samples {
            let Some(token) = self.token(sample, depth) else { continue };
            match branches.iter_mut().find(|(first, _)| *first == token) {
                Some((_, branch)) => branch.samples.push(sample),
                None => branches.push_back((token, Branch { samples: vec![sample], depth, parent })),
            }
        }
        branches.into_iter().map(|(_, branch)| branch).collect()
    }

    /// The computed token of a sample at a depth.
    fn token(&self, sample: usize, depth: usize) -> Option<u32> {
        self.paths.get(sample)?.get(depth).copied()
    }

    /// Computes the subtree ends: a segment's subtree ends with its last descendant.
    fn close(&mut self) {
        let mut ends: Vec<usize> = self.batch.segments.iter().map(|segment| segment.start + segment.len).collect();
        for (index, segment) in self.batch.segments.iter().enumerate().rev() {
            let end = ends.get(index).copied().unwrap_or(0);
            if let Some(parent) = segment.parent.and_then(|parent| ends.get_mut(parent)) {
                *parent = (*parent).max(end);
            }
        }
        for (segment, end) in self.batch.segments.iter().zip(ends) {
            self.batch.subtree_ends.extend(std::iter::repeat_n(end as u32, segment.len));
        }
    }
}
