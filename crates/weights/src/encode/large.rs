//! Super-blocks of 256: eight groups of 32, whose scales and minima are six-bit multiples of two half-precision numbers.

use half::f16;

use super::small::{shifted_error, within};
use super::{range, scale};
use crate::blocks::Planes;
use crate::quantize::{half, importance, inverse, nearest, sums};

/// A type with six-bit scales and minima.
pub(super) struct Form {
    /// The largest number.
    most: f32,
    /// Candidates for the number of steps into which a group's range is divided: for the least squared error, and those
    /// of the reference, which gives larger values more influence (`make_qkx2_quants` as `quantize_row_q4_K_ref` and
    /// `quantize_row_q5_K_ref` call it).
    steps: &'static [f32],
    reference: &'static [f32],
}

pub(super) const FOUR: Form = Form {
    most: 15.0,
    steps: &[14.1, 14.5, 14.9, 15.3, 15.7, 16.2, 17.0, 18.2],
    reference: &[
        14.0, 14.1, 14.2, 14.3, 14.4, 14.5, 14.6, 14.7, 14.8, 14.9, 15.0, 15.1, 15.2, 15.3, 15.4, 15.5, 15.6, 15.7,
        15.8, 15.9, 16.0,
    ],
};

pub(super) const FIVE: Form = Form {
    most: 31.0,
    steps: &[30.1, 30.5, 30.9, 31.3, 31.6, 32.0, 32.6, 33.3],
    reference: &[30.5, 30.6, 30.7, 30.8, 30.9, 31.0, 31.1, 31.2, 31.3, 31.4, 31.5, 31.6, 31.7, 31.8, 31.9, 32.0],
};

/// The largest six-bit number.
const TOP: f32 = 63.0;

/// Candidates for the factors of the largest scale and the largest minimum.
const TOPS: [(f32, f32); 2] = [(63.0, 63.0), (60.5, 61.5)];

/// Candidates for how far a group's factors are from the nearest to its scale and minimum: for groups with a minimum, and
/// for those without.
const NEAR: [[f32; 2]; 9] =
    [[0.0, 0.0], [0.0, -1.0], [0.0, 1.0], [-1.0, 0.0], [-1.0, -1.0], [-1.0, 1.0], [1.0, 0.0], [1.0, -1.0], [1.0, 1.0]];
const NEAR_ALONE: [[f32; 2]; 9] =
    [[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [2.0, 0.0], [-2.0, 0.0], [3.0, 0.0], [-3.0, 0.0], [4.0, 0.0], [0.0, 1.0]];

/// A candidate: the units of scales and minima, each group's factors of them, and the squared error.
#[derive(Clone, Copy)]
struct Found {
    error: f32,
    units: [(u16, f32); 2],
    factors: [[f32; 2]; 8],
}

/// Quantises a super-block to `unit · factor · number − unit · factor`.
pub(super) fn quantize(values: &[f32; 256], form: &Form, to: &mut Planes<'_>) {
    let best = search(values, form);
    let [(scale_bits, unit), (minimum_bits, minimum_unit)] = best.units;
    to.scales[0] = scale_bits;
    to.minima[0] = minimum_bits ^ 0x8000;
    let groups = values.as_chunks::<32>().0.iter().zip(to.numbers.as_chunks_mut::<32>().0);
    for (group, (values, numbers)) in groups.enumerate() {
        let [factor, minimum] = best.factors[group];
        to.sub_scales[group] = factor as i8;
        to.sub_minima[group] = minimum as i8;
        let (inverse, minimum) = (inverse(unit * factor), -minimum_unit * minimum);
        for (number, value) in numbers.iter_mut().zip(values) {
            *number = within(nearest((value - minimum) * inverse), 0.0, form.most) as u8;
        }
    }
}

fn search(values: &[f32; 256], form: &Form) -> Found {
    let (mut plain, mut weighted) = ([[0.0; 2]; 8], [[0.0; 2]; 8]);
    for (group, values) in values.as_chunks::<32>().0.iter().enumerate() {
        plain[group] = fit(values, &[1.0; 32], form.steps, form.most);
        weighted[group] = fit(values, &importance(values), form.reference, form.most);
    }
    let mut best = choose(values, form, &weighted, units(&weighted, TOPS[0]));
    for tops in TOPS {
        best = better(best, choose(values, form, &plain, units(&plain, tops)));
    }
    for _ in 0..2 {
        let wanted = best.factors.map(|[scale, minimum]| [best.units[0].1 * scale, best.units[1].1 * minimum]);
        let Some(units) = refit(values, form, &best) else { break };
        best = better(best, choose(values, form, &wanted, units));
    }
    best
}

/// The best-fitting scale and (non-negative) minimum of a group; the minimum is subtracted. As in `make_qkx2_quants`, each
/// candidate's range starts at the best minimum yet.
#[inline(always)]
fn fit(values: &[f32; 32], importance: &[f32; 32], steps: &[f32], most: f32) -> [f32; 2] {
    let (low, high) = range(values);
    let mut low = low.min(0.0);
    if high <= low {
        return [0.0, -low];
    }
    let error = |scale: f32, low: f32, from: f32, factor: f32| {
        let [error] = sums(values, importance, |value, importance| {
            let far = scale * within(nearest((value - from) * factor), 0.0, most) + low - value;
            [importance * far * far]
        });
        error
    };
    let [w, x] = sums(values, importance, |value, importance| [importance, importance * value]);
    let mut scale = (high - low) / most;
    let mut least = error(scale, low, low, most / (high - low));
    for steps in steps {
        let factor = steps / (high - low);
        // Weighted least squares of `scale · number + minimum`.
        let [n, nn, nx] = sums(values, importance, |value, importance| {
            let number = within(nearest((value - low) * factor), 0.0, most);
            let weighted = importance * number;
            [weighted, weighted * number, weighted * value]
        });
        let determinant = w * nn - n * n;
        if determinant <= 0.0 {
            continue;
        }
        let (mut next, mut minimum) = ((w * nx - n * x) / determinant, (nn * x - n * nx) / determinant);
        if minimum > 0.0 {
            (next, minimum) = (nx / nn, 0.0);
        }
        let error = error(next, minimum, low, factor);
        if next > 0.0 && error < least {
            (least, scale, low) = (error, next, minimum);
        }
    }
    [scale, -low]
}

fn better(a: Found, b: Found) -> Found {
    if b.error < a.error { b } else { a }
}

/// The units with which the largest scale and the largest minimum have the factors `tops`.
fn units(wanted: &[[f32; 2]; 8], tops: (f32, f32)) -> [(u16, f32); 2] {
    let most = |part: usize| wanted.iter().fold(0.0f32, |most, wanted| most.max(wanted[part]));
    let minimum = most(1);
    // The range of the type keeps fits finite but for rounding.
    let unit = |value: f32| scale(value.min(super::HALF));
    [unit(most(0) / tops.0), if minimum > 0.0 { unit(minimum / tops.1) } else { (0, 0.0) }]
}

/// The factors with the least error near to the wanted scales and minima.
fn choose(values: &[f32; 256], form: &Form, wanted: &[[f32; 2]; 8], units: [(u16, f32); 2]) -> Found {
    let [unit, minimum_unit] = units.map(|unit| unit.1);
    let inverses = [inverse(unit), inverse(minimum_unit)];
    let mut found = Found { error: 0.0, units, factors: [[0.0; 2]; 8] };
    for (group, values) in values.as_chunks::<32>().0.iter().enumerate() {
        let [scale, minimum] = [0, 1].map(|part| nearest(within(wanted[group][part] * inverses[part], 0.0, TOP)));
        let mut best = (f32::INFINITY, [0.0; 2]);
        for [more_scale, more_minimum] in if minimum > 0.0 { NEAR } else { NEAR_ALONE } {
            let (scale, minimum) = (scale + more_scale, minimum + more_minimum);
            if scale.min(minimum) < 0.0 || scale.max(minimum) > TOP {
                continue;
            }
            let error = shifted_error(values, unit * scale, -minimum_unit * minimum, form.most);
            if error < best.0 {
                best = (error, [scale, minimum]);
            }
        }
        found.error += best.0;
        found.factors[group] = best.1;
    }
    found
}

/// The units that fit the factors and the numbers best, by least squares over the super-block.
fn refit(values: &[f32; 256], form: &Form, found: &Found) -> Option<[(u16, f32); 2]> {
    // Of the terms `a = factor · number` and `b = factor of the minimum`, and of the values.
    let [mut aa, mut ab, mut bb, mut ax, mut bx] = [0.0f64; 5];
    for (values, [factor, minimum]) in values.as_chunks::<32>().0.iter().zip(found.factors) {
        let (inverse, offset) = (inverse(found.units[0].1 * factor), -found.units[1].1 * minimum);
        let sums = sums(values, values, |value, _| {
            let number = within(nearest((value - offset) * inverse), 0.0, form.most);
            [number, number * number, value, number * value]
        });
        let ([n, nn, x, nx], [factor, minimum]) = (sums.map(f64::from), [factor, minimum].map(f64::from));
        aa += factor * factor * nn;
        ab += factor * minimum * n;
        bb += minimum * minimum * 32.0;
        ax += factor * nx;
        bx += minimum * x;
    }
    let determinant = aa * bb - ab * ab;
    let (unit, minimum_unit) = if determinant > 0.0 {
        ((ax * bb - ab * bx) / determinant, (ab * ax - aa * bx) / determinant)
    } else {
        (ax / aa, 0.0)
    };
    if !(unit > 0.0 && minimum_unit >= 0.0) {
        return None;
    }
    let units = [scale(unit as f32), half(minimum_unit as f32)];
    units.iter().all(|unit| f16::from_bits(unit.0).is_finite()).then_some(units)
}
