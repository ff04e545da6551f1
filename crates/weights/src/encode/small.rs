//! Blocks of 32 with one scale, or with a scale and a minimum.

use half::f16;

use super::{range, scale};
use crate::blocks::Planes;
use crate::quantize::{at_most, half, inverse, nearest, sums};

/// A type without minima.
pub(super) struct Scaled {
    /// The number that is stored for zero.
    zero: f32,
    /// The smallest and the largest number, counted from zero.
    lowest: f32,
    highest: f32,
    /// Candidates for the number, not rounded, that stands for the value of largest magnitude.
    ends: &'static [f32],
}

/// The first candidate is that of `quantize_row_q4_0_ref`. On the side of the positive numbers there is one less.
pub(super) const FOUR: Scaled = Scaled {
    zero: 8.0,
    lowest: -8.0,
    highest: 7.0,
    ends: &[
        -8.0, -6.6, -6.8, -7.0, -7.2, -7.4, -7.6, -7.8, -8.2, -8.4, -8.6, -8.9, 5.8, 6.1, 6.4, 6.7, 7.0, 7.2, 7.4, 7.7,
    ],
};

/// The first candidate is that of `quantize_row_q5_0_ref`.
pub(super) const FIVE: Scaled = Scaled {
    zero: 16.0,
    lowest: -16.0,
    highest: 15.0,
    ends: &[
        -16.0, -14.4, -14.6, -14.8, -15.0, -15.2, -15.4, -15.6, -15.8, -16.2, -16.4, -16.6, 13.7, 14.0, 14.2, 14.4,
        14.6, 14.8, 15.0, 15.2, 15.4, 15.6,
    ],
};

/// The first candidate is that of `quantize_row_q8_0_ref`, which does not use −128 either. The others are as far apart as
/// half-precision scales are.
pub(super) const EIGHT: Scaled = Scaled {
    zero: 128.0,
    lowest: -127.0,
    highest: 127.0,
    ends: &[
        127.0, 125.5, 125.6, 125.7, 125.8, 125.9, 126.0, 126.1, 126.2, 126.3, 126.4, 126.5, 126.6, 126.7, 126.8, 126.9,
        127.1, 127.2, 127.3, 127.4, 127.5, 127.6,
    ],
};

impl Scaled {
    #[inline(always)]
    fn number(&self, value: f32, inverse: f32) -> f32 {
        within(nearest(value * inverse), self.lowest, self.highest)
    }

    #[inline(always)]
    fn error(&self, values: &[f32; 32], scale: f32) -> f32 {
        let inverse = inverse(scale);
        let [error] = sums(values, values, |value, _| {
            let far = scale * self.number(value, inverse) - value;
            [far * far]
        });
        error
    }

    /// The scale that fits the numbers of another scale best.
    fn refit(&self, values: &[f32; 32], scale: f32) -> f32 {
        let inverse = inverse(scale);
        let [nn, nx] = sums(values, values, |value, _| {
            let number = self.number(value, inverse);
            [number * number, number * value]
        });
        if nn > 0.0 { nx / nn } else { 0.0 }
    }
}

/// Quantises a block to `scale · number`.
pub(super) fn scaled(values: &[f32; 32], form: &Scaled, to: &mut Planes<'_>) {
    let end = values.iter().fold(0.0f32, |most, &value| if value.abs() > most.abs() { value } else { most });
    let mut best = (f32::INFINITY, 0, 0.0);
    let mut attempt = |wanted: f32| {
        let (bits, magnitude) = scale(wanted.abs());
        let (bits, scale) = if wanted < 0.0 { (bits | 0x8000, -magnitude) } else { (bits, magnitude) };
        let error = if magnitude.is_finite() { form.error(values, scale) } else { f32::INFINITY };
        if error < best.0 {
            best = (error, bits, scale);
        }
        best.2
    };
    let mut found = 0.0;
    for candidate in form.ends {
        found = attempt(end / candidate);
    }
    for _ in 0..2 {
        found = attempt(form.refit(values, found));
    }
    to.scales[0] = best.1;
    let inverse = inverse(found);
    for (number, &value) in to.numbers.iter_mut().zip(values) {
        *number = (form.number(value, inverse) + form.zero) as u8;
    }
}

/// Candidates for the number of steps between the smallest and the largest value, beyond the largest number, and for how
/// far below zero the number of the smallest value is, before rounding.
const RANGES: [(f32, f32); 16] = [
    (-1.0, 0.0),
    (-0.7, 0.0),
    (-0.4, 0.0),
    (-0.2, 0.0),
    (0.0, 0.0),
    (0.2, 0.1),
    (0.4, 0.0),
    (0.4, 0.2),
    (0.4, 0.4),
    (0.7, 0.35),
    (0.9, 0.45),
    (1.0, 0.0),
    (1.0, 1.0),
    (1.3, 0.65),
    (1.7, 0.85),
    (2.2, 1.1),
];

/// The best scale and minimum yet.
struct Shifted<'a> {
    values: &'a [f32; 32],
    most: f32,
    error: f32,
    bits: (u16, u16),
    scale: f32,
    minimum: f32,
}

impl Shifted<'_> {
    fn attempt(&mut self, wanted: f32, minimum: (u16, f32)) {
        let scale = scale(wanted);
        if !(scale.1.is_finite() && minimum.1.is_finite()) {
            return;
        }
        let error = shifted_error(self.values, scale.1, minimum.1, self.most);
        if error < self.error {
            (self.error, self.bits) = (error, (scale.0, minimum.0));
            (self.scale, self.minimum) = (scale.1, minimum.1);
        }
    }

    /// Tries the least squares of `scale · number + minimum` for the numbers `(value − from) · inverse`, then again of the
    /// scale alone with the rounded minimum.
    #[inline(always)]
    fn refit(&mut self, from: f32, inverse: f32, below: f32) {
        let number = |value: f32| within(nearest((value - from) * inverse - below), 0.0, self.most);
        // Counted from near the minimum, to keep digits when all values are far from zero.
        let [n, nn, x, nx] = sums(self.values, self.values, |value, _| {
            let (number, value) = (number(value), value - from);
            [number, number * number, value, number * value]
        });
        let determinant = 32.0 * nn - n * n;
        if determinant <= 0.0 {
            return;
        }
        let scale = (32.0 * nx - n * x) / determinant;
        let minimum = half(from + (nn * x - n * nx) / determinant);
        if scale > 0.0 {
            self.attempt((nx - (minimum.1 - from) * n) / nn, minimum);
        }
    }
}

#[inline(always)]
pub(super) fn shifted_error(values: &[f32; 32], scale: f32, minimum: f32, most: f32) -> f32 {
    let inverse = inverse(scale);
    let [error] = sums(values, values, |value, _| {
        let far = scale * within(nearest((value - minimum) * inverse), 0.0, most) + minimum - value;
        [far * far]
    });
    error
}

/// Quantises a block to `scale · number + minimum`, with numbers up to `most`.
pub(super) fn shifted(values: &[f32; 32], most: f32, to: &mut Planes<'_>) {
    let (low, high) = range(values);
    let mut best = Shifted { values, most, error: f32::INFINITY, bits: (0, 0), scale: 0.0, minimum: 0.0 };
    // The reference (`quantize_row_q4_1_ref`); the next half below, for values that are close to each other; and zero,
    // because half-precision minima end earlier than values.
    best.attempt((high - low) / most, half(low));
    let below = half_below(low);
    best.attempt((high - below.1) / most, below);
    best.attempt((high - low.min(0.0)) / most, half(low.min(0.0)));
    if high > low {
        for (more, below) in RANGES {
            best.refit(low, (most + more) / (high - low), below);
        }
    }
    for _ in 0..2 {
        best.refit(best.minimum, inverse(best.scale), 0.0);
    }
    (to.scales[0], to.minima[0]) = best.bits;
    let inverse = inverse(best.scale);
    for (number, value) in to.numbers.iter_mut().zip(values) {
        *number = within(nearest((value - best.minimum) * inverse), 0.0, most) as u8;
    }
}

/// The largest half-precision number that is not above `value`.
fn half_below(value: f32) -> (u16, f32) {
    let (bits, nearest) = half(value);
    let below = match bits {
        _ if nearest <= value => bits,
        0 | 0x8000 => 0x8001,
        1..0x8000 => bits - 1,
        _ => bits + 1,
    };
    (below, f16::from_bits(below).to_f32())
}

/// Like `f32::clamp`, but two instructions.
#[inline(always)]
pub(super) fn within(value: f32, least: f32, most: f32) -> f32 {
    let value = at_most(value, most);
    if value > least { value } else { least }
}
