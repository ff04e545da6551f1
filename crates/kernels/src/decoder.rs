//! A model's passes over a KV cache, for generation.

use std::borrow::Cow;
use std::cell::OnceCell;
#[cfg(feature = "flex")]
use std::sync::OnceLock;

use burn::tensor::{Int, Tensor, TensorData};

use crate::cached::{Kind, STEP, assign};
#[cfg(feature = "flex")]
use crate::flex::{Held, HeldAdapters};
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

/// What a decoder needs of a model.
pub trait DecoderModel {
    /// Its decoder layers, in order.
    fn layers(&self) -> Vec<DecoderLayerParts<'_>>;

    /// The parts before and after the layers.
    fn ends(&self) -> Ends<'_>;
}

impl<M: DecoderModel + Clone> DecoderModel for Cow<'_, M> {
    fn layers(&self) -> Vec<DecoderLayerParts<'_>> {
        (**self).layers()
    }

    fn ends(&self) -> Ends<'_> {
        (**self).ends()
    }
}

/// A base, alone and with adapters, for passes over caches of keys and values. It holds its models, so they cannot
/// change between passes: data prepared for the first pass stays valid for every later one.
///
/// All its models have the weights of the first one, and each has adapters of its own, or none. Sequences of different
/// models are computed in one pass, and read each weight once.
#[derive(Debug)]
pub struct DecoderKernel<M> {
    /// By index; `None` where a model was removed.
    models: Vec<Option<HeldModel<M>>>,
    rope: Rope,
    window: Option<usize>,
    /// The first model's parts in the form that the CPU kernels use.
    #[cfg(feature = "flex")]
    held: OnceLock<Held>,
}

#[derive(Debug)]
struct HeldModel<M> {
    model: M,
    #[cfg(feature = "flex")]
    adapters: OnceLock<HeldAdapters>,
}

/// A pass for the CPU's kernels.
#[cfg(feature = "flex")]
pub(crate) struct CachedPass<'a> {
    pub input_ids: &'a [u32],
    /// Of each sequence: the number of new tokens, the number in the cache, and the index of the model.
    pub new: &'a [usize],
    pub past: &'a [usize],
    pub models: &'a [usize],
    pub head_dim: usize,
    pub rope: &'a Rope,
    pub window: Option<usize>,
    pub rounded: bool,
}

impl<M: DecoderModel> DecoderKernel<M> {
    /// Positions are rotated with `rope`; in a windowed layer, a token sees at most `window` positions.
    pub fn new(model: M, rope: Rope, window: Option<usize>) -> Self {
        Self {
            models: vec![Some(HeldModel::new(model))],
            rope,
            window,
            #[cfg(feature = "flex")]
            held: OnceLock::new(),
        }
    }

    /// Adds a model with the same base and other adapters, and returns its index. The first model has index 0, and the
    /// index of a removed one is used again. [`KvStore::begin`] says which sequence belongs to which model.
    ///
    /// # Panics
    /// When its weights are not those of the first model.
    pub fn add(&mut self, model: M) -> usize {
        assert!(self.has_base_of(&model), "decoder: a model on another base");
        let place = match self.models.iter().position(Option::is_none) {
            Some(place) => place,
            None => {
                self.models.push(None);
                self.models.len() - 1
            }
        };
        self.models[place] = Some(HeldModel::new(model));
        place
    }

    /// Removes a model. No pass may have a sequence of it any more.
    ///
    /// # Panics
    /// When it is the first one.
    pub fn remove(&mut self, index: usize) {
        assert_ne!(index, 0, "decoder: the first model stays");
        self.models[index] = None;
    }

    /// The model with this index.
    pub fn model(&self, index: usize) -> Option<&M> {
        Some(&self.models.get(index)?.as_ref()?.model)
    }

    /// Whether a model's weights are those of the first model: the same weights on a device that packs them, and weights
    /// of the same shapes elsewhere.
    pub fn has_base_of(&self, model: &M) -> bool {
        let (layers, others) = (self.first().layers(), model.layers());
        let same = |a: Linear<'_>, b: Linear<'_>| a.weight.is_shared_with(b.weight);
        layers.len() == others.len()
            && layers.iter().zip(&others).all(|(a, b)| {
                let linears = a.linears().into_iter().zip(b.linears());
                linears.into_iter().all(|(a, b)| same(a, b))
            })
    }

    fn first(&self) -> &M {
        self.model(0).expect("the first model is never removed")
    }

    /// Appends `new[b]` tokens to sequence `b` of a cache. `input_ids` has the tokens of the first sequence, then those
    /// of the second, and so on.
    ///
    /// # Panics
    /// When there is no token, when their number is not the sum of `new`, when one is not in the vocabulary, when a
    /// sequence has no room, or when its model was removed.
    pub fn append(&self, input_ids: &[u32], new: &[usize], cache: &mut KvStore) {
        self.pass(input_ids, new, cache, false, Wanted::Nothing);
    }

    /// As [`append`](Self::append). Also replaces `logits` by the logits after the last token of each sequence that has
    /// new tokens, `[sequences, vocab]`.
    ///
    /// With `rounded`, the CPU kernels multiply quantised weights as integers, with the other factor rounded to eight
    /// bits in groups of 32, and use adapters in half precision. This is faster for few rows, and not exact.
    ///
    /// The CPU kernels allocate no memory in a pass like an earlier one if the cache has room and all sequences have the
    /// same model.
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
        self.pass(input_ids, new, cache, rounded, Wanted::Last(logits));
    }

    /// As [`append`](Self::append). Also replaces `logits` by those after each of the tokens, `[tokens, vocab]`.
    ///
    /// # Panics
    /// As [`append`](Self::append).
    pub fn each_logits(&self, input_ids: &[u32], new: &[usize], cache: &mut KvStore, logits: &mut Vec<f32>) {
        self.pass(input_ids, new, cache, false, Wanted::Each(logits));
    }

    fn pass(&self, input_ids: &[u32], new: &[usize], cache: &mut KvStore, rounded: bool, wanted: Wanted<'_>) {
        self.check(input_ids, new, cache);
        #[cfg(feature = "flex")]
        let (head_dim, past, models) = (cache.shape.head_dim, &cache.lengths, &cache.models);
        #[cfg(not(feature = "flex"))]
        let _ = rounded;
        match &mut cache.store {
            #[cfg(feature = "flex")]
            Kind::Native(store) => {
                let (rope, window) = (&self.rope, self.window);
                let pass = CachedPass { input_ids, new, past, models, head_dim, rope, window, rounded };
                let first = self.first();
                let held = self.held.get_or_init(|| Held::new(&first.layers(), &first.ends()));
                let adapters = |index: usize| {
                    let model = self.models[index].as_ref().expect("checked before the pass");
                    model.adapters.get_or_init(|| HeldAdapters::new(&model.model.layers()))
                };
                held.pass(&pass, &adapters, store, wanted);
            }
            Kind::Tensors(store) => {
                self.pass_by_tensors(input_ids, new, (&cache.lengths, &cache.models), store, wanted)
            }
        }
        for (length, new) in cache.lengths.iter_mut().zip(new) {
            *length += new;
        }
    }

    fn check(&self, input_ids: &[u32], new: &[usize], cache: &KvStore) {
        let vocab = self.first().ends().embed_tokens.dims()[0];
        let (past, capacity) = (&cache.lengths, cache.capacity());
        assert_eq!(new.len(), past.len(), "decoder: another number of sequences than the cache's");
        assert_eq!(input_ids.len(), new.iter().sum::<usize>(), "decoder: tokens and new tokens differ in number");
        assert!(!input_ids.is_empty(), "decoder: no sequence brings a token");
        assert!(
            past.iter().zip(new).all(|(past, new)| past + new <= capacity),
            "decoder: a sequence outgrows the cache"
        );
        assert!(input_ids.iter().all(|&id| (id as usize) < vocab), "decoder: an id is not below {vocab}");
        let mut active = new.iter().zip(&cache.models).filter(|(new, _)| **new > 0);
        assert!(active.all(|(_, model)| self.model(*model).is_some()), "decoder: a sequence of a removed model");
    }

    /// The reference: the sequences of one model after those of another.
    fn pass_by_tensors(
        &self,
        input_ids: &[u32],
        new: &[usize],
        (past, models): (&[usize], &[usize]),
        store: &mut [(Tensor<4>, Tensor<4>)],
        wanted: Wanted<'_>,
    ) {
        let vocab = self.first().ends().embed_tokens.dims()[0];
        // The rows of logits that each sequence gets.
        let count = |sequence: usize| match &wanted {
            Wanted::Nothing => 0,
            Wanted::Last(_) => new[sequence].min(1),
            Wanted::Each(_) => new[sequence],
        };
        let counts: Vec<usize> = (0..new.len()).map(count).collect();
        let is_each = matches!(wanted, Wanted::Each(_));
        let mut logits = wanted.logits();
        if let Some(logits) = &mut logits {
            logits.resize(counts.iter().sum::<usize>() * vocab, 0.0);
        }
        for (index, held) in self.models.iter().enumerate() {
            let is_of_model = |sequence: &usize| models[*sequence] == index;
            let mut active = (0..new.len()).filter(|&sequence| new[sequence] > 0);
            let Some(HeldModel { model, .. }) = held.as_ref().filter(|_| active.any(|s| is_of_model(&s))) else {
                continue;
            };
            let (mut ids, mut rest) = (Vec::new(), input_ids);
            let of_model: Vec<usize> = (0..new.len())
                .map(|sequence| {
                    let (own, others) = rest.split_at(new[sequence]);
                    rest = others;
                    let own = if is_of_model(&sequence) { own } else { &[] };
                    ids.extend_from_slice(own);
                    own.len()
                })
                .collect();
            let ends = model.ends();
            let x = ends.embed_tokens.select(&ids);
            let rotary = |positions: &[u32], batch| Rotary::new(positions, batch, &self.rope, &x.device());
            let hidden = forward_padded(&model.layers(), &x, &of_model, past, store, &rotary, self.window);
            if let Some(logits) = &mut logits {
                let found = ends.logits(hidden, &of_model, is_each);
                let (mut rows, mut to) = (found.as_slice(), logits.as_mut_slice());
                for (sequence, &count) in counts.iter().enumerate() {
                    let (place, others) = to.split_at_mut(count * vocab);
                    to = others;
                    if is_of_model(&sequence) {
                        let (own, left) = rows.split_at(count * vocab);
                        rows = left;
                        place.copy_from_slice(own);
                    }
                }
            }
        }
    }
}

/// The logits that a pass computes.
pub(crate) enum Wanted<'a> {
    Nothing,
    /// Those after the last new token of each sequence that has one, `[sequences, vocab]`.
    Last(&'a mut Vec<f32>),
    /// Those after every new token, `[tokens, vocab]`.
    Each(&'a mut Vec<f32>),
}

impl<'a> Wanted<'a> {
    fn logits(self) -> Option<&'a mut Vec<f32>> {
        match self {
            Self::Nothing => None,
            Self::Last(logits) | Self::Each(logits) => Some(logits),
        }
    }
}

impl<M> HeldModel<M> {
    fn new(model: M) -> Self {
        Self {
            model,
            #[cfg(feature = "flex")]
            adapters: OnceLock::new(),
        }
    }
}

impl<'a> DecoderLayerParts<'a> {
    /// q, k, v, o, gate, up, down
    pub(crate) fn linears(&self) -> [Linear<'a>; 7] {
        let Self { attention, feed_forward, .. } = self;
        [
            attention.q_proj,
            attention.k_proj,
            attention.v_proj,
            attention.o_proj,
            feed_forward.gate_proj,
            feed_forward.up_proj,
            feed_forward.down_proj,
        ]
    }
}

impl Ends<'_> {
    /// The reference: the logits of each sequence's last row, or of every row.
    fn logits(&self, hidden: Tensor<2>, new: &[usize], is_each: bool) -> Vec<f32> {
        let last = new.iter().filter(|&&new| new > 0).scan(0, |end, new| {
            *end += new;
            Some(*end as i32 - 1)
        });
        let last: Vec<i32> = last.collect();
        let last = Tensor::<1, Int>::from_data(TensorData::from(last.as_slice()), &hidden.device());
        let rows = if is_each { hidden } else { hidden.select(0, last) };
        let normed = rms_norm(rows, self.norm.clone(), self.eps);
        let found = projection(normed, Linear { weight: self.lm_head, bias: None, adapter: None });
        found.into_data().try_into_vec().expect("logits are f32")
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
