//! Quantises rows of `f32`.

use half::f16;

use crate::blocks::Planes;

/// A block-quantised format that this crate can produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantization {
    /// Eight bits, with one scale per group of 32; the same result as GGML's reference.
    Q8_0,
    /// Four bits in super-blocks of 256, in GGML's format. Scale and minimum of each group of 32 are fitted by least
    /// squares; larger weights have more influence.
    Q4K,
    /// Sixteen levels of a normal distribution, scaled by the largest of 64 weights. These scales are stored in eight
    /// bits, between the smallest and the largest scale of the row (Dettmers et al. 2023, "QLoRA": NF4 with double
    /// quantisation).
    Nf4,
}

impl Quantization {
    /// The length of a row must be a multiple of this.
    pub fn divisor(self) -> usize {
        match self {
            Self::Q8_0 => 32,
            Self::Q4K => 256,
            Self::Nf4 => 64,
        }
    }

    /// The largest magnitude of a weight that surely has this form. Scales and minima are half-precision numbers, which end at
    /// 65,504: beyond this, one may be infinite.
    pub fn largest(self) -> f32 {
        match self {
            Self::Q8_0 | Self::Q4K => 1e6,
            Self::Nf4 => 6e4,
        }
    }

    /// Quantises a row. `levels` are those of NF4, in ascending order; the other formats do not use them.
    ///
    /// The values have to be finite, and at most [`largest`](Self::largest): four or eight bits cannot say that one is not.
    ///
    /// # Panics
    /// When the row is not a whole number of blocks, or the parts are too short.
    pub fn quantize(self, values: &[f32], levels: &[f32; 16], to: &mut Planes<'_>) {
        assert!(values.len().is_multiple_of(self.divisor()), "quantize: the row is not a whole number of blocks");
        match self {
            Self::Q8_0 => q8_0(values, to),
            Self::Q4K => q4_k(values, to),
            Self::Nf4 => nf4(values, levels, to),
        }
    }
}

/// The nearest half-precision number: its bits and its value.
pub(crate) fn half(value: f32) -> (u16, f32) {
    let half = f16::from_f32(value);
    (half.to_bits(), half.to_f32())
}

pub(crate) fn largest(values: &[f32]) -> f32 {
    values
        .iter()
        .fold(0.0, |largest, value| if value.abs() > largest || value.is_nan() { value.abs() } else { largest })
}

/// The inverse, and zero for zero: a scale of zero makes every number zero.
pub(crate) fn inverse(value: f32) -> f32 {
    if value == 0.0 { 0.0 } else { 1.0 / value }
}

/// `quantize_row_q8_0_ref` of `ggml-quants.c`: the numbers are rounded with the scale before it is rounded to half
/// precision.
fn q8_0(values: &[f32], to: &mut Planes<'_>) {
    for (i, (values, numbers)) in values.as_chunks::<32>().0.iter().zip(to.numbers.as_chunks_mut::<32>().0).enumerate()
    {
        let scale = largest(values) / 127.0;
        to.scales[i] = half(scale).0;
        let inverse = inverse(scale);
        for (number, value) in numbers.iter_mut().zip(values) {
            *number = ((value * inverse).round() + 128.0) as u8;
        }
    }
}

/// Candidates for the number of steps into which a group's range is divided.
const STEPS: [f32; 9] = [14.2, 14.4, 14.6, 14.8, 15.0, 15.2, 15.4, 15.7, 16.0];

fn q4_k(values: &[f32], to: &mut Planes<'_>) {
    let blocks = values.as_chunks::<256>().0.iter().zip(to.numbers.as_chunks_mut::<256>().0);
    for (i, (values, numbers)) in blocks.enumerate() {
        let groups = values.as_chunks::<32>().0;
        let fits: Vec<(f32, f32)> = groups.iter().map(fit).collect();
        let most = |part: fn(&(f32, f32)) -> f32| fits.iter().map(part).fold(0.0, f32::max);
        let (scale, d) = half(most(|fit| fit.0) / 63.0);
        let (minimum, dmin) = half(most(|fit| fit.1) / 63.0);
        to.scales[i] = scale;
        to.minima[i] = minimum ^ 0x8000;
        for (group, (values, numbers)) in groups.iter().zip(numbers.as_chunks_mut::<32>().0).enumerate() {
            let six_bits = |value: f32, unit: f32| nearest(value * inverse(unit)).clamp(0.0, 63.0);
            let (sub_scale, sub_minimum) = (six_bits(fits[group].0, d), six_bits(fits[group].1, dmin));
            to.sub_scales[8 * i + group] = sub_scale as i8;
            to.sub_minima[8 * i + group] = sub_minimum as i8;
            let (inverse, minimum) = (inverse(d * sub_scale), dmin * sub_minimum);
            for (number, value) in numbers.iter_mut().zip(values) {
                *number = nearest((value + minimum) * inverse).clamp(0.0, 15.0) as u8;
            }
        }
    }
}

/// Larger weights have more influence, as in `quantize_row_q4_K_ref`.
pub(crate) fn importance(values: &[f32; 32]) -> [f32; 32] {
    let root_mean_square = (sums(values, values, |a, b| [a * b])[0] / 32.0).sqrt();
    values.map(|value| root_mean_square + value.abs())
}

/// The best-fitting scale and (non-negative) minimum of a group; the minimum is subtracted.
fn fit(values: &[f32; 32]) -> (f32, f32) {
    let (mut low, mut high) = (0.0f32, 0.0f32);
    for &value in values {
        (low, high) = (low.min(value), high.max(value));
    }
    if low == high {
        return (0.0, 0.0);
    }
    let importance = importance(values);
    let [w, x] = sums(values, &importance, |value, importance| [importance, importance * value]);
    let mut best = (f32::INFINITY, ((high - low) / 15.0, -low));
    for steps in STEPS {
        let factor = steps / (high - low);
        let number = |value: f32| at_most(nearest((value - low) * factor), 15.0);
        // Weighted least squares of `scale · number − minimum`.
        let [n, nn, nx] = sums(values, &importance, |value, importance| {
            let number = number(value);
            let weighted = importance * number;
            [weighted, weighted * number, weighted * value]
        });
        let determinant = w * nn - n * n;
        if determinant <= 0.0 {
            continue;
        }
        let (mut scale, mut minimum) = ((w * nx - n * x) / determinant, (n * nx - nn * x) / determinant);
        if minimum < 0.0 {
            (scale, minimum) = (nx / nn, 0.0);
        }
        let [error] = sums(values, &importance, |value, importance| {
            let far = scale * number(value) - minimum - value;
            [importance * far * far]
        });
        if scale > 0.0 && error < best.0 {
            best = (error, (scale, minimum));
        }
    }
    best.1
}

/// Sums of terms over a group, in four lanes, which every vector unit supports.
#[inline(always)]
pub(crate) fn sums<const L: usize, const N: usize>(
    a: &[f32; L],
    b: &[f32; L],
    terms: impl Fn(f32, f32) -> [f32; N],
) -> [f32; N] {
    let mut lanes = [[0.0f32; 4]; N];
    for (a, b) in a.as_chunks::<4>().0.iter().zip(b.as_chunks::<4>().0) {
        let terms: [[f32; N]; 4] = std::array::from_fn(|i| terms(a[i], b[i]));
        for (n, lanes) in lanes.iter_mut().enumerate() {
            for (lane, terms) in lanes.iter_mut().zip(&terms) {
                *lane += terms[n];
            }
        }
    }
    lanes.map(|lanes| lanes.iter().sum())
}

/// Like `f32::min`, but one instruction.
pub(crate) fn at_most(value: f32, most: f32) -> f32 {
    if value < most { value } else { most }
}

/// The nearest integer, ties to even, for values below 2²² in magnitude. `f32::round` is a function call when the code
/// is compiled for any x86-64 processor.
pub(crate) fn nearest(value: f32) -> f32 {
    const WHOLE: f32 = 12_582_912.0; // From 2²³ to 2²⁴, floats are the whole numbers.
    value + WHOLE - WHOLE
}

fn nf4(values: &[f32], levels: &[f32; 16], to: &mut Planes<'_>) {
    let groups = values.as_chunks::<64>().0;
    let scales: Vec<f32> = groups.iter().map(|group| largest(group)).collect();
    let (low, high) = scales.iter().fold((f32::INFINITY, 0.0f32), |(low, high), &x| (low.min(x), high.max(x)));
    let (unit, d) = half((high - low) / 254.0);
    let (middle, m) = half((high + low) / 2.0);
    to.scales[0] = unit;
    to.minima[0] = middle;
    let middles: [f32; 15] = std::array::from_fn(|i| (levels[i] + levels[i + 1]) / 2.0);
    for (i, (values, numbers)) in groups.iter().zip(to.numbers.as_chunks_mut::<64>().0).enumerate() {
        let sub_scale = ((scales[i] - m) * inverse(d)).round().clamp(-127.0, 127.0);
        to.sub_scales[i] = sub_scale as i8;
        let inverse = inverse(d.mul_add(sub_scale, m));
        for (number, value) in numbers.iter_mut().zip(values) {
            let value = value * inverse;
            *number = middles.iter().map(|middle| u8::from(value > *middle)).sum();
        }
    }
}
