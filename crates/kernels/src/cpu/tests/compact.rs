//! Tests of the matrices that are stored in fewer than 32 bits, and of the paths for few rows.

use super::*;
use crate::cpu::attention::Heads;
use crate::cpu::block::{AttentionBlock, FeedForwardBlock};
use crate::cpu::cached::{Layer, LayerScratch, NewRows, Pass, PassSpan, Store};
use crate::cpu::integer::{self, Rounded};
use crate::cpu::linear::{LinearView, Projections, Span, project_many};
use crate::cpu::matrix::{BLOCK, Blocks, Half};
use crate::encoding::{Encoding, HalfKind, IQ4_LEVELS, NF4_LEVELS};
use crate::rope::Tables;
use crate::{QueryScale, Rope};
use half::{bf16, f16};

/// A random quantised matrix, and its weights by the encoding's definition.
fn quantised(encoding: Encoding, seed: u64, out: usize, input: usize) -> (Matrix, Vec<f32>) {
    let whole = |seed: u64, count: usize, most: f32| {
        noise(seed, count).iter().map(|x| ((x + 1.0) * most / 2.0) as i32).collect::<Vec<_>>()
    };
    let top = match encoding {
        Encoding::Q2K => 4.0,
        Encoding::Q3K => 8.0,
        Encoding::Q4_0 | Encoding::Q4_1 | Encoding::Q4K | Encoding::Iq4Nl | Encoding::Iq4Xs | Encoding::Nf4 => 16.0,
        Encoding::Q5_0 | Encoding::Q5_1 | Encoding::Q5K => 32.0,
        Encoding::Q6K => 64.0,
        _ => 256.0,
    };
    let numbers = whole(seed, out * input, top);
    let scales: Vec<f16> = noise(seed ^ 1, out * input).iter().map(|x| f16::from_f32(x / 8.0)).collect();
    let minima: Vec<f16> = noise(seed ^ 2, out * input).iter().map(|x| f16::from_f32(x / 3.0)).collect();
    let sub_scales = whole(seed ^ 3, out * input, 64.0);
    let sub_minima = whole(seed ^ 4, out * input, 64.0);
    let per_super = match encoding {
        Encoding::Nf4 => input,
        _ => encoding.divisor(),
    };
    let weight = |row: usize, k: usize| {
        let number = numbers[row * input + k] as f32;
        let (d, m) = (scales[row * input + k / per_super].to_f32(), minima[row * input + k / per_super].to_f32());
        let group = row * input + k / encoding.group();
        let (s, t) = (sub_scales[group] as f32, sub_minima[group] as f32);
        match encoding {
            Encoding::Q4_0 => d * (number - 8.0),
            Encoding::Q5_0 => d * (number - 16.0),
            Encoding::Q8_0 => d * (number - 128.0),
            Encoding::Q4_1 | Encoding::Q5_1 => d * number + m,
            Encoding::Q2K | Encoding::Q4K | Encoding::Q5K => d * s * number + m * t,
            Encoding::Q3K => d * s * (number - 4.0),
            Encoding::Q6K => d * s * (number - 32.0),
            Encoding::Iq4Nl => d * IQ4_LEVELS[number as usize],
            Encoding::Iq4Xs => d * s * IQ4_LEVELS[number as usize],
            Encoding::Nf4 => NF4_LEVELS[number as usize] * d.mul_add(s, m),
        }
    };
    let blocks = Blocks::new(encoding, out, input, |row, planes| {
        let at = row * input;
        planes.numbers.iter_mut().zip(&numbers[at..]).for_each(|(to, from)| *to = *from as u8);
        planes.scales.iter_mut().zip(&scales[at..]).for_each(|(to, from)| *to = from.to_bits());
        planes.minima.iter_mut().zip(&minima[at..]).for_each(|(to, from)| *to = from.to_bits());
        planes.sub_scales.iter_mut().zip(&sub_scales[at..]).for_each(|(to, from)| *to = *from as i8);
        planes.sub_minima.iter_mut().zip(&sub_minima[at..]).for_each(|(to, from)| *to = *from as i8);
    });
    let weights = (0..out).flat_map(|row| (0..input).map(move |k| (row, k))).map(|(row, k)| weight(row, k)).collect();
    (Matrix::Blocks(blocks), weights)
}

/// Matrices of the three kinds that are stored in fewer than 32 bits.
pub fn compact(seed: u64, out: usize, supers: usize) -> Vec<(Matrix, Vec<f32>)> {
    let mut all: Vec<_> = Encoding::ALL
        .iter()
        .map(|&encoding| quantised(encoding, seed, out, supers * encoding.divisor().max(64)))
        .collect();
    let input = 50 * supers;
    let values = noise(seed, out * input);
    for kind in [HalfKind::F16, HalfKind::Bf16] {
        let bits = |value: f32| match kind {
            HalfKind::F16 => (f16::from_f32(value).to_le_bytes(), f16::from_f32(value).to_f32()),
            HalfKind::Bf16 => (bf16::from_f32(value).to_le_bytes(), bf16::from_f32(value).to_f32()),
        };
        let half = Half::new(kind, out, input, |row, to| {
            let from = &values[row * input..][..input];
            to.as_chunks_mut::<2>().0.iter_mut().zip(from).for_each(|(to, from)| *to = bits(*from).0);
        });
        all.push((Matrix::Half(half), values.iter().map(|value| bits(*value).1).collect()));
    }
    all
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    // Minus zero counts as zero: the sign of an encoding's zero depends on the sign of the scale.
    values.iter().map(|value| (value + 0.0).to_bits()).collect()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_compact_matrix_opens_to_its_definition_and_multiplies_like_it(
        seed in any::<u64>(), rows in up_to(60), out in up_to(80), supers in 1usize..3,
    ) {
        for (matrix, weights) in compact(seed, out, supers) {
            let input = matrix.input();
            let (x, dy) = (noise(seed ^ 5, rows * input), noise(seed ^ 6, rows * out));
            for level in Level::all() {
                // The portable code has no fused multiply-add, so there a product with a scale may be rounded before
                // the addition.
                let exact = !matches!(level, Level::Portable(_));
                if exact {
                    prop_assert!(bits(&matrix.to_rows(level)) == bits(&weights), "{level:?}");
                } else {
                    let wide: Vec<f64> = weights.iter().map(|weight| f64::from(*weight)).collect();
                    prop_assert!(error(&matrix.to_rows(level), &wide) < TOLERANCE, "{level:?}");
                }
                let mut row = vec![f32::NAN; input];
                matrix.copy_row(level, out - 1, &mut row);
                let full = Matrix::from(PackedMatrix::new(level, Single, &matrix.to_rows(level), out, input, input));
                prop_assert!(bits(&row) == bits(&full.to_rows(level)[(out - 1) * input..]));
                let left = left(level, &x, rows, input);
                let packed_dy = PackedMatrix::new(level, Single, &dy, rows, out, out);
                let [opened, dense] = [&matrix, &full].map(|weight| {
                    let (mut y, mut dx) = (vec![f32::NAN; rows * out], vec![f32::NAN; rows * input]);
                    forward(level, Single, &[Forward { x: &left, weight }], &mut y, false);
                    backward(level, Single, &[Backward { dy: &packed_dy, weight }], &mut dx, false);
                    [bits(&y), bits(&dx)]
                });
                prop_assert!(opened == dense, "{level:?}: the same bits forward and backward");
            }
        }
    }

    #[test]
    fn projections_of_few_rows_equal_their_definition(
        seed in any::<u64>(), rows in up_to(20), out in up_to(80), supers in 1usize..3, r in up_to(40), [add, biased] in any::<[bool; 2]>(),
    ) {
        let mut all = compact(seed, out, supers);
        let dense = noise(seed ^ 9, out * 70);
        all.push((PackedMatrix::new(Level::best(), Single, &dense, out, 70, 70).into(), dense));
        for (matrix, weights) in all {
            let input = matrix.input();
            let [x, mut a, mut b, before] =
                [(1, rows * input), (2, r * input), (3, out * r), (4, rows * out)].map(|(i, count)| noise(seed ^ i, count));
            // Numbers that half precision represents exactly.
            a.iter_mut().chain(&mut b).for_each(|value| *value = f16::from_f32(*value).to_f32());
            let low = product([rows, r, input], |i, p| x[i * input + p], |p, j| a[j * input + p]);
            let bias = biased.then(|| noise(seed ^ 11, out));
            let bias = bias.as_deref();
            let expected: Vec<f64> = product([rows, out, input], |i, p| x[i * input + p], |p, j| weights[j * input + p])
                .iter()
                .enumerate()
                .map(|(at, base)| {
                    let through = |p: usize| low[at / out * r + p] * f64::from(b[at % out * r + p]);
                    let before = if add { f64::from(before[at]) } else { 0.0 };
                    let bias = bias.map_or(0.0, |bias| f64::from(bias[at % out]));
                    before + base + 0.5 * (0..r).map(through).sum::<f64>() + bias
                })
                .collect();
            // One scratch buffer for all calls, as in a stack of layers.
            let scratch = &mut Scratch::default();
            for level in Level::all() {
                let halves = Halves::new(level, &a, &b, r);
                for integers in [false, true] {
                    let mut run = |x: &[f32], before: &[f32], halves: Option<&Halves>| {
                        let mut y = before.to_vec();
                        let adapter = Some(AdapterView { a: &a, b: &b, halves, r, scale: 0.5, mask: None });
                        let linear = LinearView { weight: &matrix, bias, adapter };
                        let (bases, spans) = LinearView::split([linear], x.len() / input);
                        project_few(level, x, Projections { bases, spans: &spans }, [&mut y], add, integers, scratch);
                        y
                    };
                    let found = run(&x, &before, None);
                    prop_assert!(bits(&run(&x, &before, Some(&halves))) == bits(&found), "{level:?}: in half precision");
                    if integers {
                        // Rounding to eight bits moves an element by a 254th of its group's largest, which is at most 1.
                        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                            let weights = &weights[at % out * input..][..input];
                            let most = weights.iter().map(|weight| f64::from(weight.abs())).sum::<f64>() / 254.0;
                            let moved = (f64::from(*found) - expected).abs();
                            prop_assert!(moved < 1.01 * most + 1e-4, "{level:?}: {moved} of {most}");
                        }
                    } else {
                        prop_assert!(error(&found, &expected) < 2.0 * TOLERANCE, "{level:?}: {}", error(&found, &expected));
                        let mut many = before.clone();
                        let adapter = Some(AdapterView { a: &a, b: &b, halves: None, r, scale: 0.5, mask: None });
                        let (bases, spans) = LinearView::split([LinearView { weight: &matrix, bias, adapter }], rows);
                        project_many(level, Single, &x, Projections { bases, spans: &spans }, [&mut many], add);
                        prop_assert!(bits(&many) == bits(&found), "{level:?}: as many rows are computed");
                    }
                    let last = run(&x[(rows - 1) * input..], &before[(rows - 1) * out..], None);
                    prop_assert!(bits(&last) == bits(&found[(rows - 1) * out..]), "{level:?}: a row alone is the same");
                }
            }
        }
    }

    /// Rows with adapters of their own, or none, give the same bits as those of each adapter alone, in every mode.
    #[test]
    fn rows_with_different_adapters_are_as_if_they_were_alone(
        seed in any::<u64>(), out in up_to(80), lengths in prop::collection::vec((0usize..5, prop::option::of(1usize..9)), 1..5), add in any::<bool>(),
    ) {
        let (matrix, _) = quantised(Encoding::Q4_0, seed, out, 64);
        let rows: usize = lengths.iter().map(|(rows, _)| rows).sum();
        prop_assume!(rows > 0);
        let [x, before] = [(1, rows * 64), (2, rows * out)].map(|(i, count)| noise(seed ^ i, count));
        let adapters: Vec<_> = (3..).step_by(2).zip(&lengths).map(|(i, &(_, r))| {
            r.map(|r| (noise(seed ^ i, r * 64), noise(seed ^ (i + 1), out * r), r))
        }).collect();
        for level in Level::all() {
            let halves: Vec<_> = adapters.iter().map(|pair| pair.as_ref().map(|(a, b, r)| Halves::new(level, a, b, *r))).collect();
            for (integers, halved) in [(false, false), (false, true), (true, true)] {
                let spans: Vec<Span<'_, 1>> = lengths.iter().zip(&adapters).zip(&halves).map(|((&(rows, _), pair), halves)| {
                    let halves = halves.as_ref().filter(|_| halved);
                    Span { rows, adapters: [pair.as_ref().map(|(a, b, r)| AdapterView { a, b, halves, r: *r, scale: 0.5, mask: None })] }
                }).collect();
                let bases = [BaseView { weight: &matrix, bias: None }];
                let run = |rows: std::ops::Range<usize>, spans: &[Span<'_, 1>], few: bool| {
                    let (x, mut y) = (&x[rows.start * 64..rows.end * 64], before[rows.start * out..rows.end * out].to_vec());
                    let projections = Projections { bases, spans };
                    match few {
                        true => project_few(level, x, projections, [&mut y], add, integers, &mut Scratch::default()),
                        false => project_many(level, Single, x, projections, [&mut y], add),
                    }
                    y
                };
                let together = run(0..rows, &spans, true);
                let mut first = 0;
                for span in spans.iter().filter(|span| span.rows > 0) {
                    let alone = run(first..first + span.rows, std::slice::from_ref(span), true);
                    prop_assert!(bits(&alone) == bits(&together[first * out..][..alone.len()]), "{level:?} {integers} {halved}: from row {first}");
                    first += span.rows;
                }
                if !halved {
                    prop_assert!(bits(&run(0..rows, &spans, false)) == bits(&together), "{level:?}: as many rows are computed");
                }
            }
        }
    }

    /// Two sequences, appended in pieces of any size, give the same results as one packed sequence each.
    #[test]
    fn a_cached_pass_equals_a_packed_one(
        seed in any::<u64>(), lengths in [up_to(70), up_to(400)], pieces in 1usize..5, kv_heads in 1usize..3, group in 1usize..4,
        head_dim in prop::sample::select(vec![2usize, 20, 64]), window in prop::option::of(1usize..40), halved in any::<bool>(),
        [is_biased, has_head_norms, is_rotated, is_windowed, is_scaled] in any::<[bool; 5]>(),
    ) {
        let heads = Heads { heads: kv_heads * group, kv_heads, head_dim };
        let (d_model, hidden) = (24, 40);
        let level = Level::all()[seed as usize % Level::all().len()];
        let shapes = [
            (heads.query_width(), d_model), (heads.key_width(), d_model), (heads.key_width(), d_model),
            (d_model, heads.query_width()), (hidden, d_model), (hidden, d_model), (d_model, hidden),
        ];
        let mut at = seed;
        let matrices = shapes.map(|(out, input)| {
            at += 1;
            let values: Vec<f32> = noise(at, out * input).iter().map(|x| x / 3.0).collect();
            Matrix::from(PackedMatrix::new(level, Single, &values, out, input, input))
        });
        let biases = shapes.map(|(out, _)| {
            at += 1;
            noise(at, out)
        });
        let mut biases = biases.iter().map(|bias| is_biased.then_some(&bias[..]));
        let [q, k, v, o, gate, up, down] =
            matrices.each_ref().map(|weight| LinearView { weight, bias: biases.next().flatten(), adapter: None });
        let of_heads = [noise(seed ^ 22, head_dim), noise(seed ^ 23, head_dim)];
        let head_norms = has_head_norms.then_some([&of_heads[0][..], &of_heads[1]]);
        let norms = [noise(seed ^ 20, d_model), noise(seed ^ 21, d_model)];
        let eps = 1e-5;
        let layer = Layer {
            norms: [&norms[0], &norms[1]], eps, input: [q, k, v].map(|linear| linear.base()), output: o.base(),
            gates: [gate, up].map(|linear| linear.base()), down: down.base(), head_norms, is_rotated, is_windowed,
            adapters: |_: &PassSpan| [None; 7],
        };
        let scale = is_scaled.then_some(QueryScale { beta: 0.4, original: 16 });
        let rope = Rope::new(head_dim, 1e4).map(|pair, _| 1.0 / (pair + 1) as f32).with_query_scale(scale);
        let tables = |positions: &[std::ops::Range<usize>]| {
            let mut tables = Tables::default();
            tables.fill(positions.iter().cloned().flatten().map(|position| position as u32), &rope);
            tables
        };
        let x = [noise(seed ^ 30, lengths[0] * d_model), noise(seed ^ 31, lengths[1] * d_model)];
        let whole = [0, 1].map(|sequence| {
            let rows = lengths[sequence];
            let tables = tables(std::slice::from_ref(&(0..rows)));
            let window = window.filter(|_| is_windowed);
            let seen = Seen::new(rows, |q, k| k <= q && window.is_none_or(|window| q - k < window));
            let block = AttentionBlock {
                norm: &norms[0], eps, input: [q, k, v], output: o, heads, head_norms, seen: &seen,
                rotary: is_rotated.then(|| [tables.query(), tables.key()]),
            };
            let (mid, _) = block.forward(level, Single, &x[sequence]);
            FeedForwardBlock { norm: &norms[1], eps, input: [gate, up], down }.forward(level, Single, &mid).0
        });
        let mut store = Store::new(1, kv_heads, head_dim, 3, halved);
        let mut found = [Vec::new(), Vec::new()];
        for piece in 0..pieces {
            let part = |sequence: usize| {
                let cut = |piece: usize| lengths[sequence] * piece / pieces;
                cut(piece)..cut(piece + 1)
            };
            // In the batch, the first sequence comes after the second. The store has one more sequence.
            let runs = [(1, 2), (0, 0)].map(|(which, sequence)| NewRows { sequence, past: part(which).start, new: part(which).len() });
            let runs: Vec<NewRows> = runs.into_iter().filter(|run| run.new > 0).collect();
            let mut rows: Vec<f32> = [1, 0].into_iter().flat_map(|which| &x[which][part(which).start * d_model..part(which).end * d_model]).copied().collect();
            let rotary = tables(&[part(1), part(0)]);
            let spans = [PassSpan { model: 0, rows: rows.len() / d_model }];
            let pass = Pass { heads, runs: &runs, spans: &spans, rotary: &rotary, window, integers: false, pairs: None };
            pass.forward(level, [layer].into_iter(), &mut store, &mut rows, &mut LayerScratch::default());
            let (of_second, of_first) = rows.split_at(part(1).len() * d_model);
            found[0].extend_from_slice(of_first);
            found[1].extend_from_slice(of_second);
        }
        for (found, whole) in found.iter().zip(&whole) {
            let whole: Vec<f64> = whole.iter().map(|x| f64::from(*x)).collect();
            // Half precision has eleven significant bits.
            let tolerance = if halved { 1e-3 } else { 2.0 * TOLERANCE };
            prop_assert!(error(found, &whole) < tolerance, "{level:?}: {}", error(found, &whole));
        }
        // After a copy of its beginning, a sequence continues as the original does.
        let past = lengths[0];
        let mut copied = store.clone();
        copied.copy(0, 1, past);
        let [one, two] = [(&mut store, 0), (&mut copied, 1)].map(|(store, sequence)| {
            let mut row = noise(seed ^ 40, d_model);
            let rotary = tables(std::slice::from_ref(&(past..past + 1)));
            let runs = [NewRows { sequence, past, new: 1 }];
            Pass { heads, runs: &runs, spans: &[PassSpan { model: 0, rows: 1 }], rotary: &rotary, window, integers: false, pairs: None }.forward(level, [layer].into_iter(), store, &mut row, &mut LayerScratch::default());
            bits(&row)
        });
        prop_assert!(one == two, "a copied sequence continues alike");
    }
}

/// Every kind of integer instructions gives the same result.
#[test]
fn integers_are_multiplied_alike_everywhere() {
    for (seed, encoding) in (20..).zip(Encoding::ALL) {
        let (Matrix::Blocks(blocks), _) = quantised(encoding, seed, 40, 512) else { unreachable!("made of blocks") };
        if !integer::is_integer(&blocks) {
            continue;
        }
        // The largest numbers in eight bits, beside other numbers.
        let mut x = noise(seed, 3 * 512);
        x.iter_mut().step_by(3).for_each(|x| *x = x.signum());
        let mut rounded = Rounded::default();
        rounded.set(Level::best(), &x, 3);
        for panel in 0..2 {
            let mut expected = [[0.0; BLOCK]; 3];
            integer::sum_as(integer::Kind::Portable, &blocks, panel, &rounded, 0, &mut expected);
            for kind in Level::all().into_iter().flat_map(integer::Kind::all) {
                let mut found = [[f32::NAN; BLOCK]; 3];
                integer::sum_as(kind, &blocks, panel, &rounded, 0, &mut found);
                let expected: Vec<f64> = expected.iter().flatten().map(|&x| f64::from(x)).collect();
                let far = error(found.as_flattened(), &expected);
                assert!(far < TOLERANCE, "{encoding:?} {kind:?}: {far}");
            }
        }
    }
}

/// Eight bits cannot represent NaN and infinity; they must be visible in the result all the same.
#[test]
fn what_is_not_finite_stays_so_through_eight_bits() {
    let (matrix, _) = quantised(Encoding::Q8_0, 1, 40, 96);
    let linear = LinearView { weight: &matrix, bias: None, adapter: None };
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in [0, 15, 16, 31, 95] {
            let mut x = noise(2, 2 * 96);
            x[96 + at] = bad;
            for level in Level::all() {
                let mut y = vec![0.0; 2 * 40];
                let (bases, spans) = LinearView::split([linear], 2);
                let projections = Projections { bases, spans: &spans };
                project_few(level, &x, projections, [&mut y], false, true, &mut Scratch::default());
                assert!(y[..40].iter().all(|y| y.is_finite()), "{level:?}: the other row is as it was");
                assert!(y[40..].iter().all(|y| !y.is_finite()), "{level:?}: {bad} at {at}");
            }
        }
    }
}

/// A scale that is infinite or NaN makes every product with it so, with and without integers.
#[test]
fn a_scale_that_is_not_finite_stays_seen() {
    for encoding in Encoding::ALL {
        for scale in [0x7c00, 0xfc00, 0x7c01, 0x7e00, 0xffff] {
            let input = encoding.divisor();
            let blocks = Blocks::new(encoding, 3, input, |row, planes| {
                planes.numbers.iter_mut().enumerate().for_each(|(k, number)| *number = ((k + row) % 16) as u8);
                planes.scales.fill(0x3c00);
                planes.scales[0] = scale;
                planes.sub_scales.fill(1);
            });
            let weight = Matrix::Blocks(blocks);
            for (level, integers, rows) in Level::all().into_iter().flat_map(|level| {
                [(false, 1), (false, 9), (true, 1), (true, 9)].map(|(integers, rows)| (level, integers, rows))
            }) {
                let (x, mut y) = (vec![1.0; rows * input], vec![0.0; rows * 3]);
                let linear = LinearView { weight: &weight, bias: None, adapter: None };
                let (bases, spans) = LinearView::split([linear], rows);
                let projections = Projections { bases, spans: &spans };
                project_few(level, &x, projections, [&mut y], false, integers, &mut Scratch::default());
                assert!(y.iter().all(|y| !y.is_finite()), "{encoding:?} {level:?} {scale:#x}, {rows} rows: {y:?}");
            }
        }
    }
}

dispatch! {
    fn halves(from: &[f32; LANES], to: &mut [u8; 2 * LANES]) = halves_with
}

#[inline(always)]
fn halves_with<S: Simd>(simd: S, from: &[f32; LANES], to: &mut [u8; 2 * LANES]) {
    simd.to_f16(simd.load(from), to);
}

/// Includes ties between two half-precision numbers, and numbers that half precision cannot represent: too small, too
/// large, NaN.
#[test]
fn half_precision_rounds_to_the_nearest() {
    let ties = (0..400).map(|i| f16::from_bits(97 * i).to_f32() * (1.0 + 2f32.powi(-11)));
    let mut values: Vec<f32> = noise(5, 1592).into_iter().chain(ties).collect();
    values.extend([65_504.0, 65_519.9, 65_520.0, -1e30, f32::INFINITY, 1e-8, 2f32.powi(-25), -0.0]);
    for level in Level::all() {
        for chunk in values.as_chunks::<LANES>().0 {
            let mut found = [0; 2 * LANES];
            halves(level, chunk, &mut found);
            let expected = chunk.map(|value| f16::from_f32(value).to_le_bytes());
            assert_eq!(found.as_chunks::<2>().0, expected, "{level:?}: {chunk:?}");
        }
    }
}

/// A thread keeps expanded weights from one item to the next, and items differ in size. Here there are many items, with
/// the tile sizes of every instruction set.
#[test]
fn a_large_product_of_opened_weights_equals_that_of_dense_ones() {
    let (rows, out, input) = if SMALL { (3, 40, 64) } else { (70, 1500, 544) };
    for encoding in [Encoding::Q4_1, Encoding::Q8_0] {
        let (matrix, weights) = quantised(encoding, 11, out, input);
        let (x, dy) = (noise(12, rows * input), noise(13, rows * out));
        for level in Level::all() {
            let full = Matrix::from(PackedMatrix::new(level, Single, &matrix.to_rows(level), out, input, input));
            let left = left(level, &x, rows, input);
            let packed_dy = PackedMatrix::new(level, Single, &dy, rows, out, out);
            let run = |weight: &Matrix| {
                let (mut y, mut dx) = (vec![f32::NAN; rows * out], vec![f32::NAN; rows * input]);
                forward(level, Single, &[Forward { x: &left, weight }], &mut y, false);
                backward(level, Single, &[Backward { dy: &packed_dy, weight }], &mut dx, false);
                [y, dx]
            };
            let (opened, dense) = (run(&matrix), run(&full));
            for (opened, dense) in opened.iter().zip(&dense) {
                assert!(bits(opened) == bits(dense), "{encoding:?} {level:?}");
            }
            let expected = product([rows, input, out], |i, p| dy[i * out + p], |p, j| weights[p * input + j]);
            assert!(error(&opened[1], &expected) < TOLERANCE, "{encoding:?} {level:?}");
        }
    }
}
