//! A batch is a trie: what samples share is computed once.
//!
//! In LoRA training all samples of a step see the same parameters, so the hidden states of a shared prefix are the same, and
//! computing them once is exact, in the forward and in the backward pass. `docs/architecture.md`, "The idea that makes it
//! fast".

mod trie;

#[cfg(test)]
mod tests;

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
        trie::lay_out(samples, vec![everyone])
    }

    /// Packs samples, in their order, into batches of at most `max_rows` rows each; a sample that has more is alone. A batch
    /// that is too large is cut in halves, so that none is much smaller than the others.
    ///
    /// # Panics
    /// As [`Batch::pack`].
    pub fn pack_within(samples: &[&Sample], max_rows: usize) -> Vec<Self> {
        if samples.is_empty() {
            return Vec::new();
        }
        let whole = Self::pack(samples);
        if whole.rows() <= max_rows || samples.len() == 1 {
            return vec![whole];
        }
        let (first, second) = samples.split_at(samples.len() / 2);
        [Self::pack_within(first, max_rows), Self::pack_within(second, max_rows)].concat()
    }

    /// Packs samples one after the other, a segment each: the batch that [`Batch::pack`] is measured against.
    ///
    /// # Panics
    /// As [`Batch::pack`].
    pub fn unshared(samples: &[&Sample]) -> Self {
        let alone = (0..samples.len()).map(|sample| vec![sample]).collect();
        trie::lay_out(samples, alone)
    }

    /// A prompt with several answers to score against each other. Sample `i` of the batch is candidate `i`, so
    /// [`Batch::targets_of`] gives the predictions whose log-likelihoods it sums.
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
