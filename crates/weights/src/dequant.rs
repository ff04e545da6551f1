//! Converts stored bytes to `f32`, with exactly the arithmetic of GGML's reference (`ggml-quants.c`, and `quants.py` of
//! the Python package `gguf`; the tests compare the results bit by bit).

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::DType;
use crate::blocks::{IQ4_LEVELS, Planes, unpack, zero};

/// The largest number of elements in a block.
const MOST: usize = 256;

/// The values of the 256 bytes of `F8_E4M3`. With the fields moved to their places in a single-precision number, only
/// the exponent's bias differs (7, not 127); this also holds for subnormal numbers. All ones is not a number.
static E4M3: [f32; 256] = {
    let mut values = [f32::NAN; 256];
    let mut byte = 0u8;
    loop {
        if byte & 0x7f != 0x7f {
            let bits = (byte as u32 & 0x80) << 24 | (byte as u32 & 0x7f) << 20;
            values[byte as usize] = f32::from_bits(bits) * f32::from_bits((127 + 120) << 23);
        }
        if byte == 255 {
            break;
        }
        byte += 1;
    }
    values
};

/// Fills `values` from `bytes`; both must hold the same whole number of blocks. For a type without an `f32` form,
/// nothing is filled.
pub(crate) fn dequantize(dtype: DType, bytes: &[u8], values: &mut [f32]) {
    match dtype {
        DType::F32 => {
            for (bytes, value) in bytes.as_chunks().0.iter().zip(values) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        DType::F16 => halves(bytes, values),
        DType::BF16 => {
            for (&[low, high], value) in bytes.as_chunks().0.iter().zip(values) {
                *value = f32::from_le_bytes([0, 0, low, high]);
            }
        }
        DType::F8E4M3 => {
            for (byte, value) in bytes.iter().zip(values) {
                *value = E4M3[usize::from(*byte)];
            }
        }
        DType::Other(_) => {}
        _ => {
            let block = dtype.block();
            for (bytes, values) in bytes.chunks_exact(block.bytes).zip(values.chunks_exact_mut(block.elements)) {
                blocks(dtype, bytes, values);
            }
        }
    }
}

/// Converts through a small buffer: the bytes need not be aligned, and `half` converts slices with the processor's own
/// instruction if it exists.
fn halves(bytes: &[u8], values: &mut [f32]) {
    let mut buffer = [f16::ZERO; 1024];
    for (bytes, values) in bytes.chunks(2 * buffer.len()).zip(values.chunks_mut(buffer.len())) {
        let buffer = &mut buffer[..values.len()];
        for (half, bytes) in buffer.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        buffer.convert_to_f32_slice(values);
    }
}

/// Converts quantised blocks.
fn blocks(dtype: DType, bytes: &[u8], values: &mut [f32]) {
    let (mut numbers, mut scale, mut minimum) = ([0; MOST], [0; 1], [0; 1]);
    let (mut sub_scales, mut sub_minima) = ([1; MOST / 16], [1; MOST / 16]);
    let mut planes = Planes {
        numbers: &mut numbers,
        scales: &mut scale,
        minima: &mut minimum,
        sub_scales: &mut sub_scales,
        sub_minima: &mut sub_minima,
    };
    unpack(dtype, bytes, &mut planes);
    let [scale, minimum] = [scale, minimum].map(|[bits]| f16::from_bits(bits).to_f32());
    let has_minimum = matches!(dtype, DType::Q4_1 | DType::Q5_1 | DType::Q2K | DType::Q4K | DType::Q5K);
    let has_levels = matches!(dtype, DType::Iq4Nl | DType::Iq4Xs);
    let group = dtype.group();
    for (i, (values, numbers)) in values.chunks_mut(group).zip(numbers.chunks(group)).enumerate() {
        let scale = scale * f32::from(sub_scales[i]);
        for (value, &number) in values.iter_mut().zip(numbers) {
            *value = match (has_minimum, has_levels) {
                (true, _) => scale * f32::from(number) + minimum * f32::from(sub_minima[i]),
                (_, true) => scale * IQ4_LEVELS[usize::from(number)],
                _ => scale * (f32::from(number) - zero(dtype)),
            };
        }
    }
}
