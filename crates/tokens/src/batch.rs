//! A batch is a trie: what samples share is computed once.
//!
//! In LoRA training all samples of a step see the same parameters, so the hidden states of a shared prefix are the same, and
//! computing them once is exact, in the forward and in the backward pass. `docs/architecture.md`, "The idea that makes it
//! fast".

use std::collections::VecDeque;

use crate::{Result, Sample};

/// Several samples as one sequence of rows, without padding and without contamination.
///
/// A row is a token that is computed. Rows are laid out depth first: a row's descendants follow it without a gap, so that
/// one number a row, [`Batch::subtree_ends`], says who sees whom. Tokens after a sample's last target have no row.
///
/// ```
/// use foehn_tokens::{Batch, Sample};
///
/// // One question (1 2 3), two answers (4 5 and 4 6): the 4 is computed once, and branches.
/// let samples = [Sample::from_prompt(&[1, 2, 3], &[4, 5])?, Sample::from_prompt(&[1, 2, 3], &[4, 6])?];
/// let batch = Batch::pack(&samples.each_ref());
/// assert_eq!(batch.input_ids(), [1, 2, 3, 4]);
/// let targets: Vec<_> = batch.targets().iter().map(|target| (target.row, target.id, target.weight)).collect();
/// assert_eq!(targets, [(2, 4, 2.0), (3, 5, 1.0), (3, 6, 1.0)]);
/// assert_eq!((batch.rows(), batch.rows_unshared()), (4, 8));
/// # Ok::<(), foehn_tokens::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    input_ids: Vec<u32>,
    position_ids: Vec<u32>,
    subtree_ends: Vec<u32>,
    segments: Vec<Segment>,
    targets: Vec<Target>,
    targets_of: Vec<Vec<u32>>,
    rows_unshared: usize,
}

/// A run of rows in which nothing branches. A token attends to its own segment causally and to all ancestors of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first row.
    pub start: usize,
    /// Its number of rows, at least 1.
    pub len: usize,
    /// The position of its first token: the number of its ancestors' rows.
    pub position: usize,
    /// The segment, of a smaller index, whose last row it goes on from.
    pub parent: Option<usize>,
}

/// One prediction that the loss is taken over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// The row whose output predicts: that of the token before.
    pub row: u32,
    /// The token to predict.
    pub id: u32,
    /// The number of samples that share this prediction.
    pub weight: f32,
}

impl Batch {
    /// Packs samples, merging their common prefixes token by token, to any depth.
    ///
    /// # Panics
    /// If the samples have more than 2³² tokens: rows are counted in 32 bits.
    pub fn pack(samples: &[&Sample]) -> Self {
        let everyone = (0..samples.len()).collect();
        Builder::build(samples, vec![everyone])
    }

    /// Packs samples one after the other, a segment each: the batch that [`Batch::pack`] is measured against.
    ///
    /// # Panics
    /// As [`Batch::pack`].
    pub fn unshared(samples: &[&Sample]) -> Self {
        let alone = (0..samples.len()).map(|sample| vec![sample]).collect();
        Builder::build(samples, alone)
    }

    /// A prompt with several answers to score against each other. Sample `i` of the batch is candidate `i`, so
    /// [`Batch::targets_of`] gives the predictions whose log-likelihoods it sums.
    ///
    /// # Errors
    /// [`Error::FirstTokenSupervised`] for an empty prompt, [`Error::NothingSupervised`] for an empty candidate.
    pub fn prompt_with_candidates(prompt: &[u32], candidates: &[Vec<u32>]) -> Result<Self> {
        let samples = candidates.iter().map(|candidate| Sample::from_prompt(prompt, candidate));
        let samples = samples.collect::<Result<Vec<_>>>()?;
        Ok(Self::pack(&samples.iter().collect::<Vec<_>>()))
    }

    /// The token of each row. Shape `[rows]`.
    pub fn input_ids(&self) -> &[u32] {
        &self.input_ids
    }

    /// The position of each row's token in its samples, counted along the path. Shape `[rows]`.
    pub fn position_ids(&self) -> &[u32] {
        &self.position_ids
    }

    /// Where the subtree of each row ends: row `r` is visible to row `q` if and only if `r <= q < subtree_ends[r]`.
    /// Shape `[rows]`.
    pub fn subtree_ends(&self) -> &[u32] {
        &self.subtree_ends
    }

    /// The segments, in the order of their rows.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The predictions, in the order of their rows. A row where samples branch has several.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The predictions of one sample, in its order, as indices into [`Batch::targets`]; empty for no such sample.
    pub fn targets_of(&self, sample: usize) -> &[u32] {
        self.targets_of.get(sample).map_or(&[], Vec::as_slice)
    }

    /// The number of samples.
    pub fn samples(&self) -> usize {
        self.targets_of.len()
    }

    /// The number of rows that are computed.
    pub fn rows(&self) -> usize {
        self.input_ids.len()
    }

    /// The number of rows that would be computed if nothing were shared: [`Batch::rows`] of [`Batch::unshared`].
    pub fn rows_unshared(&self) -> usize {
        self.rows_unshared
    }

    /// The sum of all targets' weights: the number of supervised tokens, that a mean loss divides by.
    pub fn supervised(&self) -> f32 {
        self.targets_of.iter().map(Vec::len).sum::<usize>() as f32
    }
}

/// Samples that go on together from a place.
struct Branch {
    samples: Vec<usize>,
    depth: usize,
    parent: Option<usize>,
}

/// A batch that is being laid out.
struct Builder<'a> {
    samples: &'a [&'a Sample],
    /// What each sample has computed.
    paths: Vec<&'a [u32]>,
    batch: Batch,
}

impl<'a> Builder<'a> {
    /// Lays out one trie a group of samples.
    fn build(samples: &'a [&'a Sample], groups: Vec<Vec<usize>>) -> Batch {
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
        let mut builder = Self { samples, paths, batch };
        for group in groups {
            builder.trie(group);
        }
        builder.close();
        builder.batch
    }

    /// Lays out what a group of samples shares, depth first, branches in the order in which samples first take them.
    fn trie(&mut self, group: Vec<usize>) {
        let mut open: VecDeque<Branch> = self.branches(group, 0, None);
        while let Some(branch) = open.pop_front() {
            let mut further = self.segment(branch);
            further.append(&mut open);
            open = further;
        }
    }

    /// Lays out one segment, and gives the branches that go on from its end.
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

    /// Parts samples by their next token.
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

    /// The token that a sample has computed at a depth.
    fn token(&self, sample: usize, depth: usize) -> Option<u32> {
        self.paths.get(sample)?.get(depth).copied()
    }

    /// Fills in where subtrees end: a segment's where the last of its descendants does.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::Error;

    /// What a sample asks of the model: from this path, predict this token.
    type Predictions = BTreeMap<(Vec<u32>, u32), u32>;

    fn predictions_one_by_one(samples: &[Sample]) -> Predictions {
        let mut predictions = Predictions::new();
        for sample in samples {
            for (at, masked) in sample.loss_mask().iter().enumerate() {
                if *masked {
                    let path = sample.input_ids()[..at].to_vec();
                    *predictions.entry((path, sample.input_ids()[at])).or_default() += 1;
                }
            }
        }
        predictions
    }

    /// The rows from the root to a row, by segments alone.
    fn path(batch: &Batch, row: usize) -> Vec<usize> {
        let holds = |segment: &&Segment| (segment.start..segment.start + segment.len).contains(&row);
        let mut segment = *batch.segments().iter().find(holds).unwrap();
        let mut path: Vec<usize> = (segment.start..=row).collect();
        while let Some(parent) = segment.parent {
            segment = batch.segments()[parent];
            path.splice(0..0, segment.start..segment.start + segment.len);
        }
        path
    }

    fn predictions(batch: &Batch) -> Predictions {
        let mut predictions = Predictions::new();
        for target in batch.targets() {
            let ids = path(batch, target.row as usize).into_iter().map(|row| batch.input_ids()[row]).collect();
            let previous = predictions.insert((ids, target.id), target.weight as u32);
            assert_eq!(previous, None, "a prediction is one target");
        }
        predictions
    }

    fn check(batch: &Batch, samples: &[Sample]) {
        let rows = batch.rows();
        assert_eq!(batch.position_ids().len(), rows);
        assert_eq!(batch.segments().iter().map(|segment| segment.len).sum::<usize>(), rows);
        for row in 0..rows {
            let path = path(batch, row);
            assert_eq!(batch.position_ids()[row] as usize, path.len() - 1, "positions count along the path");
            let visible: Vec<usize> =
                (0..rows).filter(|r| *r <= row && row < batch.subtree_ends()[*r] as usize).collect();
            assert_eq!(visible, path, "row {row} sees its ancestors and itself");
        }
        let total: usize = samples.iter().map(Sample::supervised).sum();
        assert_eq!(batch.supervised() as usize, total);
        for (index, sample) in samples.iter().enumerate() {
            let mine: Vec<(u32, u32)> = batch
                .targets_of(index)
                .iter()
                .map(|target| batch.targets()[*target as usize])
                .map(|target| (batch.position_ids()[target.row as usize] + 1, target.id))
                .collect();
            let expected: Vec<(u32, u32)> = (0..)
                .zip(sample.input_ids().iter().zip(sample.loss_mask()))
                .filter(|(_, (_, masked))| **masked)
                .map(|(at, (id, _))| (at, *id))
                .collect();
            assert_eq!(mine, expected, "the predictions of sample {index}, in order");
        }
    }

    /// Few different tokens, so that samples share much.
    fn sample() -> impl Strategy<Value = Sample> {
        vec((0..3_u32, any::<bool>()), 2..12).prop_filter_map("nothing to learn", |tokens| {
            let (ids, mut mask): (Vec<u32>, Vec<bool>) = tokens.into_iter().unzip();
            mask[0] = false;
            Sample::new(ids, mask).ok()
        })
    }

    proptest! {
        #[test]
        fn packing_asks_the_same_of_the_model(samples in vec(sample(), 0..8)) {
            let references: Vec<&Sample> = samples.iter().collect();
            let packed = Batch::pack(&references);
            check(&packed, &samples);
            prop_assert_eq!(predictions(&packed), predictions_one_by_one(&samples));

            let unshared = Batch::unshared(&references);
            check(&unshared, &samples);
            prop_assert!(unshared.segments().iter().all(|segment| segment.parent.is_none()));
            prop_assert_eq!(unshared.segments().len(), samples.len());
            prop_assert_eq!(unshared.rows(), packed.rows_unshared());
            prop_assert_eq!(unshared.rows(), unshared.rows_unshared());
            prop_assert!(packed.rows() <= unshared.rows());
        }

        /// No two siblings begin alike, nothing is split that does not branch, and every row is needed.
        #[test]
        fn packing_shares_all_that_can_be_shared(samples in vec(sample(), 1..8)) {
            let batch = Batch::pack(&samples.iter().collect::<Vec<_>>());
            let paths: std::collections::BTreeSet<Vec<u32>> = samples
                .iter()
                .flat_map(|sample| (1..=sample.computed().len()).map(|length| sample.computed()[..length].to_vec()))
                .collect();
            prop_assert_eq!(batch.rows(), paths.len());
            for index in 0..batch.segments().len() {
                let children = batch.segments().iter().filter(|segment| segment.parent == Some(index)).count();
                prop_assert_ne!(children, 1);
            }
        }
    }

    #[test]
    fn candidates_share_their_prompt() {
        let batch = Batch::prompt_with_candidates(&[7, 8], &[vec![1], vec![2, 3], vec![2, 4]]).unwrap();
        assert_eq!(batch.input_ids(), [7, 8, 2]);
        assert_eq!(batch.samples(), 3);
        let of = |candidate| -> Vec<u32> {
            batch.targets_of(candidate).iter().map(|target| batch.targets()[*target as usize].id).collect()
        };
        assert_eq!([of(0), of(1), of(2), of(3)], [vec![1], vec![2, 3], vec![2, 4], vec![]]);
        assert!(matches!(Batch::prompt_with_candidates(&[7], &[vec![]]), Err(Error::NothingSupervised)));
    }

    #[test]
    fn no_samples_are_an_empty_batch() {
        let batch = Batch::pack(&[]);
        assert_eq!((batch.rows(), batch.samples(), batch.supervised()), (0, 0, 0.0));
    }
}
