//! Quantised matrices, packed in panels of 32 outputs.

mod open;

use std::ops::Range;

use super::BLOCK;
use super::bytes::Bytes;
use crate::cpu::pool::{DisjointParts, parallel};
use crate::cpu::simd::{LANES, Level, Simd};
use crate::encoding::{Encoding, Numbers, Offset, Row, RowBuffers};
use open::{add_row, open};

/// Bytes of 32 half-precision scales, one per output.
const HALVES: usize = 2 * BLOCK;

/// A quantised matrix `[out, in]` in panels of 32 outputs.
///
/// A panel is a sequence of super-blocks. Each super-block holds its scales (half precision, one for each of 32
/// outputs; likewise its minima), then its blocks of 32 inputs. A block consists of two halves of 16 outputs, each
/// `[numbers/4][16 outputs][4 numbers]`, and then the block's own scales and minima. So a 32-bit lane holds four inputs
/// of one output: the integer product needs no sums across lanes, and one shift selects one input of sixteen outputs.
///
/// - Four bits: a byte holds input `k` of the block in its lower half and input `k + 16` in its upper half.
/// - Six bits: the lower four bits as above, then `[2][16 outputs][4]` bytes with the upper two bits: byte `k % 8`
///   holds those of inputs `k`, `k + 8`, `k + 16` and `k + 24`.
/// - Two bits: as the upper two of six.
/// - Three bits: the lower two bits as above, then `[16 outputs][4]` bytes with the third bit: byte `k % 4` holds those
///   of inputs `k`, `k + 4`, …, `k + 28`.
#[derive(Debug)]
pub struct Blocks {
    encoding: Encoding,
    out: usize,
    input: usize,
    bytes: Bytes,
}

impl Blocks {
    /// Packs a matrix. `row` is called for each row and fills it in.
    ///
    /// # Panics
    /// When `in` is not a whole number of the encoding's super-blocks.
    pub fn new(encoding: Encoding, out: usize, input: usize, row: impl Fn(usize, Row<'_>) + Sync) -> Self {
        assert!(input.is_multiple_of(encoding.divisor()), "blocks: {input} inputs are not a whole number of blocks");
        let shape = Shape::new(encoding, input);
        let panel_len = shape.panel_len();
        let mut bytes = Bytes::zeroed(out.div_ceil(BLOCK) * panel_len);
        let parts = DisjointParts::new(&mut bytes);
        parallel(out.div_ceil(BLOCK), |panel| {
            // SAFETY: panel `panel` is the bytes `panel * panel_len..(panel + 1) * panel_len`. Panels do not overlap,
            // and `parallel` calls each one once, so no other thread writes these bytes.
            let to = unsafe { parts.part(panel * panel_len, panel_len) };
            let mut planes = RowBuffers::new(encoding, input);
            for lane in 0..BLOCK.min(out - panel * BLOCK) {
                row(panel * BLOCK + lane, planes.row());
                shape.pack_lane(&planes, lane, to);
            }
        });
        Self { encoding, out, input, bytes }
    }

    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub fn out(&self) -> usize {
        self.out
    }

    pub fn input(&self) -> usize {
        self.input
    }

    pub fn shape(&self) -> Shape {
        Shape::new(self.encoding, self.input)
    }

    fn panel_len(&self) -> usize {
        self.shape().panel_len()
    }

    /// The bytes of a panel.
    pub fn panel(&self, panel: usize) -> &[u8] {
        &self.bytes[panel * self.panel_len()..][..self.panel_len()]
    }

    /// The bytes of all panels from the given one on.
    pub fn panels_from(&self, panel: usize) -> &[u8] {
        &self.bytes[panel * self.panel_len()..]
    }

    /// Adds to `to` the products of one row with a panel's weights. Each run of `run` inputs is summed by itself; then
    /// the sums of the runs are added.
    ///
    /// # Panics
    /// When the row does not have the matrix's `in` elements, or `run` is not a whole number of blocks.
    pub fn add_row(&self, level: Level, panel: usize, x: &[f32], run: usize, to: &mut [f32; BLOCK]) {
        assert!(x.len() == self.input && run > 0 && run.is_multiple_of(BLOCK), "add_row: not a row, or not in blocks");
        add_row(level, self.shape(), self.panels_from(panel), x, run / BLOCK, to);
    }

    /// Writes the weights of a panel for a range of inputs: `[inputs][32]`.
    pub fn open(&self, level: Level, panel: usize, inputs: Range<usize>, to: &mut [f32]) {
        open(level, self.shape(), self.panel(panel), inputs, to);
    }
}

/// The positions of all parts of a panel.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub encoding: Encoding,
    input: usize,
    /// Blocks of 32 inputs in a super-block.
    blocks: usize,
    /// Bytes of the numbers of one half of a block.
    half: usize,
}

impl Shape {
    pub fn new(encoding: Encoding, input: usize) -> Self {
        let blocks = encoding.super_inputs(input) / BLOCK;
        let bits = match encoding.numbers() {
            Numbers::Two => 2,
            Numbers::Three => 3,
            Numbers::Four | Numbers::Levels => 4,
            Numbers::Six => 6,
            Numbers::Eight => 8,
        };
        let half = bits * BLOCK * LANES / 8;
        Self { encoding, input, blocks, half }
    }

    #[inline(always)]
    fn groups_a_block(&self) -> usize {
        (BLOCK / self.encoding.group()).max(1)
    }

    #[inline(always)]
    fn super_head(&self) -> usize {
        if self.encoding.offset() == Offset::Minimum { 2 * HALVES } else { HALVES }
    }

    #[inline(always)]
    fn block_len(&self) -> usize {
        let planes = usize::from(self.encoding.is_nested()) + usize::from(self.encoding.has_sub_minima());
        2 * self.half + planes * self.groups_a_block() * BLOCK
    }

    pub fn panel_len(&self) -> usize {
        self.input.div_ceil(self.blocks.max(1) * BLOCK) * (self.super_head() + self.blocks * self.block_len())
    }

    /// The scales of the block's super-block, and the bytes of the block, given the block's index in the panel.
    #[inline(always)]
    pub fn block<'a>(&self, panel: &'a [u8], block: usize) -> (&'a [u8], &'a [u8]) {
        let start = block / self.blocks * (self.super_head() + self.blocks * self.block_len());
        let at = start + self.super_head() + block % self.blocks * self.block_len();
        (&panel[start..][..self.super_head()], &panel[at..][..self.block_len()])
    }

    /// The numbers of one half of a block.
    #[inline(always)]
    pub fn half<'a>(&self, block: &'a [u8], half: usize) -> &'a [u8] {
        &block[half * self.half..][..self.half]
    }

    fn pack_lane(&self, planes: &RowBuffers, lane: usize, panel: &mut [u8]) {
        let (half, lane_of_half) = (lane / LANES, lane % LANES);
        let super_len = self.super_head() + self.blocks * self.block_len();
        for (super_block, to) in panel.chunks_exact_mut(super_len).enumerate() {
            let (head, blocks) = to.split_at_mut(self.super_head());
            head[2 * lane..][..2].copy_from_slice(&planes.scales[super_block].to_le_bytes());
            if let Some(minimum) = planes.minima.get(super_block) {
                head[HALVES + 2 * lane..][..2].copy_from_slice(&minimum.to_le_bytes());
            }
            for (i, block) in blocks.chunks_exact_mut(self.block_len()).enumerate() {
                let at = super_block * self.blocks + i;
                let (numbers, own) = block.split_at_mut(2 * self.half);
                let from: &[u8; BLOCK] = planes.numbers[at * BLOCK..].first_chunk().expect("whole blocks");
                self.pack_numbers(from, lane_of_half, &mut numbers[half * self.half..][..self.half]);
                let groups = self.groups_a_block();
                for (plane, own) in
                    [&planes.sub_scales, &planes.sub_minima].into_iter().zip(own.chunks_mut(groups * BLOCK))
                {
                    for (group, own) in own.chunks_exact_mut(BLOCK).enumerate() {
                        own[lane] =
                            plane[(at * BLOCK + group * BLOCK / groups) / self.encoding.group()].cast_unsigned();
                    }
                }
            }
        }
    }

    fn pack_numbers(&self, from: &[u8; BLOCK], lane: usize, to: &mut [u8]) {
        let (words, _) = to.as_chunks_mut::<{ 4 * LANES }>();
        match self.encoding.numbers() {
            Numbers::Eight => {
                for (word, from) in words.iter_mut().zip(from.as_chunks::<4>().0) {
                    word[4 * lane..][..4].copy_from_slice(from);
                }
            }
            Numbers::Four | Numbers::Levels => {
                for (j, word) in words.iter_mut().enumerate() {
                    for i in 0..4 {
                        word[4 * lane + i] = from[4 * j + i] & 15 | from[16 + 4 * j + i] << 4;
                    }
                }
            }
            Numbers::Six => {
                let (low, high) = words.split_at_mut(4);
                for (j, word) in low.iter_mut().enumerate() {
                    for i in 0..4 {
                        word[4 * lane + i] = from[4 * j + i] & 15 | from[16 + 4 * j + i] << 4;
                    }
                }
                pack_pairs(from, 4, lane, high);
            }
            Numbers::Two => pack_pairs(from, 0, lane, words),
            Numbers::Three => {
                let (low, high) = words.split_at_mut(2);
                pack_pairs(from, 0, lane, low);
                for (i, to) in high[0][4 * lane..][..4].iter_mut().enumerate() {
                    *to = (0..8).fold(0, |byte, run| byte | (from[4 * run + i] >> 2 & 1) << run);
                }
            }
        }
    }

    /// The scale and offset of sixteen outputs in one group of a block: a weight is `scale · number + offset`.
    #[inline(always)]
    pub fn scales<S: Simd>(&self, simd: S, head: &[u8], block: &[u8], group: usize, half: usize) -> [S::V; 2] {
        let scale = simd.f16(&head[half * 2 * LANES..]);
        let own = &block[2 * self.half..];
        let (at, groups) = (group * BLOCK + half * LANES, self.groups_a_block());
        match self.encoding.offset() {
            Offset::Minimum => {
                let minimum = simd.f16(&head[HALVES + half * 2 * LANES..]);
                if self.encoding.has_minima_of_scales() {
                    [simd.fma(scale, simd.i8(&own[at..]), minimum), simd.splat(0.0)]
                } else if self.encoding.is_nested() {
                    let sub_minima = &own[groups * BLOCK..];
                    [simd.mul(scale, simd.i8(&own[at..])), simd.mul(minimum, simd.i8(&sub_minima[at..]))]
                } else {
                    [scale, minimum]
                }
            }
            Offset::Zero(zero) => {
                let scale = if self.encoding.is_nested() { simd.mul(scale, simd.i8(&own[at..])) } else { scale };
                [scale, simd.mul(scale, simd.splat(-f32::from(zero)))]
            }
        }
    }
}

/// Packs two bits of each number, those from `shift` on: byte `k % 8` holds those of inputs `k`, `k + 8`, …
fn pack_pairs(from: &[u8; BLOCK], shift: u32, lane: usize, to: &mut [[u8; 4 * LANES]]) {
    for (j, word) in to.iter_mut().enumerate() {
        for (i, to) in word[4 * lane..][..4].iter_mut().enumerate() {
            *to = (0..4).fold(0, |byte, run| byte | (from[8 * run + 4 * j + i] >> shift & 3) << (2 * run));
        }
    }
}
