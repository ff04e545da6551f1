//! Compares the kernels with plain loops in f64, on every device of this build and machine.

mod common;

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use common::{devices, noise, relative_error, tensor, values};
use foehn_kernels::{
    AttentionHalf, Dropout, FeedForward, Linear, LowRank, QueryScale, Rope, Rotary, Targets, Visibility, Weight,
    attention, linear_cross_entropy, projection, rms_norm, swiglu, token_log_probs, token_losses,
};
use proptest::prelude::*;

/// A random forest in depth-first order: parents, positions and ends of the rows.
fn forest(seed: u64, rows: usize) -> (Vec<Option<usize>>, Vec<u32>, Vec<u32>) {
    let choice = noise(seed, rows);
    let (mut parents, mut positions): (Vec<Option<usize>>, Vec<u32>) = (Vec::new(), Vec::new());
    for (row, choice) in choice.into_iter().enumerate() {
        // The parent of a row is the row before it, or an ancestor of that row; or the row begins a new tree.
        let mut parent = row.checked_sub(1);
        let climb = match choice {
            x if x < -0.95 => row,
            x if x > 0.6 => ((x - 0.6) * 30.0) as usize,
            _ => 0,
        };
        for _ in 0..climb {
            parent = parent.and_then(|row| parents[row]);
        }
        positions.push(parent.map_or(0, |parent| positions[parent] + 1));
        parents.push(parent);
    }
    let is_below = |mut row: usize, ancestor: usize| loop {
        if row == ancestor {
            return true;
        }
        match parents[row] {
            Some(parent) => row = parent,
            None => return false,
        }
    };
    let ends = (0..rows).map(|row| (row..rows).take_while(|&below| is_below(below, row)).count() + row);
    let ends = ends.map(|end| end as u32).collect();
    (parents, positions, ends)
}

/// Attention of one query row over the rows on its path, by the definition.
#[allow(clippy::too_many_arguments)]
fn attend(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    path: &[usize],
    row: usize,
    rows: usize,
    [heads, kv_heads, dim]: [usize; 3],
) -> Vec<f64> {
    let mut out = Vec::new();
    for head in 0..heads {
        let kv = head / (heads / kv_heads);
        let query = &q[(head * rows + row) * dim..][..dim];
        let at = |tensor: &[f32], key: usize| -> Vec<f64> {
            tensor[(kv * rows + key) * dim..][..dim].iter().map(|&x| f64::from(x)).collect()
        };
        let scores: Vec<f64> = path
            .iter()
            .map(|&key| query.iter().zip(at(k, key)).map(|(a, b)| f64::from(*a) * b).sum::<f64>() / (dim as f64).sqrt())
            .collect();
        let top = scores.iter().copied().fold(f64::MIN, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mut mixed = vec![0.0; dim];
        for (weight, &key) in weights.iter().zip(path) {
            for (total, value) in mixed.iter_mut().zip(at(v, key)) {
                *total += weight / sum * value;
            }
        }
        out.extend(mixed);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn attention_sees_the_path_and_nothing_else(
        seed in any::<u64>(), rows in prop_oneof![1usize..24, 60usize..200], kv_heads in 1usize..3, group in 1usize..4,
        dim in prop::sample::select(vec![2usize, 16, 20]), window in prop::option::of(1usize..8),
    ) {
        let (parents, positions, ends) = forest(seed, rows);
        let heads = kv_heads * group;
        let q = noise(seed ^ 1, heads * rows * dim);
        let k = noise(seed ^ 2, kv_heads * rows * dim);
        let v = noise(seed ^ 3, kv_heads * rows * dim);
        let mut expected = vec![0.0; heads * rows * dim];
        for row in 0..rows {
            let path: Vec<usize> = std::iter::successors(Some(row), |&row| parents[row])
                .take(window.unwrap_or(usize::MAX))
                .collect();
            let mixed = attend(&q, &k, &v, &path, row, rows, [heads, kv_heads, dim]);
            for head in 0..heads {
                expected[(head * rows + row) * dim..][..dim].copy_from_slice(&mixed[head * dim..][..dim]);
            }
        }
        for (name, device) in devices() {
            let visibility = Visibility::segments(&positions, &ends, window, &device);
            let found = attention(
                tensor(&q, [1, heads, rows, dim], &device),
                tensor(&k, [1, kv_heads, rows, dim], &device),
                tensor(&v, [1, kv_heads, rows, dim], &device),
                &visibility,
            );
            let error = relative_error(&values(found), &expected);
            prop_assert!(error < 1e-5, "{name}: {error}");
        }
    }

    #[test]
    fn cross_entropy_equals_its_definition(seed in any::<u64>(), rows in 1usize..9, d in 1usize..20, vocab in 2usize..40) {
        let hidden: Vec<f32> = noise(seed, rows * d).iter().map(|x| 3.0 * x).collect();
        let weight = noise(seed ^ 1, vocab * d);
        let picks = noise(seed ^ 2, 2 * rows);
        let target = |i: usize| {
            let row = (i * 7 + 3) % rows;
            let id = ((picks[i] + 1.0) / 2.0 * vocab as f32) as usize % vocab;
            (row as u32, id as u32, 1.0 + (i % 3) as f32)
        };
        let targets: Vec<(u32, u32, f32)> = (0..2 * rows).map(target).collect();
        let log_prob = |row: usize, id: usize| {
            let logit = |id: usize| -> f64 {
                (0..d).map(|i| f64::from(hidden[row * d + i]) * f64::from(weight[id * d + i])).sum()
            };
            let top = (0..vocab).map(logit).fold(f64::MIN, f64::max);
            logit(id) - top - (0..vocab).map(|id| (logit(id) - top).exp()).sum::<f64>().ln()
        };
        let each: Vec<f64> = targets.iter().map(|&(row, id, _)| log_prob(row as usize, id as usize)).collect();
        let sum: f64 = each.iter().zip(&targets).map(|(log_prob, target)| -log_prob * f64::from(target.2)).sum();
        for (name, device) in devices() {
            let (hidden, weight) = (tensor(&hidden, [rows, d], &device), Weight::new(weight.clone(), [vocab, d], &device));
            let given = Targets::new(targets.iter().copied());
            let found = token_log_probs(hidden.clone(), &weight, &given);
            let error = relative_error(&found, &each);
            prop_assert!(error < 1e-5, "{name}: {error}");
            let found: Vec<f32> = values(token_losses(hidden.clone(), &weight, &given)).iter().map(|loss| -loss).collect();
            let error = relative_error(&found, &each);
            prop_assert!(error < 1e-5, "{name}: {error}");
            let found = values(linear_cross_entropy(hidden, &weight, &given));
            let error = relative_error(&found, &[sum]);
            prop_assert!(error < 1e-5, "{name}: {error}");
        }
    }

    #[test]
    fn projection_adds_the_low_rank_product(seed in any::<u64>(), rows in 1usize..9, input in 1usize..40, out in 1usize..40, r in 1usize..5) {
        let (x, w) = (noise(seed, rows * input), noise(seed ^ 1, out * input));
        let (a, b) = (noise(seed ^ 2, r * input), noise(seed ^ 3, out * r));
        let mut expected = Vec::new();
        for row in x.chunks(input) {
            let dot = |other: &[f32]| -> f64 { row.iter().zip(other).map(|(p, q)| f64::from(*p) * f64::from(*q)).sum() };
            let low: Vec<f64> = a.chunks(input).map(dot).collect();
            expected.extend((0..out).map(|o| {
                let up: f64 = low.iter().zip(&b[o * r..]).map(|(p, q)| p * f64::from(*q)).sum();
                dot(&w[o * input..][..input]) + 1.5 * up
            }));
        }
        for (name, device) in devices() {
            let adapter = LowRank {
                a: burn::module::Param::from_tensor(tensor(&a, [r, input], &device)),
                b: burn::module::Param::from_tensor(tensor(&b, [out, r], &device)),
                scale: 1.5,
                dropout: None,
            };
            let weight = Weight::new(w.clone(), [out, input], &device);
            let linear = Linear { weight: &weight, bias: None, adapter: Some(&adapter) };
            let found = projection(tensor(&x, [rows, input], &device), linear);
            let error = relative_error(&values(found), &expected);
            prop_assert!(error < 1e-5, "{name}: {error}");
        }
    }
}

/// The weight of a projection in both layouts, and its adapter.
struct Frozen {
    fast: Weight,
    dense: Weight,
    bias: Option<Param<Tensor<1>>>,
    adapter: Option<LowRank>,
}

impl Frozen {
    fn new(
        seed: u64,
        [out, input]: [usize; 2],
        biased: bool,
        r: Option<usize>,
        dropout: Option<Dropout>,
        device: &Device,
    ) -> Self {
        let rows: Vec<f32> = noise(seed, out * input).iter().map(|w| w / (input as f32).sqrt()).collect();
        let leaf = |seed, shape: [usize; 2]| {
            let tensor = tensor(&noise(seed, shape[0] * shape[1]), shape, device);
            Param::from_tensor(tensor.autodiff().require_grad())
        };
        let dropout = dropout.map(|dropout| Dropout { seed: dropout.seed ^ seed, ..dropout });
        let adapter =
            r.map(|r| LowRank { a: leaf(seed ^ 1, [r, input]), b: leaf(seed ^ 2, [out, r]), scale: 0.3, dropout });
        let bias = biased.then(|| Param::from_tensor(tensor(&noise(seed ^ 3, out), [out], device)));
        let bias = bias.map(|bias| bias.set_require_grad(false));
        Self {
            bias,
            fast: Weight::new(rows.clone(), [out, input], device),
            dense: Weight::dense(tensor(&rows, [out, input], device)),
            adapter,
        }
    }

    fn linear(&self, dense: bool) -> Linear<'_> {
        let weight = if dense { &self.dense } else { &self.fast };
        Linear { weight, bias: self.bias.as_ref(), adapter: self.adapter.as_ref() }
    }
}

/// The output of a block, and the gradients of its noise-weighted sum with respect to its input and the adapters.
fn with_gradients(x: &Tensor<2>, all: &[&Frozen], run: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Vec<Vec<f32>> {
    let leaf = x.clone().autodiff().require_grad();
    let out = run(leaf.clone());
    let [rows, width] = out.dims();
    let weights = tensor(&noise(99, rows * width), [rows, width], &x.device());
    let gradients = out.clone().mul(weights).sum().backward();
    let mut found = vec![values(out.inner()), values(leaf.grad(&gradients).unwrap())];
    for adapter in all.iter().filter_map(|frozen| frozen.adapter.as_ref()) {
        found.extend([&adapter.a, &adapter.b].map(|matrix| values(matrix.val().grad(&gradients).unwrap())));
    }
    found
}

/// Where rows see hardly more than themselves, the gradients of q and k are near zero: they are differences of larger
/// numbers. So values below a tenth of the largest one are compared relative to that tenth.
fn assert_same(what: &str, found: &[Vec<f32>], expected: &[Vec<f32>]) {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &[f32]| values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let largest = expected.iter().map(|values| norm(values)).fold(0.0, f64::max);
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference: Vec<f32> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
        let error = norm(&difference) / norm(expected).max(0.1 * largest);
        assert!(error < 1e-5, "{what}: {index}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Compares the two blocks of a layer, a single projection and the loss in the device's own layout with the
    /// reference, forward and backward, with adapters on some projections, with and without dropout, and with and
    /// without recomputation.
    #[test]
    fn fused_operations_equal_their_references(
        seed in any::<u64>(), rows in prop_oneof![1usize..12, 60usize..100], kv_heads in 1usize..3, group in 1usize..4,
        head_dim in prop::sample::select(vec![2usize, 20, 64, 80, 128]), d_model in 2usize..70, wide in 1usize..90,
        r in 1usize..20, adapted in prop::collection::vec(any::<bool>(), 7), dropped in any::<bool>(), recompute in any::<bool>(),
        window in prop::option::of(1usize..30), biased in prop::collection::vec(any::<bool>(), 7),
        [has_head_norms, is_rotated, is_scaled] in any::<[bool; 3]>(),
    ) {
        let (_, positions, ends) = forest(seed, rows);
        let dropout = dropped.then_some(Dropout { probability: 0.2, seed });
        // On other devices the two layouts are the same.
        for (name, device) in devices().into_iter().filter(|(name, _)| *name == "flex") {
            let frozen = |i: usize, shape| {
                let seed = seed.wrapping_add(16 * i as u64);
                Frozen::new(seed, shape, biased[i], adapted[i].then_some(r), dropout, &device)
            };
            let (queries, keys) = (kv_heads * group * head_dim, kv_heads * head_dim);
            let [q, k, v] = [queries, keys, keys].map(|out| [out, d_model]);
            let [q, k, v, o] = [frozen(0, q), frozen(1, k), frozen(2, v), frozen(3, [d_model, queries])];
            let [gate, up] = [frozen(4, [wide, d_model]), frozen(5, [wide, d_model])];
            let down = frozen(6, [d_model, wide]);
            let norm: Tensor<1> = tensor(&noise(seed ^ 7, d_model), [d_model], &device);
            let head_norms: [Tensor<1>; 2] =
                [10, 11].map(|at| tensor(&noise(seed ^ at, head_dim), [head_dim], &device));
            let head_norms = has_head_norms.then_some(head_norms);
            let scale = is_scaled.then_some(QueryScale { beta: 0.4, original: 8 });
            let rope = Rope::new(head_dim, 1e4).with_query_scale(scale);
            let x = tensor(&noise(seed ^ 8, rows * d_model), [rows, d_model], &device);
            let rotary = Rotary::new(&positions, 1, &rope, &device);
            let visibility = Visibility::segments(&positions, &ends, window, &device);
            let attend = |dense: bool| {
                let block = AttentionHalf {
                    norm: norm.clone(), eps: 1e-5, head_dim, head_norms: head_norms.clone(), is_rotated, recompute,
                    q_proj: q.linear(dense), k_proj: k.linear(dense), v_proj: v.linear(dense), o_proj: o.linear(dense),
                };
                with_gradients(&x, &[&q, &k, &v, &o], |x| block.forward(x, &rotary, &visibility, None))
            };
            assert_same(&format!("{name} attention"), &attend(false), &attend(true));
            let feed = |dense: bool| {
                let block = FeedForward {
                    norm: norm.clone(), eps: 1e-5, recompute,
                    gate_proj: gate.linear(dense), up_proj: up.linear(dense), down_proj: down.linear(dense),
                };
                with_gradients(&x, &[&gate, &up, &down], |x| block.forward(x))
            };
            assert_same(&format!("{name} feed-forward"), &feed(false), &feed(true));
            let alone = |dense: bool| with_gradients(&x, &[&gate], |x| projection(x, gate.linear(dense)));
            assert_same(&format!("{name} projection"), &alone(false), &alone(true));

            let head = Frozen::new(seed ^ 9, [wide + 1, d_model], false, None, None, &device);
            let targets = Targets::new((0..rows).map(|row| (row as u32, (row % (wide + 1)) as u32, 1.0 + (row % 2) as f32)));
            let loss = |weight: &Weight| {
                let leaf = x.clone().autodiff().require_grad();
                let loss = linear_cross_entropy(leaf.clone(), weight, &targets).mul_scalar(0.5);
                let gradients = loss.backward();
                vec![values(loss.inner()), values(leaf.grad(&gradients).unwrap())]
            };
            assert_same(&format!("{name} loss"), &loss(&head.fast), &loss(&head.dense));
            // The same as a sum of single losses, with weights of both signs and several targets to a row. More are
            // positive: where the sum is near zero, its rounding is large beside it.
            let signed: Vec<(u32, u32, f32)> = (0..2 * rows)
                .map(|at| ((at * 5 % rows) as u32, (at % (wide + 1)) as u32, (at as f32 * 0.7).cos() + 0.4))
                .collect();
            let targets = Targets::new(signed.iter().copied());
            let weights: Vec<f32> = signed.iter().map(|target| target.2).collect();
            let gradients = |weight: &Weight, is_each: bool| {
                let leaf = x.clone().autodiff().require_grad();
                let loss = match is_each {
                    false => linear_cross_entropy(leaf.clone(), weight, &targets),
                    true => {
                        let weights = Tensor::<1>::from_data(TensorData::from(weights.as_slice()), &device);
                        token_losses(leaf.clone(), weight, &targets).mul(weights).sum()
                    }
                };
                let gradients = loss.backward();
                vec![values(loss.inner()), values(leaf.grad(&gradients).unwrap())]
            };
            let expected = gradients(&head.dense, false);
            assert_same(&format!("{name} single losses"), &gradients(&head.fast, true), &expected);
            assert_same(&format!("{name} single losses, reference"), &gradients(&head.dense, true), &expected);
        }
    }
}

/// Compares the single operations and their gradients with PyTorch's.
#[test]
fn operations_equal_pytorch() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/model/ops.safetensors");
    let golden = foehn_weights::Weights::open(path).unwrap();
    let load = |name: &str| golden.load_f32(name).unwrap();
    let close = |what: &str, found: Vec<f32>, expected: &str| {
        let expected: Vec<f64> = load(expected).0.into_iter().map(f64::from).collect();
        let error = relative_error(&found, &expected);
        assert!(error < 1e-5, "{what}: {error}");
    };
    for (name, device) in devices() {
        let matrix = |key: &str| {
            let (values, shape) = load(key);
            let columns = shape[shape.len() - 1];
            tensor(&values, [values.len() / columns, columns], &device)
        };
        let leaf = |key: &str| matrix(key).autodiff().require_grad();

        let (x, weight) = (leaf("rms_norm.in"), matrix("rms_norm.weight").reshape([-1]));
        let eps = f64::from(load("rms_norm.eps").0[0]);
        let out = rms_norm(x.clone(), weight, eps);
        close(&format!("{name} rms_norm"), values(out.clone().inner()), "rms_norm.out");
        let gradients = out.mul(matrix("rms_norm.grad_out")).sum().backward();
        close(&format!("{name} rms_norm gradient"), values(x.grad(&gradients).unwrap()), "rms_norm.grad_in");

        let (gate, up) = (leaf("swiglu.gate"), leaf("swiglu.up"));
        let out = swiglu(gate.clone(), up.clone());
        close(&format!("{name} swiglu"), values(out.clone().inner()), "swiglu.out");
        let gradients = out.mul(matrix("swiglu.grad_out")).sum().backward();
        close(&format!("{name} swiglu gate"), values(gate.grad(&gradients).unwrap()), "swiglu.grad_gate");
        close(&format!("{name} swiglu up"), values(up.grad(&gradients).unwrap()), "swiglu.grad_up");

        let shape = load("rotary.in").1;
        let [batch, heads, rows, dim] = shape[..] else { panic!("rotary.in has shape {shape:?}") };
        let whole = |key: &str| tensor(&load(key).0, [batch, heads, rows, dim], &device);
        let positions: Vec<u32> = golden
            .bytes("rotary.position_ids")
            .unwrap()
            .chunks_exact(8)
            .map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()) as u32)
            .collect();
        let rotary = Rotary::new(&positions, batch, &Rope::new(dim, f64::from(load("rotary.theta").0[0])), &device);
        let x = whole("rotary.in").autodiff().require_grad();
        let out = rotary.rotate_keys(x.clone());
        close(&format!("{name} rotary"), values(out.clone().inner()), "rotary.out");
        let gradients = out.mul(whole("rotary.grad_out")).sum().backward();
        close(&format!("{name} rotary gradient"), values(x.grad(&gradients).unwrap()), "rotary.grad_in");
    }
}

/// A dropped element is zero, a kept one is scaled up, the share of dropped ones is near the probability, and the same
/// seed gives the same mask.
#[test]
fn dropout_is_inverted_and_seeded() {
    for (name, device) in devices() {
        let ones = Tensor::<2>::ones([64, 64], &device);
        let eye = |n| Tensor::<2>::eye(n, &device);
        let zero = Weight::new(vec![0.0; 64 * 64], [64, 64], &device);
        let dropped = |seed| {
            let adapter = LowRank {
                a: burn::module::Param::from_tensor(eye(64)),
                b: burn::module::Param::from_tensor(eye(64)),
                scale: 1.0,
                dropout: Some(foehn_kernels::Dropout { probability: 0.25, seed }),
            };
            values(projection(ones.clone(), Linear { weight: &zero, bias: None, adapter: Some(&adapter) }))
        };
        let (first, again, other) = (dropped(1), dropped(1), dropped(2));
        assert_eq!(first, again, "{name}");
        assert_ne!(first, other, "{name}");
        assert!(first.iter().all(|&x| x == 0.0 || (x - 4.0 / 3.0).abs() < 1e-6), "{name}");
        let share = first.iter().filter(|&&x| x == 0.0).count() as f64 / first.len() as f64;
        // Four standard deviations of a binomial share over 4,096 draws.
        assert!((share - 0.25).abs() < 4.0 * (0.25f64 * 0.75 / 4096.0).sqrt(), "{name}: {share}");
    }
}
