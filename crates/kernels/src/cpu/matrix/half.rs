//! Matrices of 16-bit weights, packed in panels of 32 outputs.

use std::ops::Range;

use super::BLOCK;
use super::bytes::Bytes;
use crate::cpu::pool::parallel_chunks;
use crate::cpu::simd::{LANES, Level, Simd, dispatch};
use crate::encoding::HalfKind;

/// A matrix `[out, in]` in a 16-bit format, in the same layout as [`PackedMatrix`](super::PackedMatrix).
#[derive(Debug)]
pub struct Half {
    kind: HalfKind,
    out: usize,
    input: usize,
    bytes: Bytes,
}

impl Half {
    /// Packs a matrix. `row` is called for each row and fills in its bytes, little-endian.
    pub fn new(kind: HalfKind, out: usize, input: usize, row: impl Fn(usize, &mut [u8]) + Sync) -> Self {
        let panel_len = Self::panel_len(input);
        let mut bytes = Bytes::zeroed(out.div_ceil(BLOCK) * panel_len);
        parallel_chunks(&mut bytes, panel_len.max(1), |panel, to| {
            let mut values = vec![0; 2 * input];
            for lane in 0..BLOCK.min(out - panel * BLOCK) {
                row(panel * BLOCK + lane, &mut values);
                for (to, value) in to.chunks_exact_mut(2 * BLOCK).zip(values.as_chunks::<2>().0) {
                    to[2 * lane..][..2].copy_from_slice(value);
                }
            }
        });
        Self { kind, out, input, bytes }
    }

    pub fn out(&self) -> usize {
        self.out
    }

    pub fn input(&self) -> usize {
        self.input
    }

    /// Bytes per panel.
    pub fn panel_len(input: usize) -> usize {
        2 * input * BLOCK
    }

    /// The bytes of a panel.
    pub fn panel(&self, panel: usize) -> &[u8] {
        let len = Self::panel_len(self.input);
        &self.bytes[panel * len..][..len]
    }

    /// Writes the weights of a panel for a range of inputs, in single precision: `[inputs][32]`.
    pub fn open(&self, level: Level, panel: usize, inputs: Range<usize>, to: &mut [f32]) {
        let bytes = &self.bytes[(panel * self.input + inputs.start) * 2 * BLOCK..][..inputs.len() * 2 * BLOCK];
        open(level, self.kind, bytes, to);
    }
}

dispatch! {
    fn open(kind: HalfKind, bytes: &[u8], to: &mut [f32]) = open_with
}

#[inline(always)]
fn open_with<S: Simd>(simd: S, kind: HalfKind, bytes: &[u8], to: &mut [f32]) {
    for (bytes, to) in bytes.chunks_exact(2 * LANES).zip(to.chunks_exact_mut(LANES)) {
        let values = match kind {
            HalfKind::F16 => simd.f16(bytes),
            HalfKind::Bf16 => simd.bf16(bytes),
        };
        simd.store(values, to);
    }
}
