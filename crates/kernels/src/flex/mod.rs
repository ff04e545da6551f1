//! The fused operations of the CPU device `flex`. They take and return Burn's tensors, and call the kernels of
//! [`crate::cpu`].
//!
//! Each function returns `None` if it has no fast path for its arguments; then the caller runs the reference.

mod cached;
mod record;

use std::sync::Arc;

use burn::backend::DispatchDevice;
use burn::tensor::{Device, Tensor};

use crate::attention::Visibility;
use crate::cpu::product::{Pairs, Single};
use crate::cpu::{attention::Heads, block, cross_entropy, few, linear, matrix::Matrix, rows, simd::Level};
use crate::{AttentionHalf, Compute, FeedForward, Linear, LowRank, Rotary, Targets, Weight};
pub use cached::{Held, HeldAdapters};
use record::{Operand, Values, record};

/// Evaluates an expression with the operand of products for a [`Compute`].
macro_rules! with_operand {
    ($compute:expr, |$operand:ident| $run:expr) => {
        match $compute {
            Compute::F32 => {
                let $operand = Single;
                $run
            }
            Compute::Bf16 => {
                let $operand = Pairs::best();
                $run
            }
        }
    };
}

/// Whether a device, with autodiff or without, is `flex`.
pub fn is_flex(device: &Device) -> bool {
    matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Flex(_))
}

/// [`crate::rms_norm`]
pub fn rms_norm(x: &Tensor<2>, weight: &Tensor<1>, eps: f64) -> Option<Tensor<2>> {
    if !is_flex(&x.device()) {
        return None;
    }
    let (level, eps) = (Level::best(), eps as f32);
    let (input, weight) = (Operand::new(x), Operand::new(weight).values());
    let values = input.values();
    let mut y = vec![0.0; values.len()];
    rows::rms_norm(level, &values, &weight, eps, &mut y);
    Some(record([&input], y, x.dims(), || {
        Box::new(move |dy, _| {
            let mut dx = vec![0.0; dy.len()];
            rows::rms_norm_backward(level, &values, &weight, eps, dy, &mut dx);
            [Some(dx)]
        })
    }))
}

/// [`crate::projection`]
pub fn projection(x: &Tensor<2>, linear: Linear<'_>) -> Option<Tensor<2>> {
    let frozen = Frozen::new(linear)?;
    let input = Operand::new(x);
    let [a, b] = frozen.operands();
    let is_tracked = [&input, a, b].iter().any(|operand| operand.is_tracked());
    let ([rows, width], out) = (x.dims(), frozen.weight.out());
    let (level, values, pair, weight) = (Level::best(), input.values(), frozen.values(), Arc::clone(&frozen.weight));
    let compute = linear.weight.compute();
    let mut y = vec![0.0; rows * out];
    let mut low = None;
    if rows <= few::FEW && !is_tracked && pair.is_without_dropout() && compute == Compute::F32 {
        let scratch = &mut few::Scratch::default();
        let (bases, spans) = linear::LinearView::split([pair.borrow(&weight)], rows);
        let projections = linear::Projections { bases, spans: &spans };
        few::project_few(level, &values, projections, [&mut y], false, false, scratch);
    } else {
        let linears = [pair.borrow(&weight)];
        [low] = with_operand!(compute, |operand| {
            linear::project(level, operand, &values, rows, linears, [&mut y], false)
        });
    }
    Some(record([&input, a, b], y, [rows, out], || {
        Box::new(move |dy, wanted| {
            let mut dx = wanted[0].then(|| vec![0.0; rows * width]);
            let linears = [pair.borrow(&weight)];
            let [of_adapter] = with_operand!(compute, |operand| {
                linear::project_backward(level, operand, &values, rows, linears, &[low], [dy], dx.as_deref_mut())
            });
            let [da, db] = both(of_adapter);
            [dx, da, db]
        })
    }))
}

/// [`crate::AttentionHalf::forward`] over a packed batch.
pub fn self_attention(
    x: &Tensor<2>,
    block: &AttentionHalf<'_>,
    rotary: &Rotary,
    visibility: &Visibility,
) -> Option<Tensor<2>> {
    let frozen = [block.q_proj, block.k_proj, block.v_proj, block.o_proj].map(Frozen::new);
    let [Some(q), Some(k), Some(v), Some(o)] = frozen else { return None };
    let seen = visibility.seen()?;
    let (level, compute) = (Level::best(), block.q_proj.weight.compute());
    let input = Operand::new(x);
    let parts = AttentionParts {
        norm: Operand::new(&block.norm).values(),
        eps: block.eps as f32,
        heads: Heads {
            heads: q.weight.out() / block.head_dim,
            kv_heads: k.weight.out() / block.head_dim,
            head_dim: block.head_dim,
        },
        weights: [&q, &k, &v, &o].map(|frozen| Arc::clone(&frozen.weight)),
        pairs: [&q, &k, &v, &o].map(Frozen::values),
        head_norms: values_of(block.head_norms.as_ref()),
        rotary: block.is_rotated.then(|| rotary.tables()),
        seen,
    };
    let values = input.values();
    let (y, saved) = parts.with(|block| with_operand!(compute, |operand| block.forward(level, operand, &values)));
    let operands = [&q, &k, &v, &o].map(Frozen::operands);
    let [[qa, qb], [ka, kb], [va, vb], [oa, ob]] = operands;
    let recompute = block.recompute;
    Some(record([&input, qa, qb, ka, kb, va, vb, oa, ob], y, x.dims(), || {
        let saved = (!recompute).then_some(saved);
        Box::new(move |dy, wanted| {
            let (dx, gradients) = parts.with(|block| {
                with_operand!(compute, |operand| {
                    let saved = saved.unwrap_or_else(|| block.forward(level, operand, &values).1);
                    block.backward(level, operand, &values, &saved, dy, wanted[0])
                })
            });
            let [[qa, qb], [ka, kb], [va, vb], [oa, ob]] = gradients.map(both);
            [dx, qa, qb, ka, kb, va, vb, oa, ob]
        })
    }))
}

/// [`crate::FeedForward::forward`].
pub fn feed_forward(x: &Tensor<2>, block: &FeedForward<'_>) -> Option<Tensor<2>> {
    let frozen = [block.gate_proj, block.up_proj, block.down_proj].map(Frozen::new);
    let [Some(gate), Some(up), Some(down)] = frozen else { return None };
    let (level, compute) = (Level::best(), block.gate_proj.weight.compute());
    let input = Operand::new(x);
    let parts = FeedForwardParts {
        norm: Operand::new(&block.norm).values(),
        eps: block.eps as f32,
        weights: [&gate, &up, &down].map(|frozen| Arc::clone(&frozen.weight)),
        pairs: [&gate, &up, &down].map(Frozen::values),
    };
    let values = input.values();
    let (y, saved) = parts.with(|block| with_operand!(compute, |operand| block.forward(level, operand, &values)));
    let operands = [&gate, &up, &down].map(Frozen::operands);
    let [[ga, gb], [ua, ub], [da, db]] = operands;
    let recompute = block.recompute;
    Some(record([&input, ga, gb, ua, ub, da, db], y, x.dims(), || {
        let saved = (!recompute).then_some(saved);
        Box::new(move |dy, wanted| {
            let (dx, gradients) = parts.with(|block| {
                with_operand!(compute, |operand| {
                    let saved = saved.unwrap_or_else(|| block.forward(level, operand, &values).1);
                    block.backward(level, operand, &values, saved, dy, wanted[0])
                })
            });
            let [[ga, gb], [ua, ub], [da, db]] = gradients.map(both);
            [dx, ga, gb, ua, ub, da, db]
        })
    }))
}

/// [`crate::linear_cross_entropy`].
pub fn linear_cross_entropy(hidden: &Tensor<2>, weight: &Weight, targets: &Targets) -> Option<Tensor<1>> {
    let (weight, compute) = (weight.matrix()?, weight.compute());
    let input = Operand::new(hidden);
    let d_model = weight.input();
    let rows = targets.by_row();
    let gathered = gather(&input.values(), rows.places(), d_model);
    let mut gradient = input.is_tracked().then(|| vec![0.0; gathered.len()]);
    let log_probs = log_probs(compute, &gathered, weight, &rows.targets(), gradient.as_deref_mut());
    let loss = rows.weights().zip(&log_probs).map(|(weight, log_prob)| -f64::from(weight) * f64::from(*log_prob));
    let loss: f64 = loss.sum();
    let places = rows.places().to_vec();
    let len = hidden.dims()[0] * d_model;
    Some(record([&input], vec![loss as f32], [1], || {
        Box::new(move |dy, _| {
            let mut dx = vec![0.0; len];
            let gradient = gradient.expect("made where the hidden rows are tracked");
            for (&place, from) in places.iter().zip(gradient.chunks_exact(d_model)) {
                let to = &mut dx[place as usize * d_model..][..d_model];
                to.iter_mut().zip(from).for_each(|(to, from)| *to = from * dy[0]);
            }
            [Some(dx)]
        })
    }))
}

/// [`crate::token_losses`].
pub fn token_losses(hidden: &Tensor<2>, weight: &Weight, targets: &Targets) -> Option<Tensor<1>> {
    let (weight, compute) = (weight.matrix()?, weight.compute());
    let input = Operand::new(hidden);
    let d_model = weight.input();
    let (rows, ids): (Vec<u32>, Vec<[(u32, f32); 1]>) = targets.each().map(|(row, id)| (row, [(id, 1.0)])).unzip();
    let ids: Vec<&[(u32, f32)]> = ids.iter().map(|id| id.as_slice()).collect();
    let gathered = gather(&input.values(), &rows, d_model);
    let mut gradient = input.is_tracked().then(|| vec![0.0; gathered.len()]);
    let mut losses = log_probs(compute, &gathered, weight, &ids, gradient.as_deref_mut());
    losses.iter_mut().for_each(|value| *value = -*value);
    let (len, count) = (hidden.dims()[0] * d_model, losses.len());
    Some(record([&input], losses, [count], || {
        Box::new(move |dy, _| {
            let mut dx = vec![0.0; len];
            let gradient = gradient.expect("made where the hidden rows are tracked");
            for ((&row, from), dy) in rows.iter().zip(gradient.chunks_exact(d_model)).zip(dy) {
                let to = &mut dx[row as usize * d_model..][..d_model];
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from * dy);
            }
            [Some(dx)]
        })
    }))
}

/// [`crate::token_log_probs`].
pub fn token_log_probs(hidden: &Tensor<2>, weight: &Weight, targets: &Targets) -> Option<Vec<f32>> {
    let (weight, compute) = (weight.matrix()?, weight.compute());
    let rows = targets.by_row();
    let gathered = gather(&Operand::new(hidden).values(), rows.places(), weight.input());
    let found = log_probs(compute, &gathered, weight, &rows.targets(), None);
    Some(rows.in_given_order(&found))
}

fn log_probs(
    compute: Compute,
    hidden: &[f32],
    weight: &Matrix,
    targets: &[cross_entropy::RowTargets<'_>],
    gradient: Option<&mut [f32]>,
) -> Vec<f32> {
    with_operand!(compute, |operand| {
        cross_entropy::log_probs(Level::best(), operand, hidden, weight, targets, gradient)
    })
}

fn gather(values: &[f32], rows: &[u32], width: usize) -> Vec<f32> {
    rows.iter().flat_map(|&row| &values[row as usize * width..][..width]).copied().collect()
}

fn both(gradients: linear::Gradients) -> [Option<Vec<f32>>; 2] {
    match gradients {
        Some([a, b]) => [Some(a), Some(b)],
        None => [None, None],
    }
}

/// A packed weight with its adapter's matrices.
struct Frozen {
    weight: Arc<Matrix>,
    a: Operand,
    b: Operand,
    adapter: Option<(f32, usize, Option<crate::Dropout>)>,
    bias: Option<Values>,
}

fn bias_of(linear: Linear<'_>) -> Option<Values> {
    linear.bias.map(|bias| Operand::new(&bias.val()).into_values())
}

fn values_of<const N: usize>(tensors: Option<&[Tensor<1>; N]>) -> Option<[Values; N]> {
    tensors.map(|tensors| tensors.each_ref().map(|tensor| Operand::new(tensor).into_values()))
}

impl Frozen {
    /// `None` if the weight is not packed.
    fn new(linear: Linear<'_>) -> Option<Self> {
        let weight = Arc::clone(linear.weight.matrix()?);
        let bias = bias_of(linear);
        Some(match linear.adapter {
            Some(adapter) => {
                let LowRank { a, b, scale, .. } = adapter;
                Self {
                    weight,
                    a: Operand::new(&a.val()),
                    b: Operand::new(&b.val()),
                    adapter: Some((*scale as f32, a.dims()[0], adapter.dropout())),
                    bias,
                }
            }
            None => {
                let nothing = Tensor::<1>::zeros([1], &linear.weight.device());
                Self { weight, a: Operand::new(&nothing), b: Operand::new(&nothing), adapter: None, bias }
            }
        })
    }

    fn operands(&self) -> [&Operand; 2] {
        [&self.a, &self.b]
    }

    fn values(&self) -> Pair {
        let adapter = self.adapter.map(|(scale, r, dropout)| PairValues {
            a: self.a.values(),
            b: self.b.values(),
            r,
            scale,
            mask: dropout.map(|dropout| Box::new(dropout.factor()) as Box<Mask>),
        });
        Pair { adapter, bias: self.bias.clone() }
    }
}

type Mask = dyn Fn(usize) -> f32 + Send + Sync;

/// An adapter's values, without their place on the tape, and the bias beside it.
struct Pair {
    adapter: Option<PairValues>,
    bias: Option<Values>,
}

struct PairValues {
    a: Values,
    b: Values,
    r: usize,
    scale: f32,
    mask: Option<Box<Mask>>,
}

impl PairValues {
    fn borrow(&self) -> linear::AdapterView<'_> {
        linear::AdapterView {
            a: &self.a,
            b: &self.b,
            halves: None,
            r: self.r,
            scale: self.scale,
            mask: self.mask.as_deref().map(|mask| mask as _),
        }
    }
}

impl Pair {
    fn is_without_dropout(&self) -> bool {
        self.adapter.as_ref().is_none_or(|pair| pair.mask.is_none())
    }

    fn borrow<'a>(&'a self, weight: &'a Matrix) -> linear::LinearView<'a> {
        let adapter = self.adapter.as_ref().map(PairValues::borrow);
        linear::LinearView { weight, bias: self.bias.as_deref(), adapter }
    }
}

struct AttentionParts {
    norm: Values,
    eps: f32,
    heads: Heads,
    weights: [Arc<Matrix>; 4],
    pairs: [Pair; 4],
    head_norms: Option<[Values; 2]>,
    rotary: Option<Arc<crate::rope::Tables>>,
    seen: Arc<crate::cpu::attention::Seen>,
}

impl AttentionParts {
    fn with<R>(&self, run: impl FnOnce(block::AttentionBlock<'_>) -> R) -> R {
        let [q, k, v, output] = std::array::from_fn(|i| self.pairs[i].borrow(&self.weights[i]));
        run(block::AttentionBlock {
            norm: &self.norm,
            eps: self.eps,
            input: [q, k, v],
            output,
            heads: self.heads,
            head_norms: self.head_norms.as_ref().map(|[q, k]| [&**q, &**k]),
            rotary: self.rotary.as_ref().map(|tables| [tables.query(), tables.key()]),
            seen: &self.seen,
        })
    }
}

struct FeedForwardParts {
    norm: Values,
    eps: f32,
    weights: [Arc<Matrix>; 3],
    pairs: [Pair; 3],
}

impl FeedForwardParts {
    fn with<R>(&self, run: impl FnOnce(block::FeedForwardBlock<'_>) -> R) -> R {
        let [gate, up, down] = std::array::from_fn(|i| self.pairs[i].borrow(&self.weights[i]));
        run(block::FeedForwardBlock { norm: &self.norm, eps: self.eps, input: [gate, up], down })
    }
}
