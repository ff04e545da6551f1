//! Expands quantised blocks to weights: into a buffer, or in registers while they are multiplied.

use std::ops::Range;

use super::Shape;
use crate::cpu::matrix::BLOCK;
use crate::cpu::simd::{LANES, Simd, dispatch, prefetch_ahead};
use crate::encoding::{Encoding, IQ4_LEVELS, NF4_LEVELS, Numbers};

dispatch! {
    /// Writes the weights of a panel for a range of inputs: `[inputs][32]`.
    pub fn open(shape: Shape, panel: &[u8], inputs: Range<usize>, to: &mut [f32]) = open_with
}

#[inline(always)]
fn open_with<S: Simd>(simd: S, shape: Shape, panel: &[u8], inputs: Range<usize>, to: &mut [f32]) {
    match shape.encoding.numbers() {
        Numbers::Two => open_as::<S, Two>(simd, shape, panel, inputs, to),
        Numbers::Three => open_as::<S, Three>(simd, shape, panel, inputs, to),
        Numbers::Four => open_as::<S, Four>(simd, shape, panel, inputs, to),
        Numbers::Six => open_as::<S, Six>(simd, shape, panel, inputs, to),
        Numbers::Eight => open_as::<S, Eight>(simd, shape, panel, inputs, to),
        Numbers::Levels if shape.encoding == Encoding::Nf4 => {
            open_as::<S, Levels<false>>(simd, shape, panel, inputs, to)
        }
        Numbers::Levels => open_as::<S, Levels<true>>(simd, shape, panel, inputs, to),
    }
}

dispatch! {
    /// Adds to `to` the products of a row with the weights of the first of `panels`, in runs of `run` blocks; the sums
    /// of the runs are added. It may prefetch the panels after the first. The bits of the result are the same as when
    /// the weights are expanded first.
    pub fn add_row(shape: Shape, panels: &[u8], x: &[f32], run: usize, to: &mut [f32; BLOCK]) = add_row_with
}

#[inline(always)]
fn add_row_with<S: Simd>(simd: S, shape: Shape, panels: &[u8], x: &[f32], run: usize, to: &mut [f32; BLOCK]) {
    match shape.encoding.numbers() {
        Numbers::Two => add_row_as::<S, Two>(simd, shape, panels, x, run, to),
        Numbers::Three => add_row_as::<S, Three>(simd, shape, panels, x, run, to),
        Numbers::Four => add_row_as::<S, Four>(simd, shape, panels, x, run, to),
        Numbers::Six => add_row_as::<S, Six>(simd, shape, panels, x, run, to),
        Numbers::Eight => add_row_as::<S, Eight>(simd, shape, panels, x, run, to),
        Numbers::Levels if shape.encoding == Encoding::Nf4 => {
            add_row_as::<S, Levels<false>>(simd, shape, panels, x, run, to)
        }
        Numbers::Levels => add_row_as::<S, Levels<true>>(simd, shape, panels, x, run, to),
    }
}

/// How the numbers of half a block are stored. These are trait functions, not closures: the compiler may leave a
/// closure out of the code that it compiles for an instruction set.
trait Stored {
    /// The weights of sixteen outputs for input `4 · word + BYTE` of a block.
    fn weights<S: Simd, const BYTE: u32>(simd: S, half: &[u8], word: usize, scales: [S::V; 2]) -> S::V;
}

struct Two;
struct Three;
struct Four;
struct Six;
struct Eight;
/// Indices into the levels of NF4, or into those of IQ4.
struct Levels<const IQ4: bool>;

impl Stored for Two {
    #[inline(always)]
    fn weights<S: Simd, const BYTE: u32>(simd: S, half: &[u8], word: usize, [scale, offset]: [S::V; 2]) -> S::V {
        simd.fma(scale, two_bits::<S, BYTE>(simd, half, word), offset)
    }
}

impl Stored for Three {
    #[inline(always)]
    fn weights<S: Simd, const BYTE: u32>(simd: S, half: &[u8], word: usize, [scale, offset]: [S::V; 2]) -> S::V {
        let upper = simd.bits(&half[128..], BYTE * 8 + word as u32, 1);
        simd.fma(scale, simd.fma(upper, simd.splat(4.0), two_bits::<S, BYTE>(simd, half, word)), offset)
    }
}

impl Stored for Four {
    #[inline(always)]
    fn weights<S: Simd, const BYTE: u32>(simd: S, half: &[u8], word: usize, [scale, offset]: [S::V; 2]) -> S::V {
        simd.fma(scale, four_bits::<S, BYTE>(simd, half, word), offset)
    }
}

impl Stored for Six {
    #[inline(always)]
    fn weights<S: Simd, const BYTE: u32>(simd: S, half: &[u8], word: usize, [scale, offset]: [S::V; 2]) -> S::V {
        let upper = two_bits::<S, BYTE>(simd, &half[256..], word);
        simd.fma(scale, simd.fma(upper, simd.splat(16.0), four_bits::<S, BYTE>(simd, half, word)), offset)
    }
}

impl Stored for Eight {
    #[inline(always)]
    fn weights<S: Simd, const BYTE: u32>(simd: S, half: &[u8], word: usize, [scale, offset]: [S::V; 2]) -> S::V {
        simd.fma(scale, simd.bits(&half[word * 64..], BYTE * 8, 255), offset)
    }
}

impl<const IQ4: bool> Stored for Levels<IQ4> {
    #[inline(always)]
    fn weights<S: Simd, const BYTE: u32>(simd: S, half: &[u8], word: usize, [scale, _]: [S::V; 2]) -> S::V {
        let levels = if IQ4 { &IQ4_LEVELS } else { &NF4_LEVELS };
        simd.mul(scale, simd.pick(levels, &half[word % 4 * 64..], BYTE * 8 + (word / 4 * 4) as u32))
    }
}

#[inline(always)]
fn four_bits<S: Simd, const BYTE: u32>(simd: S, half: &[u8], word: usize) -> S::V {
    let own = &half[word % 4 * 64..];
    // Both shifts are compile-time constants.
    if word < 4 { simd.bits(own, BYTE * 8, 15) } else { simd.bits(own, BYTE * 8 + 4, 15) }
}

#[inline(always)]
fn two_bits<S: Simd, const BYTE: u32>(simd: S, half: &[u8], word: usize) -> S::V {
    simd.bits(&half[word % 2 * 64..], BYTE * 8 + (word / 2 * 2) as u32, 3)
}

#[inline(always)]
fn open_as<S: Simd, K: Stored>(simd: S, shape: Shape, panel: &[u8], inputs: Range<usize>, to: &mut [f32]) {
    let mut start = inputs.start;
    while start < inputs.end {
        let (block, first) = (start / BLOCK, start % BLOCK);
        let end = inputs.end.min((block + 1) * BLOCK);
        let to = &mut to[(start - inputs.start) * BLOCK..][..(end - start) * BLOCK];
        match to.try_into() {
            Ok(whole) => open_block::<S, K>(simd, shape, panel, block, whole),
            Err(_) => {
                let mut opened = [0.0; BLOCK * BLOCK];
                open_block::<S, K>(simd, shape, panel, block, &mut opened);
                to.copy_from_slice(&opened[first * BLOCK..][..to.len()]);
            }
        }
        start = end;
    }
}

#[inline(always)]
fn open_block<S: Simd, K: Stored>(simd: S, shape: Shape, panel: &[u8], block: usize, to: &mut [f32; BLOCK * BLOCK]) {
    let (head, block) = shape.block(panel, block);
    let two_groups = shape.encoding.group() < BLOCK;
    for half in 0..2 {
        let own = shape.half(block, half);
        let mut scales = shape.scales(simd, head, block, 0, half);
        for word in 0..8 {
            if word == 4 && two_groups {
                scales = shape.scales(simd, head, block, 1, half);
            }
            let to = &mut to[4 * word * BLOCK + half * LANES..];
            simd.store(K::weights::<S, 0>(simd, own, word, scales), to);
            simd.store(K::weights::<S, 1>(simd, own, word, scales), &mut to[BLOCK..]);
            simd.store(K::weights::<S, 2>(simd, own, word, scales), &mut to[2 * BLOCK..]);
            simd.store(K::weights::<S, 3>(simd, own, word, scales), &mut to[3 * BLOCK..]);
        }
    }
}

#[inline(always)]
fn add_row_as<S: Simd, K: Stored>(simd: S, shape: Shape, panels: &[u8], x: &[f32], run: usize, to: &mut [f32; BLOCK]) {
    let x = x.as_chunks::<BLOCK>().0;
    let stride = shape.panel_len() / x.len().max(1);
    for (start, x) in (0..).step_by(run).zip(x.chunks(run)) {
        let (mut low, mut high) = (simd.splat(0.0), simd.splat(0.0));
        for (at, x) in (start..).zip(x) {
            prefetch_ahead(panels, at * stride..(at + 1) * stride);
            let (head, block) = shape.block(panels, at);
            low = add_half::<S, K>(simd, shape, head, block, 0, x, low);
            high = add_half::<S, K>(simd, shape, head, block, 1, x, high);
        }
        let (to_low, to_high) = to.split_at_mut(LANES);
        simd.store(simd.add(simd.load(to_low), low), to_low);
        simd.store(simd.add(simd.load(to_high), high), to_high);
    }
}

/// `sum + x·Wᵀ` for sixteen outputs of a block.
#[inline(always)]
fn add_half<S: Simd, K: Stored>(
    simd: S,
    shape: Shape,
    head: &[u8],
    block: &[u8],
    half: usize,
    x: &[f32; BLOCK],
    sum: S::V,
) -> S::V {
    let own = shape.half(block, half);
    let mut scales = shape.scales(simd, head, block, 0, half);
    let mut sum = sum;
    for word in 0..8 {
        if word == 4 && shape.encoding.group() < BLOCK {
            scales = shape.scales(simd, head, block, 1, half);
        }
        sum = simd.fma(simd.splat(x[4 * word]), K::weights::<S, 0>(simd, own, word, scales), sum);
        sum = simd.fma(simd.splat(x[4 * word + 1]), K::weights::<S, 1>(simd, own, word, scales), sum);
        sum = simd.fma(simd.splat(x[4 * word + 2]), K::weights::<S, 2>(simd, own, word, scales), sum);
        sum = simd.fma(simd.splat(x[4 * word + 3]), K::weights::<S, 3>(simd, own, word, scales), sum);
    }
    sum
}
