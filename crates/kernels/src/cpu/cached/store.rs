//! The storage of keys and values.

use super::{NewRows, PassScratch};
use crate::cpu::matrix::BLOCK;
use crate::cpu::number::{F16, halve};
use crate::cpu::simd::{Level, prefetch};

/// The keys and values of all layers, for a number of sequences, in single or half precision. It grows as needed.
#[derive(Clone, Debug)]
pub struct Store {
    kv_heads: usize,
    head_dim: usize,
    sequences: usize,
    /// The number of rows that each sequence has room for.
    rows: usize,
    layers: Layers,
    pub scratch: PassScratch,
}

/// For each layer the keys, `[sequences][kv_heads][rows/32][head_dim][32]`, and the values,
/// `[sequences][kv_heads][rows][head_dim]` with each row padded to whole blocks.
#[derive(Clone, Debug)]
enum Layers {
    Full(Vec<[Vec<f32>; 2]>),
    Half(Vec<[Vec<F16>; 2]>),
}

/// Runs the same code on layers of single or half precision.
macro_rules! of_either {
    ($layers:expr, $name:ident => $body:expr) => {
        match $layers {
            Layers::Full($name) => $body,
            Layers::Half($name) => $body,
        }
    };
}

/// The room is a multiple of this number of rows.
const STEP: usize = 256;

impl Store {
    /// With `half`, keys and values are rounded to 16 bits.
    pub fn new(layers: usize, kv_heads: usize, head_dim: usize, sequences: usize, half: bool) -> Self {
        let layers = match half {
            true => Layers::Half(vec![[Vec::new(), Vec::new()]; layers]),
            false => Layers::Full(vec![[Vec::new(), Vec::new()]; layers]),
        };
        Self { kv_heads, head_dim, sequences, rows: 0, layers, scratch: PassScratch::default() }
    }

    /// Elements per row of keys, and per row of values with its padding.
    fn widths(&self) -> [usize; 2] {
        [self.head_dim, self.head_dim.next_multiple_of(BLOCK)]
    }

    /// Makes room for `rows` rows of each sequence. It grows by at least half.
    pub fn reserve(&mut self, rows: usize) {
        if rows <= self.rows {
            return;
        }
        let (old, new) = (self.rows, rows.max(self.rows * 3 / 2).next_multiple_of(STEP));
        let runs = self.sequences * self.kv_heads;
        let widths = self.widths();
        of_either!(&mut self.layers, layers => for layer in layers {
            for (plane, width) in layer.iter_mut().zip(widths) {
                let mut larger = vec![Default::default(); runs * new * width];
                if old > 0 {
                    for (to, from) in larger.chunks_exact_mut(new * width).zip(plane.chunks_exact(old * width)) {
                        to[..from.len()].copy_from_slice(from);
                    }
                }
                *plane = larger;
            }
        });
        self.rows = new;
    }

    /// Copies the first `rows` rows of a sequence to another sequence.
    pub fn copy(&mut self, from: usize, to: usize, rows: usize) {
        let (widths, kv_heads, held) = (self.widths(), self.kv_heads, self.rows);
        of_either!(&mut self.layers, layers => for layer in layers {
            for (plane, width) in layer.iter_mut().zip(widths) {
                let len = held * width;
                for head in 0..kv_heads {
                    let start = (from * kv_heads + head) * len;
                    // Copies whole blocks, because keys are stored in panels of 32.
                    let source = start..start + rows.next_multiple_of(BLOCK) * width;
                    plane.copy_within(source, (to * kv_heads + head) * len);
                }
            }
        });
    }

    /// Prefetches the memory where the first new row of each sequence will be written: one cache line per element of
    /// its keys.
    pub fn prefetch(&self, layer: usize, runs: &[NewRows]) {
        let [key_width, value_width] = self.widths();
        for run in runs {
            for head in 0..self.kv_heads {
                let start = (run.sequence * self.kv_heads + head) * self.rows;
                let keys = (start + run.past / BLOCK * BLOCK) * key_width;
                let values = (start + run.past) * value_width;
                let [keys, values] = [keys..keys + BLOCK * key_width, values..values + value_width];
                match &self.layers {
                    Layers::Full(layers) => {
                        [(0, keys), (1, values)].map(|(at, place)| prefetch(&layers[layer][at][place]))
                    }
                    Layers::Half(layers) => {
                        [(0, keys), (1, values)].map(|(at, place)| prefetch(&layers[layer][at][place]))
                    }
                };
            }
        }
    }

    /// Appends a sequence's new rows, `[rows, kv_heads · head_dim]` each.
    pub fn write(&mut self, level: Level, layer: usize, run: &NewRows, key: &[f32], value: &[f32]) {
        let (widths, dim, row_width) = (self.widths(), self.head_dim, self.kv_heads * self.head_dim);
        for head in 0..self.kv_heads {
            let start = (run.sequence * self.kv_heads + head) * self.rows;
            for i in 0..run.new {
                let (row, at) = (run.past + i, i * row_width + head * dim);
                let [key_at, value_at] =
                    [(start + row / BLOCK * BLOCK) * widths[0] + row % BLOCK, (start + row) * widths[1]];
                let (key, value) = (&key[at..][..dim], &value[at..][..dim]);
                match &mut self.layers {
                    Layers::Full(layers) => {
                        let [keys, values] = &mut layers[layer];
                        keys[key_at..].iter_mut().step_by(BLOCK).zip(key).for_each(|(to, from)| *to = *from);
                        values[value_at..][..dim].copy_from_slice(value);
                    }
                    Layers::Half(layers) => {
                        let [keys, values] = &mut layers[layer];
                        halve(level, key, &mut keys[key_at..], BLOCK);
                        halve(level, value, &mut values[value_at..], 1);
                    }
                }
            }
        }
    }

    /// One head of one sequence.
    pub fn head(&self, layer: usize, sequence: usize, head: usize) -> Head<'_> {
        let start = (sequence * self.kv_heads + head) * self.rows;
        let [keys, values] = self.widths().map(|width| start * width..(start + self.rows) * width);
        let planes = match &self.layers {
            Layers::Full(layers) => CachedRows::Full([&layers[layer][0][keys], &layers[layer][1][values]]),
            Layers::Half(layers) => CachedRows::Half([&layers[layer][0][keys], &layers[layer][1][values]]),
        };
        Head { planes, widths: self.widths() }
    }
}

/// The keys and values of one head.
pub struct Head<'a> {
    pub planes: CachedRows<'a>,
    /// Elements per row of keys, and per row of values with its padding.
    pub widths: [usize; 2],
}

/// `[rows/32][head_dim][32]` and `[rows][head_dim]`, each row of the latter padded to whole blocks.
pub enum CachedRows<'a> {
    Full([&'a [f32]; 2]),
    Half([&'a [F16]; 2]),
}
