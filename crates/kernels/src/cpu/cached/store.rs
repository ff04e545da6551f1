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
    sequences: Vec<Sequence>,
    pub scratch: PassScratch,
}

#[derive(Clone, Debug)]
struct Sequence {
    /// The number of rows that the sequence has room for.
    rows: usize,
    layers: Layers,
}

/// For each layer the keys, `[kv_heads][rows/32][head_dim][32]`, and the values, `[kv_heads][rows][head_dim]` with each
/// row padded to whole blocks.
#[derive(Clone, Debug)]
enum Layers {
    Full(Vec<[Vec<f32>; 2]>),
    Half(Vec<[Vec<F16>; 2]>),
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
        let sequences = vec![Sequence { rows: 0, layers }; sequences];
        Self { kv_heads, head_dim, sequences, scratch: PassScratch::default() }
    }

    /// Elements per row of keys, and per row of values with its padding.
    fn widths(&self) -> [usize; 2] {
        [self.head_dim, self.head_dim.next_multiple_of(BLOCK)]
    }

    /// Makes room for `rows` rows of a sequence. It grows by at least half.
    pub fn reserve(&mut self, sequence: usize, rows: usize) {
        let (widths, kv_heads) = (self.widths(), self.kv_heads);
        let sequence = &mut self.sequences[sequence];
        if rows <= sequence.rows {
            return;
        }
        let (old, new) = (sequence.rows, rows.max(sequence.rows * 3 / 2).next_multiple_of(STEP));
        match &mut sequence.layers {
            Layers::Full(layers) => layers.iter_mut().for_each(|layer| grow(layer, widths, kv_heads, old, new)),
            Layers::Half(layers) => layers.iter_mut().for_each(|layer| grow(layer, widths, kv_heads, old, new)),
        }
        sequence.rows = new;
    }

    /// Frees the memory of a sequence.
    pub fn free(&mut self, sequence: usize) {
        let sequence = &mut self.sequences[sequence];
        match &mut sequence.layers {
            Layers::Full(layers) => layers.fill([const { Vec::new() }; 2]),
            Layers::Half(layers) => layers.fill([const { Vec::new() }; 2]),
        }
        sequence.rows = 0;
    }

    /// Copies the first `rows` rows of a sequence to another sequence.
    ///
    /// # Panics
    /// When the two are the same.
    pub fn copy(&mut self, from: usize, to: usize, rows: usize) {
        self.reserve(to, rows);
        let (widths, kv_heads) = (self.widths(), self.kv_heads);
        let [from, to] = self.sequences.get_disjoint_mut([from, to]).expect("two sequences of the store");
        let held = [from.rows, to.rows];
        match (&from.layers, &mut to.layers) {
            (Layers::Full(from), Layers::Full(to)) => copy_rows(from, to, widths, kv_heads, held, rows),
            (Layers::Half(from), Layers::Half(to)) => copy_rows(from, to, widths, kv_heads, held, rows),
            _ => unreachable!("all sequences of a store have the same precision"),
        }
    }

    /// Prefetches the memory where the first new row of each sequence will be written: one cache line per element of
    /// its keys.
    pub fn prefetch(&self, layer: usize, runs: &[NewRows]) {
        let [key_width, value_width] = self.widths();
        for run in runs {
            let sequence = &self.sequences[run.sequence];
            for head in 0..self.kv_heads {
                let start = head * sequence.rows;
                let keys = (start + run.past / BLOCK * BLOCK) * key_width;
                let values = (start + run.past) * value_width;
                let [keys, values] = [keys..keys + BLOCK * key_width, values..values + value_width];
                match &sequence.layers {
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
        let sequence = &mut self.sequences[run.sequence];
        for head in 0..self.kv_heads {
            let start = head * sequence.rows;
            for i in 0..run.new {
                let (row, at) = (run.past + i, i * row_width + head * dim);
                let [key_at, value_at] =
                    [(start + row / BLOCK * BLOCK) * widths[0] + row % BLOCK, (start + row) * widths[1]];
                let (key, value) = (&key[at..][..dim], &value[at..][..dim]);
                match &mut sequence.layers {
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
        let sequence = &self.sequences[sequence];
        let start = head * sequence.rows;
        let [keys, values] = self.widths().map(|width| start * width..(start + sequence.rows) * width);
        let planes = match &sequence.layers {
            Layers::Full(layers) => CachedRows::Full([&layers[layer][0][keys], &layers[layer][1][values]]),
            Layers::Half(layers) => CachedRows::Half([&layers[layer][0][keys], &layers[layer][1][values]]),
        };
        Head { planes, widths: self.widths() }
    }
}

/// Replaces the planes of a layer by larger ones, with room for `new` rows in place of `old`.
fn grow<T: Copy + Default>(layer: &mut [Vec<T>; 2], widths: [usize; 2], kv_heads: usize, old: usize, new: usize) {
    for (plane, width) in layer.iter_mut().zip(widths) {
        let mut larger = vec![T::default(); kv_heads * new * width];
        if old > 0 {
            for (to, from) in larger.chunks_exact_mut(new * width).zip(plane.chunks_exact(old * width)) {
                to[..from.len()].copy_from_slice(from);
            }
        }
        *plane = larger;
    }
}

/// Copies the first `rows` rows of planes that have room for `held` rows.
fn copy_rows<T: Copy>(
    from: &[[Vec<T>; 2]],
    to: &mut [[Vec<T>; 2]],
    widths: [usize; 2],
    kv_heads: usize,
    held: [usize; 2],
    rows: usize,
) {
    for (from, to) in from.iter().zip(to) {
        for ((from, to), width) in from.iter().zip(to).zip(widths) {
            for head in 0..kv_heads {
                // Copies whole blocks, because keys are stored in panels of 32.
                let len = rows.next_multiple_of(BLOCK) * width;
                let [from_start, to_start] = held.map(|held| head * held * width);
                to[to_start..][..len].copy_from_slice(&from[from_start..][..len]);
            }
        }
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
