//! Super-blocks of 256: eight groups of 32, whose scales and minima are six-bit multiples of two half-precision numbers.

use half::f16;

use super::scale;
use super::small::{shifted_error, within};
use crate::blocks::Planes;
use crate::quantize::{fit, half, inverse, nearest, range, sums};

/// A type with six-bit scales and minima.
pub(super) struct Form {
    /// The largest number.
    most: f32,
    /// Candidates for the number of steps into which a group's range is divided.
    steps: &'static [f32],
}

pub(super) const FOUR: Form =
    Form { most: 15.0, steps: &[13.6, 14.0, 14.2, 14.4, 14.6, 14.8, 15.0, 15.2, 15.4, 15.7, 16.0, 16.4, 16.9, 17.5] };

pub(super) const FIVE: Form =
    Form { most: 31.0, steps: &[30.0, 30.2, 30.4, 30.6, 30.8, 31.0, 31.2, 31.4, 31.6, 31.8, 32.0, 32.4, 33.0] };

/// The largest six-bit number.
const TOP: f32 = 63.0;

/// Candidates for the factors of the largest scale and the largest minimum.
const TOPS: [(f32, f32); 4] = [(63.0, 63.0), (62.0, 62.0), (60.5, 61.0), (58.5, 60.0)];

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
    let mut wanted = [[0.0; 2]; 8];
    for (wanted, values) in wanted.iter_mut().zip(values.as_chunks::<32>().0) {
        let (low, high) = range(values);
        *wanted = fit(values, &[1.0; 32], (low.min(0.0), high), form.steps, form.most).into();
    }
    let [most_scale, most_minimum] =
        wanted.iter().fold([0.0f32; 2], |most, wanted| [most[0].max(wanted[0]), most[1].max(wanted[1])]);
    let mut best = None;
    for (top_scale, top_minimum) in TOPS {
        let minimum = if most_minimum > 0.0 { scale(most_minimum / top_minimum) } else { (0, 0.0) };
        keep(&mut best, choose(values, form, &wanted, [scale(most_scale / top_scale), minimum]));
    }
    // `TOPS` is not empty.
    let mut best = best.unwrap_or(Found { error: 0.0, units: [(0, 0.0); 2], factors: [[0.0; 2]; 8] });
    for _ in 0..2 {
        let Some(units) = refit(values, form, &best) else { break };
        let wanted = best.factors.map(|[scale, minimum]| [best.units[0].1 * scale, best.units[1].1 * minimum]);
        let next = choose(values, form, &wanted, units);
        if next.error >= best.error {
            break;
        }
        best = next;
    }
    best
}

fn keep(best: &mut Option<Found>, found: Found) {
    if found.units.iter().all(|unit| unit.1.is_finite()) && best.is_none_or(|best| found.error < best.error) {
        *best = Some(found);
    }
}

/// The factors with the least error near to the wanted scales and minima.
fn choose(values: &[f32; 256], form: &Form, wanted: &[[f32; 2]; 8], units: [(u16, f32); 2]) -> Found {
    let [unit, minimum_unit] = units.map(|unit| unit.1);
    let inverses = [inverse(unit), inverse(minimum_unit)];
    let mut found = Found { error: 0.0, units, factors: [[0.0; 2]; 8] };
    for (group, values) in values.as_chunks::<32>().0.iter().enumerate() {
        let [scale, minimum] = [0, 1].map(|part| nearest(within(wanted[group][part] * inverses[part], 0.0, TOP)));
        let mut best = (f32::INFINITY, [0.0; 2]);
        for scale in [scale, scale - 1.0, scale + 1.0] {
            for minimum in [minimum, minimum - 1.0, minimum + 1.0] {
                if scale.min(minimum) < 0.0 || scale.max(minimum) > TOP {
                    continue;
                }
                let error = shifted_error(values, unit * scale, -minimum_unit * minimum, form.most);
                if error < best.0 {
                    best = (error, [scale, minimum]);
                }
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
