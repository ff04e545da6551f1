//! Quantises rows of `f32` to the bytes of GGML's types.
//!
//! The scales are those with the least squared error among several candidates, those of GGML's reference
//! (`ggml-quants.c`) or near ones included. The error is that of the numbers that
//! [`Weights::load_f32`](crate::Weights::load_f32) gives back: scales are rounded before they are compared.

mod large;
mod pack;
mod six;
mod small;

use std::num::NonZero;
use std::thread;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::DType;
use crate::blocks::Planes;
use crate::quantize::largest;

/// Values cannot be encoded.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The type can be read but not made.
    #[error("{dtype} cannot be made: take F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K")]
    Type {
        /// The type.
        dtype: DType,
    },
    /// A row is not a whole number of blocks, or the values are not a whole number of rows.
    #[error("{values} values in rows of {row} are not whole rows of blocks of {block}")]
    Row {
        /// The number of values.
        values: usize,
        /// The number of values in a row.
        row: usize,
        /// The number of values in a block.
        block: usize,
    },
    /// A value is infinite or not a number, or its block's scale becomes infinite in the type.
    #[error("value {index} is {value}, which has no finite form in this type")]
    Value {
        /// The index of the first such value, from 0.
        index: usize,
        /// The value.
        value: f32,
    },
}

impl DType {
    /// Whether [`encode`](Self::encode) makes this type.
    pub fn is_encodable(self) -> bool {
        limits(self).is_some()
    }

    /// The bytes of `values` in this type; rows have `row` values each.
    ///
    /// Quantised types get the scales with the least squared error among several candidates. All cores work, and the
    /// bytes do not depend on their number.
    ///
    /// ```
    /// use foehn_weights::DType;
    ///
    /// let values: Vec<f32> = (0..512).map(|i| (i as f32).sin()).collect();
    /// assert_eq!(DType::Q4K.encode(&values, 256)?.len(), 2 * 144);
    /// # Ok::<(), foehn_weights::EncodeError>(())
    /// ```
    ///
    /// # Errors
    /// When the type cannot be made, a row is not a whole number of blocks, or a value is not finite or too large for the
    /// type's half-precision scales.
    pub fn encode(self, values: &[f32], row: usize) -> Result<Vec<u8>, EncodeError> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        encode_with(self, values, row, threads)
    }
}

/// The smallest number of values for which starting a thread is worth its time.
const SHARE: usize = 1 << 14;

/// The largest finite half-precision number.
const HALF: f32 = 65_504.0;

/// Below or at this magnitude, zero is the nearest multiple of the smallest half-precision number.
const NOTHING: f32 = 1.0 / (1 << 25) as f32;

/// The smallest and the largest value that surely has a finite form: for quantised types, that which makes the scale, or
/// the minimum, the largest half-precision number. `None` for a type that cannot be made.
fn limits(dtype: DType) -> Option<(f32, f32)> {
    let (below, above) = match dtype {
        DType::F32 => (f32::MAX, f32::MAX),
        // From the middle between the largest finite number and the next power of two, numbers become infinite.
        DType::F16 => (65_520.0f32.next_down(), 65_520.0f32.next_down()),
        DType::BF16 => (f32::from_bits(0x7f7f_7fff), f32::from_bits(0x7f7f_7fff)),
        DType::Q4_0 => (7.0 * HALF, 7.0 * HALF),
        DType::Q5_0 => (15.0 * HALF, 15.0 * HALF),
        DType::Q8_0 => (127.0 * HALF, 127.0 * HALF),
        DType::Q6K => (31.0 * 127.0 * HALF, 31.0 * 127.0 * HALF),
        // The minimum is that of the values or zero, and numbers end at 15 or 31.
        DType::Q4_1 => (HALF, 14.0 * HALF),
        DType::Q5_1 => (HALF, 30.0 * HALF),
        DType::Q4K => (63.0 * HALF, 14.0 * 63.0 * HALF),
        DType::Q5K => (63.0 * HALF, 30.0 * 63.0 * HALF),
        _ => return None,
    };
    Some((-below, above))
}

fn encode_with(dtype: DType, values: &[f32], row: usize, threads: usize) -> Result<Vec<u8>, EncodeError> {
    let (low, high) = limits(dtype).ok_or(EncodeError::Type { dtype })?;
    let block = dtype.block();
    if !row.is_multiple_of(block.elements) || !values.len().is_multiple_of(row) {
        return Err(EncodeError::Row { values: values.len(), row, block: block.elements });
    }
    if let Some(index) = values.iter().position(|value| !(low..=high).contains(value)) {
        return Err(EncodeError::Value { index, value: values[index] });
    }
    let mut bytes = vec![0; values.len() / block.elements * block.bytes];
    let threads = threads.min(values.len() / SHARE).max(1);
    // Blocks do not depend on each other, so that a single long row is shared as well.
    let share = (values.len() / block.elements).div_ceil(threads).max(1);
    let mut parts = values.chunks(share * block.elements).zip(bytes.chunks_mut(share * block.bytes));
    let own = parts.next();
    thread::scope(|scope| {
        for (values, bytes) in parts {
            scope.spawn(move || fill(dtype, values, bytes));
        }
        if let Some((values, bytes)) = own {
            fill(dtype, values, bytes);
        }
    });
    Ok(bytes)
}

/// Fills `bytes` from `values`; both are the same whole number of blocks.
fn fill(dtype: DType, values: &[f32], bytes: &mut [u8]) {
    match dtype {
        DType::F32 => {
            for (bytes, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                *bytes = value.to_le_bytes();
            }
        }
        DType::F16 => halves(values, bytes, f16::ZERO, f16::to_le_bytes),
        DType::BF16 => halves(values, bytes, bf16::ZERO, bf16::to_le_bytes),
        _ => blocks(dtype, values, bytes),
    }
}

/// Converts through a small buffer: `half` converts slices with the processor's own instruction if it exists.
fn halves<H: Copy>(values: &[f32], bytes: &mut [u8], zero: H, to_bytes: impl Fn(H) -> [u8; 2])
where
    [H]: HalfFloatSliceExt,
{
    let mut buffer = [zero; 1024];
    for (values, bytes) in values.chunks(buffer.len()).zip(bytes.chunks_mut(2 * buffer.len())) {
        let buffer = &mut buffer[..values.len()];
        buffer.convert_from_f32_slice(values);
        for (bytes, half) in bytes.as_chunks_mut().0.iter_mut().zip(buffer) {
            *bytes = to_bytes(*half);
        }
    }
}

fn blocks(dtype: DType, values: &[f32], bytes: &mut [u8]) {
    let (mut numbers, mut scale, mut minimum) = ([0; 256], [0; 1], [0; 1]);
    let (mut sub_scales, mut sub_minima) = ([0; 16], [0; 16]);
    let mut planes = Planes {
        numbers: &mut numbers,
        scales: &mut scale,
        minima: &mut minimum,
        sub_scales: &mut sub_scales,
        sub_minima: &mut sub_minima,
    };
    let block = dtype.block();
    for (values, bytes) in values.chunks_exact(block.elements).zip(bytes.chunks_exact_mut(block.bytes)) {
        if largest(values) <= NOTHING {
            zero(dtype, &mut planes);
        } else {
            quantize(dtype, values, &mut planes);
        }
        pack::pack(dtype, &planes, bytes);
    }
}

/// A block of zeros.
fn zero(dtype: DType, to: &mut Planes<'_>) {
    to.numbers.fill(crate::blocks::zero(dtype) as u8);
    to.scales.fill(0);
    to.minima.fill(if matches!(dtype, DType::Q4K | DType::Q5K) { 0x8000 } else { 0 });
    to.sub_scales.fill(0);
    to.sub_minima.fill(0);
}

/// Quantises a block, one of whose values is not near zero.
fn quantize(dtype: DType, values: &[f32], to: &mut Planes<'_>) {
    if let Ok(values) = <&[f32; 32]>::try_from(values) {
        match dtype {
            DType::Q4_0 => small::scaled(values, &small::FOUR, to),
            DType::Q5_0 => small::scaled(values, &small::FIVE, to),
            DType::Q8_0 => small::scaled(values, &small::EIGHT, to),
            DType::Q4_1 => small::shifted(values, 15.0, to),
            _ => small::shifted(values, 31.0, to),
        }
    } else if let Ok(values) = <&[f32; 256]>::try_from(values) {
        match dtype {
            DType::Q4K => large::quantize(values, &large::FOUR, to),
            DType::Q5K => large::quantize(values, &large::FIVE, to),
            _ => six::quantize(values, to),
        }
    }
}

/// The half-precision number nearest to a positive value, but never zero: a scale of zero loses the whole block.
fn scale(value: f32) -> (u16, f32) {
    crate::quantize::half(value.max(2.0 * NOTHING))
}

/// The smallest and the largest value.
fn range(values: &[f32; 32]) -> (f32, f32) {
    values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &value| {
        (if value < low { value } else { low }, if value > high { value } else { high })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_threads_does_not_show() {
        // More than a share for each of three threads, in blocks that do not divide by three.
        let values: Vec<f32> =
            (0..(4 * SHARE + 256)).map(|i| (i as f32 * 0.7).sin() * (i as f32 * 0.01).cos()).collect();
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_1, DType::Q4K, DType::Q6K] {
            let [one, two, three] = [1, 2, 3].map(|threads| encode_with(dtype, &values, values.len(), threads));
            assert!(one.is_ok() && one == two && one == three, "{dtype}");
        }
    }
}
