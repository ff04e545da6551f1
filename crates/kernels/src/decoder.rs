//! A model's passes over a KV cache, for generation.

use std::cell::OnceCell;
#[cfg(feature = "flex")]
use std::sync::OnceLock;

use burn::tensor::{Int, Tensor, TensorData};

use crate::cached::{Kind, STEP, assign};
#[cfg(feature = "flex")]
use crate::flex::Held;
use crate::{AttentionHalf, FeedForward, KvStore, Linear, Rope, Rotary, Visibility, Weight, projection, rms_norm};

/// One decoder layer.
#[derive(Clone, Debug)]
pub struct DecoderLayerParts<'a> {
    /// Attention.
    pub attention: AttentionHalf<'a>,
    /// The feed-forward block.
    pub feed_forward: FeedForward<'a>,
    /// Whether a row sees the window of [`DecoderKernel::new`] alone.
    pub is_windowed: bool,
}

/// The parts before and after the layers.
#[derive(Clone, Debug)]
pub struct Ends<'a> {
    /// `[vocab, d_model]`
    pub embed_tokens: &'a Weight,
    /// The weight of the last norm, `[d_model]`.
    pub norm: Tensor<1>,
    /// The epsilon of the norm, added to the mean square.
    pub eps: f64,
    /// `[vocab, d_model]`
    pub lm_head: &'a Weight,
}

/// A whole model, for passes over caches of keys and values. It borrows its parts, so they cannot change between
/// passes: data prepared for the first pass stays valid for every later one.
#[derive(Debug)]
pub struct DecoderKernel<'a> {
    layers: Vec<DecoderLayerParts<'a>>,
    ends: Ends<'a>,
    rope: Rope,
    window: Option<usize>,
    /// The parts in the form that the CPU kernels use.
    #[cfg(feature = "flex")]
    held: OnceLock<Held>,
}

/// A pass for the CPU's kernels.
#[cfg(feature = "flex")]
pub(crate) struct CachedPass<'a> {
    pub input_ids: &'a [u32],
    /// The number of new tokens of each sequence, and the number in the cache.
    pub new: &'a [usize],
    pub past: &'a [usize],
    pub head_dim: usize,
    pub rope: &'a Rope,
    pub window: Option<usize>,
    pub rounded: bool,
}

impl<'a> DecoderKernel<'a> {
    /// Layers between `ends`. Positions are rotated with `rope`; in a windowed layer, a token sees at most
    /// `window` positions.
    pub fn new(layers: Vec<DecoderLayerParts<'a>>, ends: Ends<'a>, rope: Rope, window: Option<usize>) -> Self {
        Self {
            layers,
            ends,
            rope,
            window,
            #[cfg(feature = "flex")]
            held: OnceLock::new(),
        }
    }

    /// Appends `new[b]` tokens to sequence `b` of a cache. `input_ids` has the tokens of the first sequence, then those
    /// of the second, and so on.
    ///
    /// # Panics
    /// When there is no token, when their number is not the sum of `new`, when one is not in the vocabulary, or when a
    /// sequence has no room.
    pub fn append(&self, input_ids: &[u32], new: &[usize], cache: &mut KvStore) {
        self.pass(input_ids, new, cache, false, None);
    }

    /// As [`append`](Self::append). Also replaces `logits` by the logits after the last token of each sequence that has
    /// new tokens, `[sequences, vocab]`.
    ///
    /// With `rounded`, the CPU kernels multiply quantised weights as integers, with the other factor rounded to eight
    /// bits in groups of 32, and use adapters in half precision. This is faster for few rows, and not exact.
    ///
    /// The CPU kernels allocate no memory in a pass like an earlier one if the cache has room.
    ///
    /// # Panics
    /// As [`append`](Self::append).
    pub fn next_logits(
        &self,
        input_ids: &[u32],
        new: &[usize],
        cache: &mut KvStore,
        rounded: bool,
        logits: &mut Vec<f32>,
    ) {
        self.pass(input_ids, new, cache, rounded, Some(logits));
    }

    fn pass(
        &self,
        input_ids: &[u32],
        new: &[usize],
        cache: &mut KvStore,
        rounded: bool,
        logits: Option<&mut Vec<f32>>,
    ) {
        let vocab = self.ends.embed_tokens.dims()[0];
        let (capacity, head_dim) = (cache.capacity(), cache.shape.head_dim);
        let past = &cache.lengths;
        assert_eq!(new.len(), past.len(), "decoder: another number of sequences than the cache's");
        assert_eq!(input_ids.len(), new.iter().sum::<usize>(), "decoder: tokens and new tokens differ in number");
        assert!(!input_ids.is_empty(), "decoder: no sequence brings a token");
        assert!(
            past.iter().zip(new).all(|(past, new)| past + new <= capacity),
            "decoder: a sequence outgrows the cache"
        );
        assert!(input_ids.iter().all(|&id| (id as usize) < vocab), "decoder: an id is not below {vocab}");
        let (rope, window) = (&self.rope, self.window);
        #[cfg(not(feature = "flex"))]
        let _ = (rounded, head_dim);
        match &mut cache.store {
            #[cfg(feature = "flex")]
            Kind::Native(store) => {
                let pass = CachedPass { input_ids, new, past, head_dim, rope, window, rounded };
                let held = self.held.get_or_init(|| Held::new(&self.layers, &self.ends));
                held.pass(&pass, store, logits);
            }
            Kind::Tensors(store) => {
                let x = self.ends.embed_tokens.select(input_ids);
                let rotary = |positions: &[u32], batch| Rotary::new(positions, batch, rope, &x.device());
                let hidden = forward_padded(&self.layers, &x, new, past, store, &rotary, window);
                if let Some(logits) = logits {
                    self.ends.logits(hidden, new, logits);
                }
            }
        }
        for (length, new) in cache.lengths.iter_mut().zip(new) {
            *length += new;
        }
    }
}

impl Ends<'_> {
    /// The reference: the logits of each sequence's last row.
    fn logits(&self, hidden: Tensor<2>, new: &[usize], logits: &mut Vec<f32>) {
        let last = new.iter().filter(|&&new| new > 0).scan(0, |end, new| {
            *end += new;
            Some(*end as i32 - 1)
        });
        let last: Vec<i32> = last.collect();
        let last = Tensor::<1, Int>::from_data(TensorData::from(last.as_slice()), &hidden.device());
        let normed = rms_norm(hidden.select(0, last), self.norm.clone(), self.eps);
        let found = projection(normed, Linear { weight: self.lm_head, bias: None, adapter: None });
        *logits = found.into_data().try_into_vec().expect("logits are f32");
    }
}

/// The reference: the sequences with new rows are computed side by side, padded to the largest number of new rows.
fn forward_padded(
    layers: &[DecoderLayerParts<'_>],
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
    // The rows with padding, and the index of each given row among them.
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
    let visibility = |window| Visibility::cached(&past, most, keys, window, &device);
    let (full, windowed) = (OnceCell::new(), OnceCell::new());
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
        let visibility = match layer.is_windowed {
            true => windowed.get_or_init(|| visibility(window)),
            false => full.get_or_init(|| visibility(None)),
        };
        let mixed = layer.attention.forward(hidden, &rotary, visibility, Some(&mut append));
        hidden = layer.feed_forward.forward(mixed);
    }
    hidden.select(0, index(&given))
}

/// Makes room for at least `rows` rows.
fn grow(plane: &mut Tensor<4>, rows: usize) {
    let [batch, kv_heads, held, head_dim] = plane.dims();
    if rows > held {
        let more = rows.max(held * 3 / 2).next_multiple_of(STEP) - held;
        let more = Tensor::zeros([batch, kv_heads, more, head_dim], &plane.device());
        *plane = Tensor::cat(vec![plane.clone(), more], 2);
    }
}
