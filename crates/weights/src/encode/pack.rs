//! Packs numbers and scales into the bytes of a block: the inverse of [`unpack`](crate::unpack), where the layouts are
//! described.

use crate::DType;
use crate::blocks::Planes;

/// Writes one block. Nothing is written for a type that is not quantised, or that cannot be made.
pub(super) fn pack(dtype: DType, from: &Planes<'_>, bytes: &mut [u8]) {
    let (scale, minimum) = (from.scales[0].to_le_bytes(), from.minima.first().copied().unwrap_or(0));
    let numbers = &*from.numbers;
    match dtype {
        DType::Q4_0 => {
            bytes[..2].copy_from_slice(&scale);
            four_bits(numbers, &mut bytes[2..]);
        }
        DType::Q4_1 => {
            bytes[..2].copy_from_slice(&scale);
            bytes[2..4].copy_from_slice(&minimum.to_le_bytes());
            four_bits(numbers, &mut bytes[4..]);
        }
        DType::Q5_0 => {
            bytes[..2].copy_from_slice(&scale);
            five_bits(numbers, &mut bytes[2..]);
        }
        DType::Q5_1 => {
            bytes[..2].copy_from_slice(&scale);
            bytes[2..4].copy_from_slice(&minimum.to_le_bytes());
            five_bits(numbers, &mut bytes[4..]);
        }
        DType::Q8_0 => {
            bytes[..2].copy_from_slice(&scale);
            for (byte, number) in bytes[2..].iter_mut().zip(numbers) {
                *byte = number.wrapping_sub(128);
            }
        }
        DType::Q4K | DType::Q5K => {
            bytes[..2].copy_from_slice(&scale);
            bytes[2..4].copy_from_slice(&(minimum ^ 0x8000).to_le_bytes());
            sub_scales(from, &mut bytes[4..16]);
            large(numbers, if dtype == DType::Q5K { Some(32) } else { None }, &mut bytes[16..]);
        }
        DType::Q6K => {
            bytes[208..].copy_from_slice(&scale);
            for (byte, sub_scale) in bytes[192..208].iter_mut().zip(&*from.sub_scales) {
                *byte = sub_scale.cast_unsigned();
            }
            six_bits(numbers, &mut bytes[..192]);
        }
        _ => {}
    }
}

/// The lower four bits of 32 numbers.
fn four_bits(numbers: &[u8], bytes: &mut [u8]) {
    for (i, byte) in bytes[..16].iter_mut().enumerate() {
        *byte = numbers[i] & 0x0f | numbers[i + 16] << 4;
    }
}

/// The fifth bits of 32 numbers, then the lower four.
fn five_bits(numbers: &[u8], bytes: &mut [u8]) {
    let (high, low) = bytes.split_at_mut(4);
    for (byte, numbers) in high.iter_mut().zip(numbers.as_chunks::<8>().0) {
        *byte = numbers.iter().rev().fold(0, |bits, number| bits << 1 | number >> 4 & 1);
    }
    four_bits(numbers, low);
}

/// Eight scales and eight minima of six bits.
fn sub_scales(from: &Planes<'_>, bytes: &mut [u8]) {
    for group in 0..4 {
        let [scale, late_scale] = [from.sub_scales[group], from.sub_scales[group + 4]].map(i8::cast_unsigned);
        let [minimum, late_minimum] = [from.sub_minima[group], from.sub_minima[group + 4]].map(i8::cast_unsigned);
        bytes[group] = scale & 0x3f | late_scale >> 4 << 6;
        bytes[group + 4] = minimum & 0x3f | late_minimum >> 4 << 6;
        bytes[group + 8] = late_scale & 0x0f | late_minimum << 4;
    }
}

/// The numbers of a super-block of four or five bits; the fifth bits, if any, have the first `high` bytes.
fn large(numbers: &[u8], high: Option<usize>, bytes: &mut [u8]) {
    let (high, low) = bytes.split_at_mut(high.unwrap_or(0));
    for (pair, bytes) in numbers.as_chunks::<64>().0.iter().zip(low.as_chunks_mut::<32>().0) {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = pair[i] & 0x0f | pair[i + 32] << 4;
        }
    }
    for (i, byte) in high.iter_mut().enumerate() {
        *byte = (0..8).fold(0, |bits, group| bits | (numbers[32 * group + i] >> 4 & 1) << group);
    }
}

/// The lower four bits, then the upper two, of a super-block of six bits.
fn six_bits(numbers: &[u8], bytes: &mut [u8]) {
    let (lows, highs) = bytes.split_at_mut(128);
    for (half, numbers) in numbers.as_chunks::<128>().0.iter().enumerate() {
        for i in 0..32 {
            let [a, b, c, d] = [0, 1, 2, 3].map(|group| numbers[32 * group + i]);
            lows[64 * half + i] = a & 0x0f | c << 4;
            lows[64 * half + 32 + i] = b & 0x0f | d << 4;
            highs[32 * half + i] = a >> 4 & 3 | (b >> 4 & 3) << 2 | (c >> 4 & 3) << 4 | (d >> 4 & 3) << 6;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::unpack;

    const TYPES: [DType; 8] =
        [DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1, DType::Q8_0, DType::Q4K, DType::Q5K, DType::Q6K];

    proptest! {
        /// Every bit of a block is a bit of one part, so this is also `unpack(pack(parts)) == parts` for all parts.
        #[test]
        fn packing_is_the_inverse_of_unpacking(kind in 0..TYPES.len(), found in any::<[u8; 32]>(), seed in any::<u8>()) {
            let dtype = TYPES[kind];
            let bytes: Vec<u8> = (0..dtype.block_bytes())
                .map(|i| found[i % 32].wrapping_mul(2 * (i / 32) as u8 + 1) ^ seed.rotate_left(i as u32 / 32))
                .collect();
            let (mut numbers, mut scales, mut minima) = ([0; 256], [0; 1], [0; 1]);
            let (mut sub_scales, mut sub_minima) = ([0; 16], [0; 16]);
            let mut planes = Planes {
                numbers: &mut numbers,
                scales: &mut scales,
                minima: &mut minima,
                sub_scales: &mut sub_scales,
                sub_minima: &mut sub_minima,
            };
            prop_assert!(unpack(dtype, &bytes, &mut planes));
            let mut packed = vec![0; bytes.len()];
            pack(dtype, &planes, &mut packed);
            prop_assert_eq!(packed, bytes, "{}", dtype);
        }
    }
}
