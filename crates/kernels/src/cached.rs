//! A stack of decoder layers over a cache of keys and values: what generation runs.

#[cfg(feature = "flex")]
use std::sync::OnceLock;

use burn::tensor::{Device, Int, Tensor, TensorData};

#[cfg(feature = "flex")]
use crate::cpu::cached::{Run, Store};
#[cfg(feature = "flex")]
use crate::flex::Held;
use crate::{FeedForward, Rotary, SelfAttention, Visibility};

/// One decoder layer.
#[derive(Clone, Debug)]
pub struct DecoderLayer<'a> {
    /// Its first half.
    pub attention: SelfAttention<'a>,
    /// Its second half.
    pub feed_forward: FeedForward<'a>,
}

/// A stack of decoder layers, for passes over caches of keys and values: it borrows the layers, so that what was made of them
/// for the first pass is true of every later one.
#[derive(Debug)]
pub struct Decoder<'a> {
    layers: Vec<DecoderLayer<'a>>,
    rope_theta: f64,
    window: Option<usize>,
    /// The layers as the CPU's kernels take them.
    #[cfg(feature = "flex")]
    held: OnceLock<Held>,
}

/// What a cache keeps of each token.
#[derive(Clone, Copy, Debug)]
pub struct KvShape {
    /// Decoder layers.
    pub layers: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

/// Keys and values of a batch of sequences, an argument of the forward pass.
///
/// Sequences may have different lengths; row `p` of a sequence holds the token at position `p`. Room is made in steps, as
/// the sequences grow.
#[derive(Clone, Debug)]
pub struct KvCache {
    store: Kind,
    lengths: Vec<usize>,
    capacity: usize,
    shape: KvShape,
}

#[derive(Clone, Debug)]
enum Kind {
    /// A pair a layer, each `[batch, kv_heads, rows, head_dim]`.
    Tensors(Vec<(Tensor<4>, Tensor<4>)>),
    #[cfg(feature = "flex")]
    Native(Store),
}

/// Rows by which a cache of tensors grows.
const STEP: usize = 256;

impl KvCache {
    /// An empty cache for `batch` sequences of up to `capacity` tokens each.
    pub fn new(shape: KvShape, batch: usize, capacity: usize, device: &Device) -> Self {
        let KvShape { layers, kv_heads, head_dim } = shape;
        let device = device.clone().without_autodiff();
        #[cfg(feature = "flex")]
        if crate::flex::is_flex(&device) {
            let store = Kind::Native(Store::new(layers, kv_heads, head_dim, batch, false));
            return Self { store, lengths: vec![0; batch], capacity, shape };
        }
        let empty = || Tensor::zeros([batch, kv_heads, STEP, head_dim], &device);
        let store = Kind::Tensors((0..layers).map(|_| (empty(), empty())).collect());
        Self { store, lengths: vec![0; batch], capacity, shape }
    }

    /// Whether keys and values are rounded to half precision: half the memory, and half of what attention reads. They are
    /// not at first, and on other devices than the CPU's kernels never are.
    ///
    /// # Panics
    /// When the cache holds a token.
    pub fn set_half(&mut self, half: bool) {
        assert!(self.lengths.iter().all(|&length| length == 0), "set_half: the cache holds tokens");
        #[cfg(feature = "flex")]
        if let Kind::Native(store) = &mut self.store {
            let KvShape { layers, kv_heads, head_dim } = self.shape;
            *store = Store::new(layers, kv_heads, head_dim, self.lengths.len(), half);
        }
        #[cfg(not(feature = "flex"))]
        let _ = half;
    }

    /// How many tokens each sequence holds.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// How many tokens a sequence can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets the last tokens of each sequence, so that sequence `b` holds `lengths[b]`.
    ///
    /// # Panics
    /// When the number of lengths is not that of the sequences, or one is more than the sequence holds.
    pub fn truncate(&mut self, lengths: &[usize]) {
        assert_eq!(lengths.len(), self.lengths.len(), "truncate: another number of sequences than the cache's");
        assert!(lengths.iter().zip(&self.lengths).all(|(new, old)| new <= old), "truncate: a sequence would grow");
        self.lengths.copy_from_slice(lengths);
    }

    /// Makes a sequence hold the first `rows` tokens of another one.
    ///
    /// # Panics
    /// When there is no such sequence, or `from` holds fewer tokens.
    pub fn copy(&mut self, from: usize, to: usize, rows: usize) {
        assert!(rows <= self.lengths[from] && to < self.lengths.len(), "copy: sequence {from} holds fewer tokens");
        self.lengths[to] = rows;
        if rows == 0 || from == to {
            return;
        }
        let KvShape { kv_heads, head_dim, .. } = self.shape;
        match &mut self.store {
            #[cfg(feature = "flex")]
            Kind::Native(store) => store.copy(from, to, rows),
            Kind::Tensors(layers) => {
                for (key, value) in layers {
                    for plane in [key, value] {
                        let source = plane.clone().slice([from..from + 1, 0..kv_heads, 0..rows, 0..head_dim]);
                        assign(plane, [to..to + 1, 0..kv_heads, 0..rows, 0..head_dim], source);
                    }
                }
            }
        }
    }
}

/// Writes in place: the tensor is moved out so that nothing else holds it.
fn assign(plane: &mut Tensor<4>, place: [std::ops::Range<usize>; 4], rows: Tensor<4>) {
    let owned = std::mem::replace(plane, Tensor::empty([1, 1, 1, 1], &rows.device()));
    *plane = owned.slice_assign(place, rows);
}

/// [`Decoder::forward`]'s arguments for the CPU's kernels.
#[cfg(feature = "flex")]
pub(crate) struct CachedPass<'a> {
    pub runs: &'a [Run],
    pub position_ids: &'a [u32],
    pub head_dim: usize,
    pub rope_theta: f64,
    pub window: Option<usize>,
    pub rounded: bool,
}

impl<'a> Decoder<'a> {
    /// Layers whose positions are rotated with a base of `rope_theta`, and see `window` positions at most.
    pub fn new(layers: Vec<DecoderLayer<'a>>, rope_theta: f64, window: Option<usize>) -> Self {
        #[cfg(feature = "flex")]
        return Self { layers, rope_theta, window, held: OnceLock::new() };
        #[cfg(not(feature = "flex"))]
        Self { layers, rope_theta, window }
    }

    /// Appends `new[b]` rows to sequence `b` of a cache, and runs the layers on them. Nothing of it is recorded for autodiff.
    ///
    /// With `rounded`, the CPU's kernels multiply quantised weights as integers, with what they are multiplied by rounded to
    /// eight bits in groups of 32, and take adapters in half precision: faster where there are few rows, and not exact.
    ///
    /// # Shapes
    /// - x, output: `[rows, d_model]`, the new rows of the first sequence, then of the second, …
    ///
    /// # Panics
    /// When the rows are not as many as `new` says, or a sequence has no room for them.
    pub fn forward(&self, x: Tensor<2>, new: &[usize], cache: &mut KvCache, rounded: bool) -> Tensor<2> {
        assert_eq!(new.len(), cache.lengths.len(), "decoder: another number of sequences than the cache's");
        assert_eq!(x.dims()[0], new.iter().sum::<usize>(), "decoder: rows and new rows differ in number");
        let past = cache.lengths.clone();
        assert!(
            past.iter().zip(new).all(|(past, new)| past + new <= cache.capacity),
            "decoder: a sequence outgrows the cache"
        );
        let &Self { rope_theta, window, .. } = self;
        let head_dim = cache.shape.head_dim;
        #[cfg(not(feature = "flex"))]
        let _ = rounded;
        let y = match &mut cache.store {
            #[cfg(feature = "flex")]
            Kind::Native(store) => {
                let runs: Vec<Run> = (0..new.len())
                    .filter(|&sequence| new[sequence] > 0)
                    .map(|sequence| Run { sequence, past: past[sequence], new: new[sequence] })
                    .collect();
                let position_ids: Vec<u32> = runs
                    .iter()
                    .flat_map(|run| (run.past..run.past + run.new).map(|position| position as u32))
                    .collect();
                let pass =
                    CachedPass { runs: &runs, position_ids: &position_ids, head_dim, rope_theta, window, rounded };
                self.held.get_or_init(|| Held::new(&self.layers)).forward(&x, &pass, store)
            }
            Kind::Tensors(store) => {
                let rotary =
                    |positions: &[u32], batch| Rotary::new(positions, batch, head_dim, rope_theta, &x.device());
                forward_padded(&self.layers, &x, new, &past, store, &rotary, window)
            }
        };
        for (length, new) in cache.lengths.iter_mut().zip(new) {
            *length += new;
        }
        y
    }
}

/// The reference: sequences that bring rows are computed side by side, padded to the one that brings the most.
fn forward_padded(
    layers: &[DecoderLayer<'_>],
    x: &Tensor<2>,
    new: &[usize],
    past: &[usize],
    store: &mut [(Tensor<4>, Tensor<4>)],
    rotary: &dyn Fn(&[u32], usize) -> Rotary,
    window: Option<usize>,
) -> Tensor<2> {
    let device = x.device();
    let active: Vec<usize> = (0..new.len()).filter(|&sequence| new[sequence] > 0).collect();
    let most = new.iter().copied().max().unwrap_or(0);
    if most == 0 {
        return x.clone();
    }
    // The rows with padding, and where the given rows are among them.
    let (mut padded, mut given, mut start) = (Vec::new(), Vec::new(), 0);
    for &sequence in &active {
        given.extend((0..new[sequence]).map(|row| (padded.len() + row) as i32));
        padded.extend((0..most).map(|row| (start + row.min(new[sequence] - 1)) as i32));
        start += new[sequence];
    }
    let index = |rows: &[i32]| Tensor::<1, Int>::from_data(TensorData::from(rows), &device);
    let past: Vec<usize> = active.iter().map(|&sequence| past[sequence]).collect();
    let keys = past.iter().max().map_or(0, |past| past + most);
    let positions: Vec<u32> = past.iter().flat_map(|&past| (past..past + most).map(|p| p as u32)).collect();
    let rotary = rotary(&positions, active.len());
    let visibility = Visibility::cached(&past, most, keys, window, &device);
    let mut hidden = x.clone().select(0, index(&padded));
    for (layer, (key_store, value_store)) in layers.iter().zip(store) {
        let mut append = |key: Tensor<4>, value: Tensor<4>| {
            let seen = |plane: &mut Tensor<4>, rows: Tensor<4>| {
                let [_, kv_heads, _, head_dim] = rows.dims();
                grow(plane, keys);
                for (i, (&sequence, &past)) in active.iter().zip(&past).enumerate() {
                    let place = [sequence..sequence + 1, 0..kv_heads, past..past + most, 0..head_dim];
                    assign(plane, place, rows.clone().narrow(0, i, 1));
                }
                let all = plane.clone().narrow(2, 0, keys);
                if active.len() == plane.dims()[0] {
                    return all;
                }
                let active: Vec<i32> = active.iter().map(|&sequence| sequence as i32).collect();
                all.select(0, index(&active))
            };
            (seen(key_store, key), seen(value_store, value))
        };
        let mixed = layer.attention.forward(hidden, &rotary, &visibility, Some(&mut append));
        hidden = layer.feed_forward.forward(mixed);
    }
    hidden.select(0, index(&given))
}

/// Makes room for so many rows.
fn grow(plane: &mut Tensor<4>, rows: usize) {
    let [batch, kv_heads, held, head_dim] = plane.dims();
    if rows > held {
        let more = rows.max(held * 3 / 2).next_multiple_of(STEP) - held;
        let more = Tensor::zeros([batch, kv_heads, more, head_dim], &plane.device());
        *plane = Tensor::cat(vec![plane.clone(), more], 2);
    }
}
