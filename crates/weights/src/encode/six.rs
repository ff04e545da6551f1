//! Super-blocks of `Q6_K`: sixteen groups of 16, whose scales are eight-bit multiples of one half-precision number.

use super::scale;
use super::small::within;
use crate::blocks::Planes;
use crate::quantize::{inverse, nearest, sums};

/// Numbers are from −32 to 31.
const LOWEST: f32 = -32.0;
const HIGHEST: f32 = 31.0;

/// Candidates for how far a factor is above the one with which the largest value is the last number. A scale that is a
/// little too small costs only that value, a larger one makes the error of all values larger.
const STEPS: [f32; 6] = [0.0, -1.0, 1.0, 2.0, 3.0, 4.0];

/// Candidates for the factor of the largest scale. `quantize_row_q6_K_ref` has 128.
const TOPS: [f32; 4] = [128.0, 126.5, 123.0, 118.0];

struct Found {
    error: f32,
    unit: (u16, f32),
    factors: [f32; 16],
}

/// Quantises a super-block to `unit · factor · (number − 32)`.
pub(super) fn quantize(values: &[f32; 256], to: &mut Planes<'_>) {
    let best = search(values);
    to.scales[0] = best.unit.0;
    let groups = values.as_chunks::<16>().0.iter().zip(to.numbers.as_chunks_mut::<16>().0);
    for (group, (values, numbers)) in groups.enumerate() {
        to.sub_scales[group] = best.factors[group] as i8;
        let inverse = inverse(best.unit.1 * best.factors[group]);
        for (to, &value) in numbers.iter_mut().zip(values) {
            *to = (number(value, inverse) - LOWEST) as u8;
        }
    }
}

fn search(values: &[f32; 256]) -> Found {
    let mut ends = [0.0f32; 16];
    for (end, values) in ends.iter_mut().zip(values.as_chunks::<16>().0) {
        *end = values.iter().fold(0.0f32, |most, &value| if value.abs() > most.abs() { value } else { most });
    }
    let most = ends.iter().fold(0.0f32, |most, end| most.max(end.abs())) / -LOWEST;
    let mut best = choose(values, &ends, scale(most / 127.0));
    for top in TOPS {
        let next = choose(values, &ends, scale(most / top));
        if next.error < best.error {
            best = next;
        }
    }
    for _ in 0..2 {
        let next = choose(values, &ends, scale(refit(values, &best)));
        if next.error >= best.error {
            break;
        }
        best = next;
    }
    best
}

#[inline(always)]
fn number(value: f32, inverse: f32) -> f32 {
    within(nearest(value * inverse), LOWEST, HIGHEST)
}

/// The factors with the least error near to those that make the value of largest magnitude, `end`, the lowest or the
/// highest number.
fn choose(values: &[f32; 256], ends: &[f32; 16], unit: (u16, f32)) -> Found {
    let mut found = Found { error: 0.0, unit, factors: [0.0; 16] };
    for (group, values) in values.as_chunks::<16>().0.iter().enumerate() {
        let mut best = (f32::INFINITY, 0.0);
        for end in [LOWEST, HIGHEST] {
            let factor = ends[group] * inverse(unit.1 * end);
            let away = if factor < 0.0 { -1.0 } else { 1.0 };
            for step in STEPS {
                let factor = nearest(within(factor + away * step, -128.0, 127.0));
                let error = error(values, unit.1 * factor);
                if error < best.0 {
                    best = (error, factor);
                }
            }
        }
        found.error += best.0;
        found.factors[group] = best.1;
    }
    found
}

#[inline(always)]
fn error(values: &[f32; 16], scale: f32) -> f32 {
    let inverse = inverse(scale);
    let [error] = sums(values, values, |value, _| {
        let far = scale * number(value, inverse) - value;
        [far * far]
    });
    error
}

/// The unit that fits the factors and the numbers best, by least squares over the super-block.
fn refit(values: &[f32; 256], found: &Found) -> f32 {
    let [mut nn, mut nx] = [0.0f64; 2];
    for (values, &factor) in values.as_chunks::<16>().0.iter().zip(&found.factors) {
        let inverse = inverse(found.unit.1 * factor);
        let sums = sums(values, values, |value, _| {
            let number = factor * number(value, inverse);
            [number * number, number * value]
        });
        nn += f64::from(sums[0]);
        nx += f64::from(sums[1]);
    }
    if nn > 0.0 { (nx / nn) as f32 } else { 0.0 }
}
