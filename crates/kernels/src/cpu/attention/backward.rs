//! The backward pass of attention. The weights are computed again, one head at a time.

use super::{Gathered, Head, Heads, Seen, SeenTile, hide, scores};
use crate::cpu::buffer::Buffer;
use crate::cpu::matrix::{BLOCK, Left};
use crate::cpu::pool::{DisjointParts, parallel, parallel_chunks};
use crate::cpu::product::{EMPTY, Single, Term, sum_tile};
use crate::cpu::simd::{LANES, Level, Simd, dispatch};

/// The values of the forward pass that [`attention_backward`] needs.
#[derive(Clone, Copy)]
pub struct Saved<'a> {
    /// `[rows, heads · head_dim]`
    pub query: &'a [f32],
    /// `[rows, kv_heads · head_dim]`
    pub key: &'a [f32],
    /// `[rows, kv_heads · head_dim]`
    pub value: &'a [f32],
    /// `[rows, heads · head_dim]`
    pub out: &'a [f32],
    /// `[heads, rows]`
    pub log_sums: &'a [f32],
}

/// The gradients of [`attention`] for query, key and value, given the gradient of its output. They are overwritten.
///
/// # Panics
/// When the lengths do not fit together.
pub fn attention_backward(
    level: Level,
    heads: Heads,
    saved: Saved<'_>,
    seen: &Seen,
    d_out: &[f32],
    [d_query, d_key, d_value]: [&mut [f32]; 3],
) {
    let (rows, dim) = (seen.rows, heads.head_dim);
    let stride = dim.next_multiple_of(BLOCK);
    // Each head sums into its own part. Then the heads of a group are added in a fixed order, so the result does not
    // depend on which thread was first.
    let mut partial = Buffer::new(2 * heads.heads * rows * stride);
    partial.fill(0.0);
    {
        let (partial, d_query) = (DisjointParts::new(&mut partial), DisjointParts::new(d_query));
        parallel(heads.heads, |head| {
            // SAFETY: `partial` is `[2, heads, rows, stride]`, and this part is the plane (`which`, `head`). Each plane
            // is taken once, by the one item that computes this head, so no other thread writes it.
            let of_head = |which| unsafe { partial.part((which * heads.heads + head) * rows * stride, rows * stride) };
            let (d_key, d_value) = (of_head(0), of_head(1));
            for tile in &seen.tiles {
                backward_tile(level, heads, head, saved, tile, rows, d_out, &d_query, d_key, d_value);
            }
        });
    }
    for (which, to) in [d_key, d_value].into_iter().enumerate() {
        parallel_chunks(to, heads.key_width(), |row, to| {
            for (kv_head, to) in to.chunks_exact_mut(dim).enumerate() {
                to.fill(0.0);
                for head in kv_head * heads.group()..(kv_head + 1) * heads.group() {
                    let from = &partial[((which * heads.heads + head) * rows + row) * stride..][..dim];
                    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                }
            }
        });
    }
}

/// The gradients of one head from one tile of queries.
#[allow(clippy::too_many_arguments)]
fn backward_tile(
    level: Level,
    heads: Heads,
    head: usize,
    saved: Saved<'_>,
    tile: &SeenTile,
    rows: usize,
    d_out: &[f32],
    d_query: &DisjointParts<'_>,
    d_key: &mut [f32],
    d_value: &mut [f32],
) {
    let (dim, step) = (heads.head_dim, level.even_tile_rows());
    let wide = |data| Head { data, width: heads.query_width(), at: head, dim };
    let narrow = |data| Head { data, width: heads.key_width(), at: head / heads.group(), dim };
    let keys = Gathered::new(level, narrow(saved.key), &tile.keys);
    let values = Gathered::new(level, narrow(saved.value), &tile.keys);
    let own = tile.start..tile.start + tile.rows;
    let [queries, d_outs] = [saved.query, d_out].map(|data| wide(data).gather(own.clone()));
    let [left, d_left] = [saved.query, d_out]
        .map(|data| Left::with_tile_rows(level, Single, step, tile.rows, dim, |row| wide(data).row(tile.start + row)));

    // Weights and their gradients, transposed: for every run of keys, `[queries/32][step][32]`.
    let across = tile.rows.div_ceil(BLOCK);
    let mut transposed = [0, 1].map(|_| vec![0.0; tile.blocks() * BLOCK * across * BLOCK]);
    let [mut weights, mut slopes] = [0, 1].map(|_| vec![0.0; tile.blocks() * LANES * BLOCK]);
    for first in (0..tile.rows).step_by(LANES) {
        let run = first..tile.rows.min(first + LANES);
        let blocks = tile.blocks_of(run.clone());
        for part in (first..run.end).step_by(step) {
            let place = (part - first) / step * blocks * step * BLOCK;
            let [weights, slopes] = [&mut weights, &mut slopes].map(|all| &mut all[place..][..blocks * step * BLOCK]);
            scores(level, &left, part / step, &keys, heads.scale(), weights);
            scores(level, &d_left, part / step, &values, 1.0, slopes);
            for (i, query) in (part..tile.rows.min(part + step)).enumerate() {
                let row = tile.start + query;
                hide(tile, query, i, step, weights);
                let along: f32 = wide(saved.out).row(row).iter().zip(wide(d_out).row(row)).map(|(o, d)| o * d).sum();
                let log_sum = saved.log_sums[head * rows + row];
                weights_and_slopes(level, weights, slopes, i, step, log_sum, along, heads.scale());
            }
            let mut mixed = EMPTY;
            for at in (0..dim).step_by(BLOCK) {
                let term = Term {
                    left: slopes,
                    left_stride: step * BLOCK,
                    right: &keys.rows[at..],
                    right_stride: keys.stride,
                    depth: blocks * BLOCK,
                };
                sum_tile(level, &[term], step, &mut mixed);
                for (i, query) in (part..tile.rows.min(part + step)).enumerate() {
                    let place = (tile.start + query) * heads.query_width() + head * dim + at;
                    // SAFETY: this is a part of head `head` in row `tile.start + query` of `[rows, heads · head_dim]`.
                    // One item computes all of a head, and tiles and the values of `at` do not overlap, so no other
                    // thread writes these elements.
                    let to = unsafe { d_query.part(place, BLOCK.min(dim - at)) };
                    to.copy_from_slice(&mixed[i][..to.len()]);
                }
            }
        }
        for (from, to) in [&weights, &slopes].into_iter().zip(&mut transposed) {
            turn(level, from, blocks, step, run.clone(), across, to);
        }
    }
    let grads = [(&transposed[0], &d_outs, d_value), (&transposed[1], &queries, d_key)];
    let stride = dim.next_multiple_of(BLOCK);
    for (weights, right, to) in grads {
        for (run, keys) in tile.keys.chunks(step).enumerate() {
            for at in (0..dim).step_by(BLOCK) {
                let term = Term {
                    left: &weights[run * across * step * BLOCK..],
                    left_stride: step * BLOCK,
                    right: &right[at..],
                    right_stride: stride,
                    depth: tile.rows,
                };
                let mut sums = EMPTY;
                sum_tile(level, &[term], step, &mut sums);
                for (sums, &key) in sums.iter().zip(keys) {
                    let to = &mut to[key as usize * stride + at..][..BLOCK];
                    to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
                }
            }
        }
    }
}

dispatch! {
    /// For row `i`, turns scores into weights, and the gradients of the weights into the gradients of the unscaled
    /// scores.
    fn weights_and_slopes(weights: &mut [f32], slopes: &mut [f32], i: usize, step: usize, log_sum: f32, along: f32, scale: f32)
        = weights_and_slopes_with
}

#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn weights_and_slopes_with<S: Simd>(
    simd: S,
    weights: &mut [f32],
    slopes: &mut [f32],
    i: usize,
    step: usize,
    log_sum: f32,
    along: f32,
    scale: f32,
) {
    for (weights, slopes) in weights.chunks_exact_mut(step * BLOCK).zip(slopes.chunks_exact_mut(step * BLOCK)) {
        for at in [i * BLOCK, i * BLOCK + LANES] {
            let weight = simd.exp(simd.sub(simd.load(&weights[at..]), simd.splat(log_sum)));
            let slope = simd.mul(weight, simd.sub(simd.load(&slopes[at..]), simd.splat(along)));
            simd.store(weight, &mut weights[at..]);
            simd.store(simd.mul(slope, simd.splat(scale)), &mut slopes[at..]);
        }
    }
}

dispatch! {
    /// Transposes the rows of sixteen queries (`[16/step][blocks][step][32]`) into rows of keys
    /// (`[keys/step][across][step][32]`).
    fn turn(from: &[f32], blocks: usize, step: usize, queries: std::ops::Range<usize>, across: usize, to: &mut [f32]) = turn_with
}

#[inline(always)]
fn turn_with<S: Simd>(
    simd: S,
    from: &[f32],
    blocks: usize,
    step: usize,
    queries: std::ops::Range<usize>,
    across: usize,
    to: &mut [f32],
) {
    let column = queries.start / BLOCK * step * BLOCK + queries.start % BLOCK;
    for block in 0..blocks {
        for half in [0, LANES] {
            let square = std::array::from_fn(|i| {
                // There are no rows after the last query: `from` holds old values there, so zeros take their place.
                if i < queries.len() {
                    simd.load(&from[((i / step * blocks + block) * step + i % step) * BLOCK + half..])
                } else {
                    simd.splat(0.0)
                }
            });
            for (i, row) in simd.transpose(square).into_iter().enumerate() {
                let key = block * BLOCK + half + i;
                simd.store(row, &mut to[key / step * across * step * BLOCK + key % step * BLOCK + column..]);
            }
        }
    }
}
