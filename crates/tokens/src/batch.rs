//! A batch is a trie: the common prefixes of samples are computed once.
//!
//! In LoRA training, all samples of a step see the same parameters. So the hidden states of a shared prefix are the
//! same for all of them, and computing them once is exact, in the forward and in the backward pass. See
//! `docs/architecture.md`, "The idea that makes it fast".

mod trie;

#[cfg(test)]
mod tests;

use crate::{Result, Sample};

/// Several samples as one sequence of rows, without padding and without attention between different samples.
///
/// A row is a token that is computed. Rows are in depth-first order: the descendants of a row follow it without a gap.
/// So one number per row, [`Batch::subtree_ends`], determines which rows see it. Tokens after a sample's last target
/// have no row.
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

/// A run of rows without branches. A token attends causally to its own segment and to all ancestors of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first row.
    pub start: usize,
    /// Its number of rows, at least 1.
    pub len: usize,
    /// The position of its first token, which is the number of ancestor rows.
    pub position: usize,
    /// The index of the parent segment, which is smaller. The segment continues after the parent's last row.
    pub parent: Option<usize>,
}

/// One prediction of the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// The row whose output makes the prediction: the row of the previous token.
    pub row: u32,
    /// The token to predict.
    pub id: u32,
    /// The number of samples that share this prediction.
    pub weight: f32,
}

impl Batch {
    /// Packs samples. Common prefixes are merged token by token, at any depth.
    ///
    /// # Panics
    /// If the samples have more than 2³² tokens: rows have 32-bit indices.
    pub fn pack(samples: &[&Sample]) -> Self {
        let everyone = (0..samples.len()).collect();
        trie::lay_out(samples, vec![everyone])
    }

    /// Packs samples, in their order, into batches of at most `max_rows` rows each. A longer sample gets a batch of its
    /// own. A batch that is too large is split in halves, so that no batch is much smaller than the others.
    ///
    /// # Panics
    /// As [`Batch::pack`].
    pub fn pack_within(samples: &[&Sample], max_rows: usize) -> Vec<Self> {
        Self::pack_groups_within(samples, 1, max_rows)
    }

    /// As [`pack_within`](Self::pack_within), but each `group` consecutive samples stay in one batch, even if that is
    /// larger than `max_rows`.
    ///
    /// # Panics
    /// As [`Batch::pack`], and when the samples are no whole number of groups.
    pub fn pack_groups_within(samples: &[&Sample], group: usize, max_rows: usize) -> Vec<Self> {
        assert!(samples.len().is_multiple_of(group), "batch: {} samples in groups of {group}", samples.len());
        if samples.is_empty() {
            return Vec::new();
        }
        let whole = Self::pack(samples);
        if whole.rows() <= max_rows || samples.len() == group {
            return vec![whole];
        }
        let (first, second) = samples.split_at(samples.len() / group / 2 * group);
        [first, second].map(|half| Self::pack_groups_within(half, group, max_rows)).concat()
    }

    /// Packs samples one after the other, one segment each, for comparison with [`Batch::pack`].
    ///
    /// # Panics
    /// As [`Batch::pack`].
    pub fn unshared(samples: &[&Sample]) -> Self {
        let alone = (0..samples.len()).map(|sample| vec![sample]).collect();
        trie::lay_out(samples, alone)
    }

    /// A prompt with several candidate answers to score. Sample `i` of the batch is candidate `i`;
    /// [`Batch::targets_of`] gives the predictions whose log-likelihoods are its score.
    ///
    /// # Errors
    /// [`FirstTokenSupervised`](crate::Error::FirstTokenSupervised) for an empty prompt,
    /// [`NothingSupervised`](crate::Error::NothingSupervised) for an empty candidate.
    pub fn prompt_with_candidates(prompt: &[u32], candidates: &[Vec<u32>]) -> Result<Self> {
        let samples = candidates.iter().map(|candidate| Sample::from_prompt(prompt, candidate));
        let samples = samples.collect::<Result<Vec<_>>>()?;
        Ok(Self::pack(&samples.iter().collect::<Vec<_>>()))
    }

    /// The token of each row. Shape `[rows]`.
    pub fn input_ids(&self) -> &[u32] {
        &self.input_ids
    }

    /// The position of each row's token in its samples, counted along the path from the root. Shape `[rows]`.
    pub fn position_ids(&self) -> &[u32] {
        &self.position_ids
    }

    /// The end of each row's subtree: row `r` is visible to row `q` if and only if `r <= q < subtree_ends[r]`. Shape
    /// `[rows]`.
    pub fn subtree_ends(&self) -> &[u32] {
        &self.subtree_ends
    }

    /// The segments, in the order of their rows.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The predictions, in the order of their rows. A row at a branch has several.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The predictions of one sample, in order, as indices into [`Batch::targets`]. Empty if there is no such sample.
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

    /// The number of rows without sharing: [`Batch::rows`] of [`Batch::unshared`].
    pub fn rows_unshared(&self) -> usize {
        self.rows_unshared
    }

    /// The sum of all targets' weights: the number of supervised tokens, by which a mean loss is divided.
    pub fn supervised(&self) -> f32 {
        self.targets_of.iter().map(Vec::len).sum::<usize>() as f32
    }
}
