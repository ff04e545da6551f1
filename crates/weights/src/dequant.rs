//! Stored bytes to `f32`, in exactly the arithmetic of GGML's reference (`ggml-quants.c`, and `quants.py` of the Python
//! package `gguf`, which the tests compare with bit by bit).
//!
//! Layouts, in bytes, of the blocks of 32: a scale `d` and, for the `_1` types, a minimum `m`, both `F16`; for five bits,
//! 32 high bits; then the low bits, where byte `i` holds element `i` below and element `i + 16` above.

mod k;

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::DType;

/// Elements of the small blocks (GGML's `QK4_0` and its like).
const SMALL: usize = 32;

/// Fills `values` from `bytes`; `false` if `dtype` has no `f32` form. Both must be the same whole number of blocks long.
pub(crate) fn dequantize(dtype: DType, bytes: &[u8], values: &mut [f32]) -> bool {
    match dtype {
        DType::F32 => {
            each(bytes, values, |bytes: &[u8; 4], value: &mut [f32; 1]| value[0] = f32::from_le_bytes(*bytes))
        }
        DType::F16 => halves(bytes, values),
        DType::BF16 => each(bytes, values, |&[low, high]: &[u8; 2], value: &mut [f32; 1]| {
            value[0] = f32::from_le_bytes([0, 0, low, high]);
        }),
        DType::Q4_0 => each(bytes, values, q4_0),
        DType::Q4_1 => each(bytes, values, q4_1),
        DType::Q5_0 => each(bytes, values, q5_0),
        DType::Q5_1 => each(bytes, values, q5_1),
        DType::Q8_0 => each(bytes, values, q8_0),
        DType::Q4K => each(bytes, values, k::q4_k),
        DType::Q5K => each(bytes, values, k::q5_k),
        DType::Q6K => each(bytes, values, k::q6_k),
        DType::Other(_) => return false,
    }
    true
}

/// Runs `block` on every pair of an input and an output block. Fixed lengths let the compiler drop the bounds checks.
fn each<const B: usize, const E: usize>(bytes: &[u8], values: &mut [f32], block: impl Fn(&[u8; B], &mut [f32; E])) {
    for (bytes, values) in bytes.as_chunks::<B>().0.iter().zip(values.as_chunks_mut::<E>().0) {
        block(bytes, values);
    }
}

/// Through a small buffer, since the bytes needn't be aligned and `half` converts slices with the processor's own
/// instruction where there is one.
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

fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

fn q4_0(bytes: &[u8; 18], values: &mut [f32; SMALL]) {
    let d = f16_at(bytes, 0);
    for i in 0..SMALL / 2 {
        let byte = bytes[2 + i];
        values[i] = d * (f32::from(byte & 0x0f) - 8.0);
        values[i + 16] = d * (f32::from(byte >> 4) - 8.0);
    }
}

fn q4_1(bytes: &[u8; 20], values: &mut [f32; SMALL]) {
    let (d, m) = (f16_at(bytes, 0), f16_at(bytes, 2));
    for i in 0..SMALL / 2 {
        let byte = bytes[4 + i];
        values[i] = d * f32::from(byte & 0x0f) + m;
        values[i + 16] = d * f32::from(byte >> 4) + m;
    }
}

/// The 32 five-bit numbers whose high bits start at `high` and whose low bits follow.
fn five_bits(bytes: &[u8], high: usize) -> [u8; SMALL] {
    let mut numbers = [0; SMALL];
    for i in 0..SMALL / 2 {
        let byte = bytes[high + 4 + i];
        let bit = |element: usize| bytes[high + element / 8] >> (element % 8) & 1;
        numbers[i] = byte & 0x0f | bit(i) << 4;
        numbers[i + 16] = byte >> 4 | bit(i + 16) << 4;
    }
    numbers
}

fn q5_0(bytes: &[u8; 22], values: &mut [f32; SMALL]) {
    let d = f16_at(bytes, 0);
    for (value, number) in values.iter_mut().zip(five_bits(bytes, 2)) {
        *value = d * (f32::from(number) - 16.0);
    }
}

fn q5_1(bytes: &[u8; 24], values: &mut [f32; SMALL]) {
    let (d, m) = (f16_at(bytes, 0), f16_at(bytes, 2));
    for (value, number) in values.iter_mut().zip(five_bits(bytes, 4)) {
        *value = d * f32::from(number) + m;
    }
}

fn q8_0(bytes: &[u8; 34], values: &mut [f32; SMALL]) {
    let d = f16_at(bytes, 0);
    for (value, byte) in values.iter_mut().zip(&bytes[2..]) {
        *value = f32::from(byte.cast_signed()) * d;
    }
}
