//! Tests every kernel on every instruction set of this processor against its definition in f64, on random shapes.

mod compact;
mod pairs;

use proptest::prelude::*;

use super::attention::{Heads, Saved, Seen, attention, attention_backward};
use super::cross_entropy::log_probs;
use super::few::{Halves, Scratch, project_few};
use super::linear::{AdapterView, BaseView, Projections, Span};
use super::matrix::{Left, Matrix, PackedMatrix};
use super::pool::scoped::with_threads;
use super::product::{Backward, Forward, Single, backward, forward, forward_packed, over_rows};
use super::rows::{rms_norm, rms_norm_backward, rotate, swiglu, swiglu_backward};
use super::simd::{LANES, Level, Simd, dispatch};

/// The allowed error of a sum of this many products in f32, relative to the norm of the whole result.
const TOLERANCE: f64 = 2e-6;

/// Under Miri, which is about a thousand times slower, only a few small shapes are tested.
const SMALL: bool = cfg!(miri);

fn config() -> ProptestConfig {
    ProptestConfig { cases: if SMALL { 2 } else { 24 }, failure_persistence: None, ..ProptestConfig::default() }
}

/// Numbers from 1 to the given one.
fn up_to(most: usize) -> std::ops::RangeInclusive<usize> {
    1..=if SMALL { most.div_ceil(8) } else { most }
}

/// Numbers in `[-1, 1)`.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// `‖found − expected‖ / ‖expected‖`
fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let difference: f64 = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    let norm: f64 = expected.iter().map(|b| b * b).sum();
    (difference / norm.max(1e-30)).sqrt()
}

/// `Σ_p a(i, p)·b(p, j)` for all `i` and `j`.
fn product(
    [rows, columns, depth]: [usize; 3],
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
) -> Vec<f64> {
    let element = |i, j| (0..depth).map(|p| f64::from(a(i, p)) * f64::from(b(p, j))).sum();
    (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))).map(|(i, j)| element(i, j)).collect()
}

fn left(level: Level, x: &[f32], rows: usize, depth: usize) -> Left {
    Left::new(level, Single, rows, depth, |row| &x[row * depth..][..depth])
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn products_equal_their_definition(
        seed in any::<u64>(), rows in up_to(80), out in up_to(80), input in up_to(80), r in up_to(40),
    ) {
        let (x, w, dy) = (noise(seed, rows * input), noise(seed ^ 1, out * input), noise(seed ^ 2, rows * out));
        let (low, b) = (noise(seed ^ 3, rows * r), noise(seed ^ 4, out * r));
        let with_low: Vec<f64> = product([rows, out, input], |i, p| x[i * input + p], |p, j| w[j * input + p])
            .iter()
            .zip(product([rows, out, r], |i, p| low[i * r + p], |p, j| b[j * r + p]))
            .map(|(base, low)| base + low)
            .collect();
        for level in Level::all() {
            let weight = Matrix::from(PackedMatrix::new(level, Single, &w, out, input, input));
            prop_assert_eq!(weight.to_rows(level), w.clone(), "{:?}: packing loses nothing", level);
            let (left_x, left_low) = (left(level, &x, rows, input), left(level, &low, rows, r));
            let packed_b = PackedMatrix::new(level, Single, &b, out, r, r).into();
            let terms = [Forward { x: &left_x, weight: &weight }, Forward { x: &left_low, weight: &packed_b }];
            let mut y = vec![f32::NAN; rows * out];
            forward(level, Single, &terms, &mut y, false);
            prop_assert!(error(&y, &with_low) < TOLERANCE, "{level:?} forward: {}", error(&y, &with_low));
            let twice: Vec<f64> = with_low.iter().map(|y| 2.0 * y).collect();
            forward(level, Single, &terms, &mut y, true);
            prop_assert!(error(&y, &twice) < TOLERANCE, "{level:?} added: {}", error(&y, &twice));

            let even = Left::with_tile_rows(level, Single, level.even_tile_rows(), rows, input, |row| &x[row * input..][..input]);
            let mut turned = PackedMatrix::<Single>::unset(rows, out);
            forward_packed(level, Single, &even, &weight, &mut turned);
            let expected = product([rows, out, input], |i, p| x[i * input + p], |p, j| w[j * input + p]);
            prop_assert!(error(&Matrix::from(turned).to_rows(level), &expected) < TOLERANCE, "{level:?} packed forward");

            let packed_dy = PackedMatrix::new(level, Single, &dy, rows, out, out);
            let mut dx = vec![f32::NAN; rows * input];
            backward(level, Single, &[Backward { dy: &packed_dy, weight: &weight }], &mut dx, false);
            let expected = product([rows, input, out], |i, p| dy[i * out + p], |p, j| w[p * input + j]);
            prop_assert!(error(&dx, &expected) < TOLERANCE, "{level:?} backward: {}", error(&dx, &expected));

            // The gradient of a low-rank matrix is a sum over rows.
            let columns: Vec<f32> = (0..r).flat_map(|i| (0..rows).map(move |m| (m, i))).map(|(m, i)| low[m * r + i]).collect();
            let columns = left(level, &columns, r, rows);
            let expected = product([r, input, rows], |i, m| low[m * r + i], |m, j| x[m * input + j]);
            let mut found = vec![f32::NAN; r * input];
            over_rows(level, &columns, &x, input, false, &mut found);
            prop_assert!(error(&found, &expected) < TOLERANCE, "{level:?} over rows");
            let expected = product([input, r, rows], |j, m| x[m * input + j], |m, i| low[m * r + i]);
            over_rows(level, &columns, &x, input, true, &mut found);
            prop_assert!(error(&found, &expected) < TOLERANCE, "{level:?} over rows, transposed");
        }
    }

    #[test]
    fn attention_and_its_gradients_equal_their_definition(
        seed in any::<u64>(), rows in prop_oneof![up_to(20), up_to(150)], kv_heads in 1usize..3, group in 1usize..4,
        head_dim in prop::sample::select(if SMALL { vec![2usize, 20] } else { vec![2, 20, 64, 80, 128] }), window in prop::option::of(1usize..40),
    ) {
        let heads = Heads { heads: kv_heads * group, kv_heads, head_dim };
        let (wide, narrow) = (heads.query_width(), heads.key_width());
        let [query, d_out] = [1, 2].map(|i| noise(seed ^ i, rows * wide));
        let [key, value] = [3, 4].map(|i| noise(seed ^ i, rows * narrow));
        // The parent of a row is the row before it, or an ancestor of that row; or the row begins a new tree.
        let choice = noise(seed ^ 5, rows);
        let mut paths: Vec<Vec<usize>> = Vec::new();
        for (row, choice) in choice.iter().enumerate() {
            let mut path = paths.last().cloned().unwrap_or_default();
            match choice {
                x if *x < -0.9 => path.clear(),
                x if *x > 0.6 => path.truncate(path.len().saturating_sub(((x - 0.6) * 30.0) as usize).max(1)),
                _ => {}
            }
            path.push(row);
            paths.push(path);
        }
        let sees = |q: usize, k: usize| paths[q].iter().rev().take(window.unwrap_or(rows)).any(|&row| row == k);
        let seen = Seen::new(rows, sees);

        let scale = 1.0 / (head_dim as f64).sqrt();
        let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
        let mut out = vec![0.0; rows * wide];
        let mut gradients = [vec![0.0; rows * wide], vec![0.0; rows * narrow], vec![0.0; rows * narrow]];
        for head in 0..heads.heads {
            let at = |row: usize| row * wide + head * head_dim;
            let kv = |row: usize| row * narrow + head / group * head_dim;
            for q in 0..rows {
                let keys: Vec<usize> = (0..=q).filter(|&k| sees(q, k)).collect();
                let scores: Vec<f64> = keys
                    .iter()
                    .map(|&k| dot(&query[at(q)..][..head_dim], &key[kv(k)..][..head_dim]) * scale)
                    .collect();
                let max = scores.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = scores.iter().map(|score| (score - max).exp()).sum();
                let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp() / sum).collect();
                let slopes: Vec<f64> =
                    keys.iter().map(|&k| dot(&d_out[at(q)..][..head_dim], &value[kv(k)..][..head_dim])).collect();
                let along: f64 = weights.iter().zip(&slopes).map(|(weight, slope)| weight * slope).sum();
                for ((&k, weight), slope) in keys.iter().zip(&weights).zip(&slopes) {
                    let slope = weight * (slope - along) * scale;
                    for i in 0..head_dim {
                        out[at(q) + i] += weight * f64::from(value[kv(k) + i]);
                        gradients[0][at(q) + i] += slope * f64::from(key[kv(k) + i]);
                        gradients[1][kv(k) + i] += slope * f64::from(query[at(q) + i]);
                        gradients[2][kv(k) + i] += weight * f64::from(d_out[at(q) + i]);
                    }
                }
            }
        }
        for level in Level::all() {
            let mut found = vec![f32::NAN; rows * wide];
            let mut log_sums = vec![f32::NAN; rows * heads.heads];
            attention(level, heads, [&query, &key, &value], &seen, &mut found, &mut log_sums);
            prop_assert!(error(&found, &out) < TOLERANCE, "{level:?}: {}", error(&found, &out));
            let saved = Saved { query: &query, key: &key, value: &value, out: &found, log_sums: &log_sums };
            let mut grads = [vec![f32::NAN; rows * wide], vec![f32::NAN; rows * narrow], vec![f32::NAN; rows * narrow]];
            let [q, k, v] = &mut grads;
            attention_backward(level, heads, saved, &seen, &d_out, [q, k, v]);
            // Where rows see hardly more than themselves, the gradients for queries and keys are near zero: they are
            // differences of larger numbers. Then their rounding error is measured relative to the values' gradient.
            let size: f64 = gradients[2].iter().map(|x| x * x).sum::<f64>().sqrt();
            for (found, expected) in grads.iter().zip(&gradients) {
                let norm: f64 = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
                let error = error(found, expected) * norm.max(1e-15) / norm.max(0.1 * size);
                prop_assert!(error < 2.0 * TOLERANCE, "{level:?} gradient: {error}");
            }
        }
    }

    #[test]
    fn cross_entropy_and_its_gradient_equal_their_definition(
        seed in any::<u64>(), rows in prop_oneof![up_to(5), up_to(140)], vocab in 2usize..100, d_model in up_to(40),
    ) {
        let (hidden, w) = (noise(seed, rows * d_model), noise(seed ^ 1, vocab * d_model));
        let choice = noise(seed ^ 2, 3 * rows);
        let target = |i: usize| ((((choice[i] + 1.0) / 2.0 * vocab as f32) as u32).min(vocab as u32 - 1), 1.0 + (i % 3) as f32);
        let targets: Vec<Vec<(u32, f32)>> = (0..rows).map(|row| (0..1 + row % 3).map(|i| target(3 * row + i)).collect()).collect();
        let (mut each, mut size, mut gradient) = (Vec::new(), 0.0, vec![0.0; rows * d_model]);
        let logits = product([rows, vocab, d_model], |i, p| hidden[i * d_model + p], |p, j| w[j * d_model + p]);
        for (row, targets) in targets.iter().enumerate() {
            let logits = &logits[row * vocab..][..vocab];
            let log_sum = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
            for &(id, weight) in targets {
                each.push(logits[id as usize] - log_sum);
                size += log_sum.powi(2);
                for (j, logit) in logits.iter().enumerate() {
                    let slope = f64::from(weight) * ((logit - log_sum).exp() - f64::from(u8::from(j == id as usize)));
                    for i in 0..d_model {
                        gradient[row * d_model + i] += slope * f64::from(w[j * d_model + i]);
                    }
                }
            }
        }
        let targets: Vec<&[(u32, f32)]> = targets.iter().map(Vec::as_slice).collect();
        for level in Level::all() {
            let weight = PackedMatrix::new(level, Single, &w, vocab, d_model, d_model).into();
            let mut found = vec![f32::NAN; rows * d_model];
            let log_probs = log_probs(level, Single, &hidden, &weight, &targets, Some(&mut found));
            // A log-probability near zero is the difference of larger numbers, whose rounding stays.
            let norm = each.iter().map(|x| x * x).sum::<f64>().sqrt();
            let error_of_each = error(&log_probs, &each) * norm / norm.max(size.sqrt());
            prop_assert!(error_of_each < TOLERANCE, "{level:?}: {error_of_each}");
            prop_assert!(error(&found, &gradient) < 2.0 * TOLERANCE, "{level:?} gradient: {}", error(&found, &gradient));
        }
    }

    #[test]
    fn row_kernels_equal_their_definition(seed in any::<u64>(), rows in up_to(20), half in up_to(40), heads in 1usize..4) {
        let width = 2 * half * heads;
        let [x, dy, up] = [0, 1, 2].map(|i| noise(seed ^ i, rows * width));
        let weight = noise(seed ^ 3, width);
        let eps = 1e-5;
        let (mut normed, mut d_normed) = (Vec::new(), Vec::new());
        for (x, dy) in x.chunks(width).zip(dy.chunks(width)) {
            let square: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / width as f64 + eps;
            let each = || x.iter().zip(dy).zip(&weight).map(|((x, dy), w)| [*x, *dy, *w].map(f64::from));
            let along = each().map(|[x, dy, w]| x * dy * w).sum::<f64>() / width as f64 / square;
            normed.extend(each().map(|[x, _, w]| x / square.sqrt() * w));
            d_normed.extend(each().map(|[x, dy, w]| 1.0 + (dy * w - x * along) / square.sqrt()));
        }
        let sigmoid = |x: f32| 1.0 / (1.0 + (-f64::from(8.0 * x)).exp());
        let gate: Vec<f32> = x.iter().map(|x| 8.0 * x).collect();
        let gated: Vec<f64> = x.iter().zip(&up).map(|(x, up)| f64::from(8.0 * x) * sigmoid(*x) * f64::from(*up)).collect();
        let d_gate: Vec<f64> = x
            .iter()
            .zip(up.iter().zip(&dy))
            .map(|(x, (up, dy))| {
                let s = sigmoid(*x);
                f64::from(*dy) * f64::from(*up) * s * (1.0 + f64::from(8.0 * x) * (1.0 - s))
            })
            .collect();
        let d_up: Vec<f64> = x.iter().zip(&dy).map(|(x, dy)| f64::from(*dy) * f64::from(8.0 * x) * sigmoid(*x)).collect();
        let angles = noise(seed ^ 4, rows * half);
        let [cos, sin]: [Vec<f32>; 2] = [f32::cos, f32::sin].map(|f| angles.iter().map(|a| f(3.0 * a)).collect());
        let mut rotated = Vec::new();
        for (row, x) in x.chunks(width).enumerate() {
            for head in x.chunks(2 * half) {
                let turn = |i: usize| [cos[row * half + i % half], sin[row * half + i % half]].map(f64::from);
                rotated.extend((0..half).map(|i| f64::from(head[i]) * turn(i)[0] - f64::from(head[i + half]) * turn(i)[1]));
                rotated.extend((0..half).map(|i| f64::from(head[i + half]) * turn(i)[0] + f64::from(head[i]) * turn(i)[1]));
            }
        }
        for level in Level::all() {
            let mut found = vec![f32::NAN; x.len()];
            rms_norm(level, &x, &weight, eps as f32, &mut found);
            prop_assert!(error(&found, &normed) < TOLERANCE, "{level:?} norm");
            found.fill(1.0);
            rms_norm_backward(level, &x, &weight, eps as f32, &dy, &mut found);
            prop_assert!(error(&found, &d_normed) < TOLERANCE, "{level:?} norm gradient: {}", error(&found, &d_normed));
            swiglu(level, &gate, &up, &mut found);
            prop_assert!(error(&found, &gated) < TOLERANCE, "{level:?} swiglu");
            let (mut a, mut b) = (gate.clone(), up.clone());
            swiglu_backward(level, &mut a, &mut b, &dy);
            prop_assert!(error(&a, &d_gate) < TOLERANCE && error(&b, &d_up) < TOLERANCE, "{level:?} swiglu gradient");
            let mut turned = x.clone();
            rotate(level, &mut turned, &cos, &sin, half, width, false);
            prop_assert!(error(&turned, &rotated) < TOLERANCE, "{level:?} rotary");
            rotate(level, &mut turned, &cos, &sin, half, width, true);
            let back: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
            prop_assert!(error(&turned, &back) < TOLERANCE, "{level:?} rotary and back");
        }
    }
}

dispatch! {
    fn exponentials(x: &[f32], y: &mut [f32]) = exponentials_with
}

#[inline(always)]
fn exponentials_with<S: Simd>(simd: S, x: &[f32], y: &mut [f32]) {
    for (x, y) in x.chunks_exact(LANES).zip(y.chunks_exact_mut(LANES)) {
        simd.store(simd.exp(simd.load(x)), y);
    }
}

#[test]
fn exp_is_near_everywhere_and_zero_far_below() {
    let steps = if SMALL { 160 } else { 160_000 };
    let x: Vec<f32> = (0..steps).map(|i| -87.0 + 175.0 * i as f32 / steps as f32).collect();
    for level in Level::all() {
        let mut y = vec![0.0; x.len()];
        exponentials(level, &x, &mut y);
        for (x, y) in x.iter().zip(&y) {
            let expected = f64::from(*x).exp();
            assert!((f64::from(*y) - expected).abs() <= 2e-7 * expected, "{level:?}: e^{x} = {y}");
        }
        let mut far = [1.0; LANES];
        exponentials(level, &[-88.0, -1e30, f32::NEG_INFINITY, -120.0].repeat(4), &mut far);
        assert_eq!(far, [0.0; LANES], "{level:?}");
    }
}

/// The result has the same bytes for any number of threads, and when the same work is repeated. In each region with
/// enough items, every thread computes at least one.
#[test]
fn results_do_not_depend_on_the_threads() {
    let (rows, out, input) = if SMALL { (20, 40, 36) } else { (300, 200, 100) };
    let heads = Heads { heads: 4, kv_heads: 2, head_dim: input / 4 };
    let (x, w) = (noise(1, rows * input), noise(2, out * input));
    let seen = Seen::new(rows, |q, k| q / 70 == k / 70);
    let (key, value) = (noise(3, rows * heads.key_width()), noise(4, rows * heads.key_width()));
    let targets: Vec<[(u32, f32); 1]> = (0..rows).map(|row| [((row % out) as u32, 1.0)]).collect();
    let targets: Vec<&[(u32, f32)]> = targets.iter().map(|target| &target[..]).collect();
    let level = Level::best();
    let run = || {
        let weight = PackedMatrix::new(level, Single, &w, out, input, input).into();
        let mut y = vec![0.0; rows * out];
        forward(level, Single, &[Forward { x: &left(level, &x, rows, input), weight: &weight }], &mut y, false);
        let (mut mixed, mut log_sums) = (vec![0.0; rows * input], vec![0.0; rows * heads.heads]);
        attention(level, heads, [&x, &key, &value], &seen, &mut mixed, &mut log_sums);
        let saved = Saved { query: &x, key: &key, value: &value, out: &mixed, log_sums: &log_sums };
        let mut grads = [x.clone(), key.clone(), value.clone()];
        let [dq, dk, dv] = &mut grads;
        attention_backward(level, heads, saved, &seen, &x, [dq, dk, dv]);
        let mut gradient = vec![0.0; rows * input];
        let log_probs = log_probs(level, Single, &x, &weight, &targets, Some(&mut gradient));
        let mut few = vec![0.0; 3 * out];
        let scratch = &mut Scratch::default();
        let (a, b) = (&key[..4 * input], &value[..out * 4]);
        let adapter = Some(AdapterView { a, b, halves: None, r: 4, scale: 0.5, mask: None });
        project_few(
            level,
            &x[..3 * input],
            Projections {
                bases: [BaseView { weight: &weight, bias: None }],
                spans: &[Span { rows: 3, adapters: [adapter] }],
            },
            [&mut few],
            false,
            false,
            scratch,
        );
        let all = [y, few, mixed, log_probs, gradient].into_iter().chain(grads).flatten();
        all.map(f32::to_bits).collect::<Vec<u32>>()
    };
    let (alone, _) = with_threads(1, run);
    for threads in [2, 3, 3, 8, 1] {
        let (again, regions) = with_threads(threads, run);
        assert!(alone == again, "{threads} threads");
        let shared = regions.iter().filter(|(items, _)| *items >= threads);
        assert!(shared.clone().count() >= 5, "{threads} threads: {regions:?}");
        assert!(shared.into_iter().all(|(_, seen)| *seen == threads), "{threads} threads: {regions:?}");
    }
}
