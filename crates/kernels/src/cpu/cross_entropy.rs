//! The loss and its gradient, computed for a few rows at a time.

use super::matrix::{BLOCK, Left, Matrix, PackedMatrix};
use super::pool::parallel_chunks;
use super::product::{Backward, Operand, backward, forward_packed};
use super::simd::{LANES, Level, Simd, dispatch};

/// Rows whose logits are in memory at once.
const CHUNK: usize = 128;
/// Tokens of the vocabulary per item.
const ITEM: usize = 2048;

/// The targets of one row: any number of `(id, weight)`.
pub type RowTargets<'a> = &'a [(u32, f32)];

/// Returns `log softmax(hidden·Wᵀ)[id]` of every target, row by row. Writes to `gradient` (`[rows, d_model]`,
/// overwritten), if it is given, the gradient of `Σ weight · −log softmax` with respect to the hidden rows.
///
/// # Panics
/// When the shapes do not fit together, or an id is not below the vocabulary's size.
pub fn log_probs<O: Operand>(
    level: Level,
    operand: O,
    hidden: &[f32],
    weight: &Matrix,
    targets: &[RowTargets<'_>],
    mut gradient: Option<&mut [f32]>,
) -> Vec<f32> {
    let (d_model, vocab) = (weight.input(), weight.out());
    assert_eq!(hidden.len(), targets.len() * d_model, "cross-entropy: hidden is not [rows, d_model]");
    let mut found = Vec::new();
    let mut logits = PackedMatrix::unset(targets.len().min(CHUNK), vocab);
    for (chunk, targets) in targets.chunks(CHUNK).enumerate() {
        let rows = targets.len();
        if rows != logits.out() {
            logits = PackedMatrix::unset(rows, vocab);
        }
        let start = chunk * CHUNK * d_model;
        let hidden = &hidden[start..][..rows * d_model];
        let tile_rows = operand.even_tile_rows(level);
        let row = |row: usize| &hidden[row * d_model..][..d_model];
        let left = Left::with_tile_rows(level, operand, tile_rows, rows, d_model, row);
        forward_packed(level, operand, &left, weight, &mut logits);
        let log_sums = log_sums(level, &logits);
        for (row, targets) in targets.iter().enumerate() {
            for &(id, _) in *targets {
                assert!((id as usize) < vocab, "cross-entropy: id {id} is not below the vocabulary's {vocab}");
                let logit = logits.data()[row / BLOCK * logits.panel_len() + id as usize * BLOCK + row % BLOCK];
                found.push(logit - log_sums[row]);
            }
        }
        if let Some(gradient) = &mut gradient {
            to_gradient(level, &mut logits, &log_sums, targets);
            let gradient = &mut gradient[start..][..rows * d_model];
            operand
                .with_words(level, &logits, |dy| backward(level, operand, &[Backward { dy, weight }], gradient, false));
        }
    }
    found
}

/// `log Σ exp` of each row of logits.
fn log_sums(level: Level, logits: &PackedMatrix) -> Vec<f32> {
    let (vocab, panel_len) = (logits.input(), logits.panel_len());
    let panels = logits.out().div_ceil(BLOCK);
    let runs = vocab.div_ceil(ITEM);
    // For each panel and each run of the vocabulary: 32 maxima, then 32 sums.
    let mut partial = vec![0.0; panels * runs * 2 * BLOCK];
    parallel_chunks(&mut partial, 2 * BLOCK, |item, to| {
        let (panel, run) = (item / runs, item % runs);
        let ids = run * ITEM..vocab.min((run + 1) * ITEM);
        let logits = &logits.data()[panel * panel_len + ids.start * BLOCK..][..ids.len() * BLOCK];
        run_max_and_sum(level, logits, to);
    });
    let row = |row: usize| {
        let parts = (0..runs).map(|run| &partial[(row / BLOCK * runs + run) * 2 * BLOCK..][..2 * BLOCK]);
        let lane = row % BLOCK;
        let max = parts.clone().map(|part| part[lane]).fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = parts.map(|part| part[BLOCK + lane] * (part[lane] - max).exp()).sum();
        max + sum.ln()
    };
    (0..logits.out()).map(row).collect()
}

dispatch! {
    /// Writes the maxima of 32 rows, then their sums of `e^(logit − max)`.
    fn run_max_and_sum(logits: &[f32], to: &mut [f32]) = run_max_and_sum_with
}

#[inline(always)]
fn run_max_and_sum_with<S: Simd>(simd: S, logits: &[f32], to: &mut [f32]) {
    for at in [0, LANES] {
        let mut max = simd.splat(f32::NEG_INFINITY);
        for lanes in logits.chunks_exact(BLOCK) {
            max = simd.max(max, simd.load(&lanes[at..]));
        }
        let mut sum = simd.splat(0.0);
        for lanes in logits.chunks_exact(BLOCK) {
            sum = simd.add(sum, simd.exp(simd.sub(simd.load(&lanes[at..]), max)));
        }
        simd.store(max, &mut to[at..]);
        simd.store(sum, &mut to[BLOCK + at..]);
    }
}

/// Replaces the logits by their gradient, `Σweight · softmax − weight at the targets`.
fn to_gradient(level: Level, logits: &mut PackedMatrix, log_sums: &[f32], targets: &[RowTargets<'_>]) {
    let (vocab, panel_len) = (logits.input(), logits.panel_len());
    let panels = logits.out().div_ceil(BLOCK);
    // The lanes after the last row are computed but not read.
    let mut sums = vec![0.0; panels * BLOCK];
    let mut totals = vec![0.0; panels * BLOCK];
    sums[..log_sums.len()].copy_from_slice(log_sums);
    for (total, targets) in totals.iter_mut().zip(targets) {
        *total = targets.iter().map(|target| target.1).sum();
    }
    for panel in 0..panels {
        let lanes = panel * BLOCK..(panel + 1) * BLOCK;
        let data = &mut logits.data_mut()[panel * panel_len..][..vocab * BLOCK];
        parallel_chunks(data, ITEM * BLOCK, |_, run| {
            run_gradient(level, run, &sums[lanes.clone()], &totals[lanes.clone()]);
        });
    }
    for (row, targets) in targets.iter().enumerate() {
        for &(id, weight) in *targets {
            logits.data_mut()[row / BLOCK * panel_len + id as usize * BLOCK + row % BLOCK] -= weight;
        }
    }
}

dispatch! {
    fn run_gradient(logits: &mut [f32], sums: &[f32], totals: &[f32]) = run_gradient_with
}

#[inline(always)]
fn run_gradient_with<S: Simd>(simd: S, logits: &mut [f32], sums: &[f32], totals: &[f32]) {
    for at in [0, LANES] {
        let (sum, total) = (simd.load(&sums[at..]), simd.load(&totals[at..]));
        for lanes in logits.chunks_exact_mut(BLOCK) {
            let probability = simd.exp(simd.sub(simd.load(&lanes[at..]), sum));
            simd.store(simd.mul(probability, total), &mut lanes[at..]);
        }
    }
}
