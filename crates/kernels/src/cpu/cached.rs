//! A stack of decoder layers over a KV cache, for generation.

mod attend;
mod store;

pub use store::Store;

use super::attention::Heads;
use super::buffer::Buffer;
use super::few::{FEW, Scratch, project_few};
use super::linear::{AdapterView, BaseView, Projections, Span, project_many};
use super::matrix::Matrix;
use super::product::{Pairs, Single};
use super::rows::{rms_norm, rotate, swiglu};
use super::simd::Level;
use crate::rope::Tables;
use attend::AttentionPlan;

/// The new rows of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct NewRows {
    pub sequence: usize,
    /// Rows of the sequence that are already in the cache.
    pub past: usize,
    /// New rows of the sequence.
    pub new: usize,
}

/// Consecutive sequences' new rows with the same adapters.
#[derive(Clone, Copy, Debug)]
pub struct PassSpan {
    /// The index of the adapters' model.
    pub model: usize,
    /// The number of rows.
    pub rows: usize,
}

/// The adapters of a layer: q, k, v, o, gate, up, down.
pub type LayerAdapters<'a> = [Option<AdapterView<'a>>; 7];

/// One decoder layer.
#[derive(Clone, Copy)]
pub struct Layer<'a, A> {
    /// The weights of the norms before attention and feed-forward.
    pub norms: [&'a [f32]; 2],
    pub eps: f32,
    /// q, k, v
    pub input: [BaseView<'a>; 3],
    pub output: BaseView<'a>,
    /// The weights of the norms of each head of q and k, `[head_dim]` each.
    pub head_norms: Option<[&'a [f32]; 2]>,
    pub is_rotated: bool,
    /// Whether a row sees the pass's window alone.
    pub is_windowed: bool,
    /// gate, up
    pub gates: [BaseView<'a>; 2],
    pub down: BaseView<'a>,
    /// From a span of the pass to the adapters of its rows.
    pub adapters: A,
}

/// Scratch buffers of a whole pass, reused between passes.
#[derive(Clone, Debug, Default)]
pub struct PassScratch {
    pub runs: Vec<NewRows>,
    pub spans: Vec<PassSpan>,
    pub rotary: Tables,
    /// The rows, `[rows, d_model]`.
    pub x: Vec<f32>,
    pub layers: LayerScratch,
}

/// Scratch buffers of the layers.
#[derive(Clone, Debug, Default)]
pub struct LayerScratch {
    /// Without the window, and with it.
    attention: [AttentionPlan; 2],
    few: Scratch,
}

/// The inputs that all layers of a pass share.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    pub heads: Heads,
    /// The new rows of each sequence, in the order of the rows.
    pub runs: &'a [NewRows],
    /// The same rows by adapter.
    pub spans: &'a [PassSpan],
    pub rotary: &'a Tables,
    /// The window of the layers that have one.
    pub window: Option<usize>,
    /// Whether quantised weights are multiplied as integers.
    pub integers: bool,
    /// What multiplies pairs of bfloat16, if the layers' products round to it.
    pub pairs: Option<Pairs>,
}

impl Pass<'_> {
    fn rows(&self) -> usize {
        self.runs.iter().map(|run| run.new).sum()
    }

    /// Runs the layers on `x` (`[rows, d_model]`) and overwrites it with their output. Appends the keys and values to
    /// the store.
    ///
    /// # Panics
    /// When the lengths do not fit together.
    pub fn forward<'b, A: Fn(&PassSpan) -> LayerAdapters<'b>>(
        &self,
        level: Level,
        layers: impl Iterator<Item = Layer<'b, A>> + Clone,
        store: &mut Store,
        x: &mut [f32],
        scratch: &mut LayerScratch,
    ) {
        let (rows, heads) = (self.rows(), self.heads);
        self.runs.iter().for_each(|run| store.reserve(run.sequence, run.past + run.new));
        let mut normed = Buffer::new(x.len());
        let [mut query, mut key, mut value] =
            [heads.query_width(), heads.key_width(), heads.key_width()].map(|width| Buffer::new(rows * width));
        let mut mixed = Buffer::new(query.len());
        let (mut widest, mut has_head_norms, mut has_kind) = (0, false, [false; 2]);
        for layer in layers.clone() {
            widest = widest.max(layer.down.weight.input());
            has_head_norms |= layer.head_norms.is_some();
            has_kind[usize::from(layer.is_windowed)] = true;
        }
        let [mut plain_query, mut plain_key] =
            [&query, &key].map(|heads| Buffer::new(if has_head_norms { heads.len() } else { 0 }));
        let [mut gate, mut up, mut hidden] = [(); 3].map(|()| Buffer::new(rows * widest));
        let LayerScratch { attention, few } = scratch;
        for ((window, plan), is_needed) in [None, self.window].into_iter().zip(&mut *attention).zip(has_kind) {
            if is_needed {
                plan.plan(level, self, window);
            }
        }
        for (index, layer) in layers.enumerate() {
            store.prefetch(index, self.runs);
            rms_norm(level, x, layer.norms[0], layer.eps, &mut normed);
            let of_input = |span: &PassSpan| {
                let [q, k, v, ..] = (layer.adapters)(span);
                [q, k, v]
            };
            let input = (layer.input, of_input);
            match layer.head_norms {
                None => self.project(level, &normed, input, [&mut query, &mut key, &mut value], false, few),
                Some([q_norm, k_norm]) => {
                    let outs = [&mut plain_query[..], &mut plain_key, &mut value];
                    self.project(level, &normed, input, outs, false, few);
                    rms_norm(level, &plain_query, q_norm, layer.eps, &mut query);
                    rms_norm(level, &plain_key, k_norm, layer.eps, &mut key);
                }
            }
            if layer.is_rotated {
                let half = heads.head_dim / 2;
                let [cos, sin] = self.rotary.query();
                rotate(level, &mut query, cos, sin, half, heads.query_width(), false);
                let [cos, sin] = self.rotary.key();
                rotate(level, &mut key, cos, sin, half, heads.key_width(), false);
            }
            let mut first = 0;
            for run in self.runs {
                let width = heads.key_width();
                store.write(level, index, run, &key[first * width..], &value[first * width..]);
                first += run.new;
            }
            attention[usize::from(layer.is_windowed)].compute(level, &query, store, index, &mut mixed);
            let output = ([layer.output], |span: &PassSpan| [(layer.adapters)(span)[3]]);
            self.project(level, &mixed, output, [x], true, few);
            rms_norm(level, x, layer.norms[1], layer.eps, &mut normed);
            let len = rows * layer.down.weight.input();
            let [gate, up, hidden] = [&mut gate, &mut up, &mut hidden].map(|buffer| &mut buffer[..len]);
            let of_gates = |span: &PassSpan| {
                let [.., gate, up, _] = (layer.adapters)(span);
                [gate, up]
            };
            self.project(level, &normed, (layer.gates, of_gates), [gate, up], false, few);
            swiglu(level, gate, up, hidden);
            let down = ([layer.down], |span: &PassSpan| [(layer.adapters)(span)[6]]);
            self.project(level, hidden, down, [x], true, few);
        }
    }

    /// Each run's last row of `x`, `[runs, d_model]`.
    pub fn last_rows(&self, x: &[f32]) -> Buffer {
        let width = x.len() / self.rows();
        let mut last = Buffer::new(self.runs.len() * width);
        let mut end = 0;
        for (run, last) in self.runs.iter().zip(last.chunks_exact_mut(width)) {
            end += run.new;
            last.copy_from_slice(&x[(end - 1) * width..end * width]);
        }
        last
    }

    /// The logits of rows, `[rows, vocab]`, given the weight and epsilon of the last norm, and the head.
    pub fn logits(
        &self,
        level: Level,
        x: &[f32],
        norm: (&[f32], f32),
        head: &Matrix,
        logits: &mut Vec<f32>,
        scratch: &mut LayerScratch,
    ) {
        let rows = x.len() / norm.0.len();
        let mut normed = Buffer::new(x.len());
        rms_norm(level, x, norm.0, norm.1, &mut normed);
        logits.resize(rows * head.out(), 0.0);
        let projections =
            Projections { bases: [BaseView { weight: head, bias: None }], spans: &[Span { rows, adapters: [None] }] };
        self.project_spans(level, &normed, projections, [logits], false, &mut scratch.few);
    }

    /// Projections with, for each span, their adapters.
    fn project<'b, F: Fn(&PassSpan) -> [Option<AdapterView<'b>>; N], const N: usize>(
        &self,
        level: Level,
        x: &[f32],
        (bases, adapters): ([BaseView<'b>; N], F),
        outs: [&mut [f32]; N],
        add: bool,
        scratch: &mut Scratch,
    ) {
        let of_span = |span: &PassSpan| Span { rows: span.rows, adapters: adapters(span) };
        // A pass with one span, the usual one, allocates nothing.
        let (one, many);
        let spans: &[Span<'_, N>] = match self.spans {
            [span] => {
                one = [of_span(span)];
                &one
            }
            spans => {
                many = spans.iter().map(of_span).collect::<Vec<_>>();
                &many
            }
        };
        let projections = Projections { bases, spans };
        match self.pairs {
            // For any number of rows, so that a prompt's pieces have the bits of the whole.
            Some(pairs) => project_many(level, pairs, x, projections, outs, add),
            None => self.project_spans(level, x, projections, outs, add, scratch),
        }
    }

    fn project_spans<const N: usize>(
        &self,
        level: Level,
        x: &[f32],
        projections: Projections<'_, N>,
        outs: [&mut [f32]; N],
        add: bool,
        scratch: &mut Scratch,
    ) {
        let Projections { bases, spans } = projections;
        let rows = x.len() / bases[0].weight.input();
        // The rounding must not depend on the number of rows, so that a sequence is continued as if it were alone.
        let adapters = spans.iter().flat_map(|span| span.adapters.iter().flatten());
        let is_rounded = adapters.into_iter().any(|adapter| adapter.halves.is_some());
        match rows <= FEW || self.integers || is_rounded {
            true => project_few(level, x, projections, outs, add, self.integers, scratch),
            false => project_many(level, Single, x, projections, outs, add),
        }
    }
}
