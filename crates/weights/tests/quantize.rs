//! Compares quantisation with the Python package `gguf`, and its error with that of a simpler format of the same size.

mod common;

use common::{golden, unhex};
use foehn_weights::{DType, Planes, Quantization, unpack};
use half::f16;

/// The parts of a row, with room for every type.
struct Parts {
    numbers: Vec<u8>,
    scales: Vec<u16>,
    minima: Vec<u16>,
    sub_scales: Vec<i8>,
    sub_minima: Vec<i8>,
}

impl Parts {
    fn filled(count: usize, fill: impl FnOnce(&mut Planes<'_>)) -> Self {
        let (numbers, halves, bytes) = (vec![0; count], vec![0; count / 32], vec![0; count / 16]);
        let mut parts =
            Self { numbers, scales: halves.clone(), minima: halves, sub_scales: bytes.clone(), sub_minima: bytes };
        fill(&mut Planes {
            numbers: &mut parts.numbers,
            scales: &mut parts.scales,
            minima: &mut parts.minima,
            sub_scales: &mut parts.sub_scales,
            sub_minima: &mut parts.sub_minima,
        });
        parts
    }
}

fn values() -> Vec<f32> {
    let bytes = unhex(&golden()["quantized"]["values"]);
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn made(dtype: DType) -> Parts {
    let bytes = unhex(&golden()["quantized"]["made"][dtype.name()]);
    Parts::filled(values().len(), |planes| assert!(unpack(dtype, &bytes, planes)))
}

fn half(bits: u16) -> f32 {
    f16::from_bits(bits).to_f32()
}

fn squared_error(values: &[f32], weight: impl Fn(usize) -> f32) -> f64 {
    values.iter().enumerate().map(|(i, value)| f64::from(value - weight(i)).powi(2)).sum()
}

#[test]
fn eight_bits_are_made_as_in_python() {
    let values = values();
    let found = Parts::filled(values.len(), |planes| Quantization::Q8_0.quantize(&values, &[0.0; 16], planes));
    let expected = made(DType::Q8_0);
    assert_eq!((found.numbers, found.scales), (expected.numbers, expected.scales));
}

/// `Q4_K` takes half a bit less per weight than `Q4_1` and has no larger error, because its scales are fitted.
#[test]
fn super_blocks_of_four_bits_lose_no_more_than_plain_blocks() {
    let values = values();
    let plain = made(DType::Q4_1);
    let plain = squared_error(&values, |i| {
        half(plain.scales[i / 32]) * f32::from(plain.numbers[i]) + half(plain.minima[i / 32])
    });
    let found = Parts::filled(values.len(), |planes| Quantization::Q4K.quantize(&values, &[0.0; 16], planes));
    let found = squared_error(&values, |i| {
        let scale = half(found.scales[i / 256]) * f32::from(found.sub_scales[i / 32]);
        scale * f32::from(found.numbers[i]) + half(found.minima[i / 256]) * f32::from(found.sub_minima[i / 32])
    });
    assert!(found <= plain, "Q4_K {found:e}, Q4_1 {plain:e}");
}

/// Each number is that of the nearest level. The scale of each 64 weights is the largest of them, to a 254th of the
/// row's range.
#[test]
fn levels_are_the_nearest() {
    let levels: [f32; 16] = serde_json::from_value(golden()["nf4"].clone()).unwrap();
    for values in values().as_chunks::<512>().0 {
        let found = Parts::filled(512, |planes| Quantization::Nf4.quantize(values, &levels, planes));
        let largest = |values: &[f32]| values.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
        let all: Vec<f32> = values.chunks(64).map(largest).collect();
        let range = largest(&all) - all.iter().copied().fold(f32::INFINITY, f32::min);
        for (group, values) in values.chunks(64).enumerate() {
            let scale = half(found.scales[0]) * f32::from(found.sub_scales[group]) + half(found.minima[0]);
            // Half a step, plus the rounding of the two half-precision numbers.
            assert!((scale - all[group]).abs() <= range / 254.0 + 2e-3 * all[group], "{scale} for {}", all[group]);
            for (value, number) in values.iter().zip(&found.numbers[group * 64..]) {
                let distance = |level: &f32| (value - level * scale).abs();
                let nearest = levels.iter().map(distance).fold(f32::INFINITY, f32::min);
                assert!(distance(&levels[usize::from(*number)]) <= nearest + 1e-6 * scale);
            }
        }
    }
}

/// Up to the magnitude that a form says, every scale and every minimum is a number.
#[test]
fn the_largest_weights_have_finite_scales() {
    let levels: [f32; 16] = serde_json::from_value(golden()["nf4"].clone()).unwrap();
    for form in [Quantization::Q8_0, Quantization::Q4K, Quantization::Nf4] {
        for shift in [0.0, 0.5, 1.0, -1.0] {
            // Values of every sign and size up to the largest, the largest itself among them.
            let bound = |value: f32| value.clamp(-1.0, 1.0) * form.largest();
            let mut values: Vec<f32> = values()[..512].iter().map(|value| bound(value.sin() + shift)).collect();
            (values[0], values[300]) = (form.largest(), -form.largest());
            let found = Parts::filled(512, |planes| form.quantize(&values, &levels, planes));
            for part in found.scales.iter().chain(&found.minima) {
                assert!(half(*part).is_finite(), "{form:?}, {shift}");
            }
        }
    }
}
