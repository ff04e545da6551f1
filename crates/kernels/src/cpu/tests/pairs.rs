//! Products of pairs of bfloat16, on every unit that multiplies them, against their definition on rounded numbers.

use half::bf16;
use proptest::prelude::*;

use super::compact::{bits, compact};
use super::{SMALL, TOLERANCE, config, error, noise, product, up_to};
use crate::cpu::cross_entropy::log_probs;
use crate::cpu::linear::{AdapterView, BaseView, Projections, Span, project_many};
use crate::cpu::matrix::{Left, Matrix, PackedMatrix};
use crate::cpu::pool::scoped::with_threads;
use crate::cpu::product::{Backward, Forward, Operand, Pairs, Single, backward, forward, forward_packed};
use crate::cpu::simd::Level;

fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| bf16::from_f32(*value).to_f32()).collect()
}

fn units() -> impl Iterator<Item = (Level, Pairs)> {
    Level::all().into_iter().flat_map(|level| Pairs::all(level).into_iter().map(move |unit| (level, unit)))
}

fn left<O: Operand>(level: Level, operand: O, x: &[f32], rows: usize, depth: usize) -> Left<O> {
    Left::new(level, operand, rows, depth, |row| &x[row * depth..][..depth])
}

fn packed(level: Level, x: &[f32], out: usize, input: usize) -> PackedMatrix {
    PackedMatrix::new(level, Single, x, out, input, input)
}

/// The results of both products with a weight, and with a second term forward.
fn products(
    (level, unit): (Level, Pairs),
    [x, dy, low, b]: [&[f32]; 4],
    weight: &Matrix,
    [rows, r]: [usize; 2],
) -> [Vec<f32>; 3] {
    let (out, input) = (weight.out(), weight.input());
    let (left_x, left_low) = (left(level, unit, x, rows, input), left(level, unit, low, rows, r));
    let b = packed(level, b, out, r).into();
    let terms = [Forward { x: &left_x, weight }, Forward { x: &left_low, weight: &b }];
    let mut y = vec![f32::NAN; rows * out];
    forward(level, unit, &terms, &mut y, false);
    let even =
        Left::with_tile_rows(level, unit, unit.even_tile_rows(level), rows, input, |row| &x[row * input..][..input]);
    let mut turned = PackedMatrix::<Single>::unset(rows, out);
    forward_packed(level, unit, &even, weight, &mut turned);
    let mut dx = vec![f32::NAN; rows * input];
    let dy = PackedMatrix::new(level, unit, dy, rows, out, out);
    backward(level, unit, &[Backward { dy: &dy, weight }], &mut dx, false);
    [y, Matrix::from(turned).to_rows(level), dx]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn products_equal_their_definition_on_rounded_numbers(
        seed in any::<u64>(), rows in up_to(80), out in up_to(80), input in up_to(80), r in up_to(40),
    ) {
        let given = [rows * input, rows * out, rows * r, out * r, out * input].map(|len| noise(seed ^ len as u64, len));
        let [x, dy, low, b, w] = given.each_ref().map(|values| rounded(values));
        let base = product([rows, out, input], |i, p| x[i * input + p], |p, j| w[j * input + p]);
        let through = product([rows, out, r], |i, p| low[i * r + p], |p, j| b[j * r + p]);
        let both: Vec<f64> = base.iter().zip(&through).map(|(base, low)| base + low).collect();
        let slope = product([rows, input, out], |i, p| dy[i * out + p], |p, j| w[p * input + j]);
        for (level, unit) in units() {
            let [x, dy, low, b, w] = given.each_ref().map(Vec::as_slice);
            // Buffers are used again: what a kernel does not write is not a number.
            let nothing = vec![f32::NAN; 80 * 80];
            let none = packed(level, &nothing, out, input).into();
            products((level, unit), [&nothing[..rows * input], &nothing[..rows * out], &nothing[..rows * r], &nothing[..out * r]], &none, [rows, r]);
            let found = products((level, unit), [x, dy, low, b], &packed(level, w, out, input).into(), [rows, r]);
            for (found, expected) in found.iter().zip([&both, &base, &slope]) {
                prop_assert!(error(found, expected) < TOLERANCE, "{unit:?}: {}", error(found, expected));
            }
        }
    }

    #[test]
    fn a_compact_matrix_multiplies_like_what_it_opens_to(seed in any::<u64>(), rows in up_to(60), out in up_to(80)) {
        for (matrix, _) in compact(seed, out, 1) {
            let (input, r) = (matrix.input(), 3);
            let given = [rows * input, rows * out, rows * r, out * r].map(|len| noise(seed ^ len as u64, len));
            for (level, unit) in units() {
                let full = Matrix::from(packed(level, &matrix.to_rows(level), out, input));
                let [opened, dense] = [&matrix, &full].map(|weight| {
                    products((level, unit), given.each_ref().map(Vec::as_slice), weight, [rows, r]).map(|found| bits(&found))
                });
                prop_assert!(opened == dense, "{unit:?}");
            }
        }
    }

    #[test]
    fn a_row_over_a_cache_is_what_it_is_alone(seed in any::<u64>(), rows in up_to(70), out in up_to(80), input in up_to(80)) {
        let (x, w) = (noise(seed, rows * input), noise(seed ^ 1, out * input));
        let (a, b) = (noise(seed ^ 2, 3 * input), noise(seed ^ 3, out * 3));
        let [x16, w16] = [&x, &w].map(|values| rounded(values));
        let exact = product([rows, out, input], |i, p| x16[i * input + p], |p, j| w16[j * input + p]);
        for (level, unit) in units() {
            let weight = packed(level, &w, out, input).into();
            let run = |x: &[f32], adapter: Option<AdapterView<'_>>| {
                let rows = x.len() / input;
                let mut y = vec![f32::NAN; rows * out];
                let spans = &[Span { rows, adapters: [adapter] }];
                project_many(level, unit, x, Projections { bases: [BaseView { weight: &weight, bias: None }], spans }, [&mut y], false);
                y
            };
            prop_assert!(error(&run(&x, None), &exact) < TOLERANCE, "{unit:?}");
            let adapter = Some(AdapterView { a: &a, b: &b, halves: None, r: 3, scale: 0.5, mask: None });
            let alone: Vec<f32> = x.chunks(input).flat_map(|row| run(row, adapter)).collect();
            prop_assert!(bits(&run(&x, adapter)) == bits(&alone), "{unit:?}");
        }
    }

    #[test]
    fn log_probabilities_are_near_those_of_exact_products(seed in any::<u64>(), rows in up_to(140), vocab in 2usize..100) {
        let d_model = 40;
        let (hidden, w) = (noise(seed, rows * d_model), noise(seed ^ 1, vocab * d_model));
        let targets: Vec<[(u32, f32); 1]> = (0..rows).map(|row| [((row % vocab) as u32, 1.0)]).collect();
        let targets: Vec<&[(u32, f32)]> = targets.iter().map(|target| &target[..]).collect();
        for (level, unit) in units() {
            let weight = packed(level, &w, vocab, d_model).into();
            let mut exact = vec![f32::NAN; rows * d_model];
            let mut found = exact.clone();
            let expected = log_probs(level, Single, &hidden, &weight, &targets, Some(&mut exact));
            let log_probs = log_probs(level, unit, &hidden, &weight, &targets, Some(&mut found));
            // A number is rounded by up to a 512th of it, so a logit by 40 products of two such errors, which rarely add up.
            for (found, expected) in log_probs.iter().zip(&expected) {
                prop_assert!((found - expected).abs() < 40.0 * 2.0 / 256.0, "{unit:?}: {found} {expected}");
            }
            let exact: Vec<f64> = exact.iter().map(|x| f64::from(*x)).collect();
            prop_assert!(error(&found, &exact) < 0.03, "{unit:?}: {}", error(&found, &exact));
        }
    }
}

/// The order in which a unit sums, as its documentation says, in single precision.
#[test]
fn units_sum_in_the_order_that_they_say() {
    let (rows, out, input) = if SMALL { (3, 5, 70) } else { (70, 90, 200) };
    let (x, w) = (noise(1, rows * input), noise(2, out * input));
    let [x16, w16] = [&x, &w].map(|values| rounded(values));
    let number = |values: &[f32], row: usize, k: usize| if k < input { values[row * input + k] } else { 0.0 };
    for (level, unit) in units() {
        let named = format!("{unit:?}");
        let mut found = vec![f32::NAN; rows * out];
        let weight = packed(level, &w, out, input).into();
        forward(level, unit, &[Forward { x: &left(level, unit, &x, rows, input), weight: &weight }], &mut found, false);
        let fused = !matches!(level, Level::Portable(_)) || cfg!(target_arch = "aarch64");
        let add = |row: usize, column: usize, k: usize, sum: f32| {
            let (a, b) = (number(&x16, row, k), number(&w16, column, k));
            if fused { a.mul_add(b, sum) } else { a * b + sum }
        };
        for (at, found) in found.iter().enumerate() {
            let (row, column) = (at / out, at % out);
            let mut sum = 0.0f32;
            for block in (0..input).step_by(32) {
                if named.contains("Amx") {
                    let [even, odd] =
                        [0, 1].map(|half| (0..16).fold(0.0, |sum, k| add(row, column, block + 2 * k + half, sum)));
                    sum += even + odd;
                } else {
                    for k in (block..block + 32).step_by(2) {
                        sum = add(row, column, k, add(row, column, k + 1, sum));
                    }
                }
            }
            assert!(found.to_bits() == sum.to_bits(), "{named}: {found} is not {sum} at {row}, {column}");
        }
    }
}

#[test]
fn results_do_not_depend_on_the_threads() {
    let (rows, out, input) = if SMALL { (20, 40, 36) } else { (300, 200, 100) };
    let given = [rows * input, rows * out, rows * 8, out * 8].map(|len| noise(len as u64, len));
    let level = Level::best();
    for unit in Pairs::all(level) {
        let weight = packed(level, &noise(5, out * input), out, input).into();
        let run = || products((level, unit), given.each_ref().map(Vec::as_slice), &weight, [rows, 8]).map(|y| bits(&y));
        let (alone, _) = with_threads(1, run);
        for threads in [2, 3, 8] {
            assert!(alone == with_threads(threads, run).0, "{unit:?}: {threads} threads");
        }
    }
}
