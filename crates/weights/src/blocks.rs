//! Unpacks quantised blocks into numbers and the scales that they share.
//!
//! Layout, in bytes, of the blocks of 32: a scale `d` and, for the `_1` types, a minimum `m`, both `F16`; for five
//! bits, 32 high bits; then the low bits, where byte `i` holds element `i` in its lower half and element `i + 16` in
//! its upper half. The super-blocks of 256 are `block_q4_K` and similar types in `ggml-common.h`.

use crate::DType;

/// The parts of consecutive quantised blocks, to be filled in. A weight is `scale · (number − zero)`, or `scale ·
/// number + minimum`; in the `IQ4` types it is `scale · level`, and the number is the level's index in [`IQ4_LEVELS`]. A
/// part that the type does not have is empty.
#[derive(Debug)]
pub struct Planes<'a> {
    /// One unsigned number per weight. Zero is 4 in `Q3_K`, 8 in `Q4_0`, 16 in `Q5_0`, 32 in `Q6_K`, 128 in `Q8_0`.
    pub numbers: &'a mut [u8],
    /// One half-precision scale (its bits) per block.
    pub scales: &'a mut [u16],
    /// One half-precision minimum (its bits) per block. In the K types it is minus GGML's `dmin`.
    pub minima: &'a mut [u16],
    /// In the K types and `IQ4_XS`, the factors of the scale, one per group of 32 (of 16 in `Q2_K`, `Q3_K` and `Q6_K`).
    pub sub_scales: &'a mut [i8],
    /// In the K types, the factors of the minimum, one per group.
    pub sub_minima: &'a mut [i8],
}

/// The levels of the `IQ4` types: `kvalues_iq4nl` in `ggml-common.h`.
pub const IQ4_LEVELS: [f32; 16] =
    [-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0];

/// Unpacks the blocks of a quantised type. Returns `false` if `dtype` is not quantised.
///
/// # Panics
/// When the parts are too short.
pub fn unpack(dtype: DType, bytes: &[u8], to: &mut Planes<'_>) -> bool {
    match dtype {
        DType::Q4_0 | DType::Iq4Nl => small(bytes, to, |bytes: &[u8; 18]| (at(bytes, 0), None, four_bits(bytes, 2))),
        DType::Q4_1 => small(bytes, to, |bytes: &[u8; 20]| (at(bytes, 0), Some(at(bytes, 2)), four_bits(bytes, 4))),
        DType::Q5_0 => small(bytes, to, |bytes: &[u8; 22]| (at(bytes, 0), None, five_bits(bytes, 2))),
        DType::Q5_1 => small(bytes, to, |bytes: &[u8; 24]| (at(bytes, 0), Some(at(bytes, 2)), five_bits(bytes, 4))),
        DType::Q8_0 => small(bytes, to, |bytes: &[u8; 34]| {
            (at(bytes, 0), None, std::array::from_fn(|i| bytes[2 + i].wrapping_add(128)))
        }),
        DType::Q4K => large(bytes, to, |bytes: &[u8; 144], group, i| {
            let byte = bytes[16 + group / 2 * 32 + i];
            if group % 2 == 0 { byte & 0x0f } else { byte >> 4 }
        }),
        DType::Q5K => large(bytes, to, |bytes: &[u8; 176], group, i| {
            let byte = bytes[48 + group / 2 * 32 + i];
            let low = if group % 2 == 0 { byte & 0x0f } else { byte >> 4 };
            low | (bytes[16 + i] >> group & 1) << 4
        }),
        DType::Q2K => q2_k(bytes, to),
        DType::Q3K => q3_k(bytes, to),
        DType::Q6K => q6_k(bytes, to),
        DType::Iq4Xs => iq4_xs(bytes, to),
        DType::F32 | DType::F16 | DType::BF16 | DType::F8E4M3 | DType::Other(_) => return false,
    }
    true
}

/// The index of the first block whose scale or minimum is not finite.
pub(crate) fn broken(dtype: DType, bytes: &[u8]) -> Option<usize> {
    let scales: &[usize] = match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::Iq4Nl | DType::Iq4Xs => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K => &[0, 2],
        DType::Q2K => &[80, 82],
        DType::Q3K => &[108],
        DType::Q6K => &[208],
        DType::F32 | DType::F16 | DType::BF16 | DType::F8E4M3 | DType::Other(_) => return None,
    };
    // A half with all exponent bits set is infinite or NaN.
    let is_finite = |half: u16| half & 0x7c00 != 0x7c00;
    let is_broken = |block: &[u8]| scales.iter().any(|&scale| !is_finite(at(block, scale)));
    bytes.chunks_exact(dtype.block().bytes).position(is_broken)
}

/// The number that means zero, for a type without minima.
pub(crate) fn zero(dtype: DType) -> f32 {
    match dtype {
        DType::Q3K => 4.0,
        DType::Q4_0 => 8.0,
        DType::Q5_0 => 16.0,
        DType::Q6K => 32.0,
        DType::Q8_0 => 128.0,
        _ => 0.0,
    }
}

fn at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// A block's scale, minimum and numbers.
type Small = (u16, Option<u16>, [u8; 32]);

/// With fixed lengths the compiler can remove the bounds checks.
fn small<const B: usize>(bytes: &[u8], to: &mut Planes<'_>, block: impl Fn(&[u8; B]) -> Small) {
    for (i, (bytes, numbers)) in bytes.as_chunks().0.iter().zip(to.numbers.as_chunks_mut().0).enumerate() {
        let (scale, minimum, found) = block(bytes);
        *numbers = found;
        to.scales[i] = scale;
        if let Some(minimum) = minimum {
            to.minima[i] = minimum;
        }
    }
}

fn four_bits(bytes: &[u8], start: usize) -> [u8; 32] {
    let byte = |i: usize| bytes[start + i % 16];
    std::array::from_fn(|i| if i < 16 { byte(i) & 0x0f } else { byte(i) >> 4 })
}

/// The 32 five-bit numbers whose high bits start at `start` and whose low bits follow.
fn five_bits(bytes: &[u8], start: usize) -> [u8; 32] {
    let low = four_bits(bytes, start + 4);
    std::array::from_fn(|i| low[i] | (bytes[start + i / 8] >> (i % 8) & 1) << 4)
}

/// `d`, `dmin`, 12 bytes of scales, then `number(bytes, group, element)` of eight groups of 32.
///
/// In `Q4_K`, 128 bytes follow. In each 32 of them, the lower halves are 32 elements and the upper halves the next 32.
/// `Q5_K` has 32 bytes of fifth bits before them: bit `group` of byte `i` belongs to element `i` of its group.
fn large<const B: usize>(bytes: &[u8], to: &mut Planes<'_>, number: impl Fn(&[u8; B], usize, usize) -> u8) {
    for (i, (bytes, numbers)) in bytes.as_chunks().0.iter().zip(to.numbers.as_chunks_mut::<256>().0).enumerate() {
        to.scales[i] = at(bytes, 0);
        to.minima[i] = at(bytes, 2) ^ 0x8000;
        for (group, numbers) in numbers.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (scale, minimum) = scale_and_minimum(&bytes[4..16], group);
            to.sub_scales[8 * i + group] = scale.cast_signed();
            to.sub_minima[8 * i + group] = minimum.cast_signed();
            for (element, to) in numbers.iter_mut().enumerate() {
                *to = number(bytes, group, element);
            }
        }
    }
}

/// The two six-bit numbers of a group (`get_scale_min_k4` in `ggml-quants.c`). The first four groups use the lower six
/// bits of bytes 0–3 and 4–7. The others have four bits in bytes 8–11 and the other two in the upper bits of bytes 0–3
/// and 4–7.
fn scale_and_minimum(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        return (packed[group] & 0x3f, packed[group + 4] & 0x3f);
    }
    let (low, scale_top, minimum_top) = (packed[group + 4], packed[group - 4] >> 6, packed[group] >> 6);
    (low & 0x0f | scale_top << 4, low >> 4 | minimum_top << 4)
}

/// 128 bytes of low bits, 64 of high bits, 16 signed scales, then `d`. A half of the block (128 elements) is four
/// groups of 32. Groups 0 and 2 share a byte of low bits, groups 1 and 3 share another, and all four share a byte of
/// high bits.
fn q6_k(bytes: &[u8], to: &mut Planes<'_>) {
    let blocks = bytes.as_chunks::<210>().0.iter().zip(to.numbers.as_chunks_mut::<256>().0);
    for (i, (bytes, numbers)) in blocks.enumerate() {
        to.scales[i] = at(bytes, 208);
        for (run, numbers) in numbers.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let (half, group, first) = (run / 8, run / 2 % 4, run % 2 * 16);
            to.sub_scales[16 * i + run] = bytes[192 + run].cast_signed();
            let lows = &bytes[half * 64 + group % 2 * 32 + first..][..16];
            let highs = &bytes[128 + half * 32 + first..][..16];
            for ((number, low), high) in numbers.iter_mut().zip(lows).zip(highs) {
                *number = low >> (group / 2 * 4) & 0x0f | (high >> (group * 2) & 0x03) << 4;
            }
        }
    }
}

/// 16 bytes, each a four-bit scale and above it a four-bit minimum; 64 bytes of numbers; `d`, `dmin`.
fn q2_k(bytes: &[u8], to: &mut Planes<'_>) {
    let blocks = bytes.as_chunks::<84>().0.iter().zip(to.numbers.as_chunks_mut::<256>().0);
    for (i, (bytes, numbers)) in blocks.enumerate() {
        to.scales[i] = at(bytes, 80);
        to.minima[i] = at(bytes, 82) ^ 0x8000;
        for (run, numbers) in numbers.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            to.sub_scales[16 * i + run] = (bytes[run] & 0x0f).cast_signed();
            to.sub_minima[16 * i + run] = (bytes[run] >> 4).cast_signed();
            two_bits(&bytes[16..80], run, numbers);
        }
    }
}

/// 32 bytes of third bits, 64 of the lower two, 12 of scales, then `d`. Bit `n` of byte `i` of the third bits belongs to
/// element `i` of the group `n` of 32.
///
/// Of the sixteen scales, the lower four bits are in eight bytes (the first eight scales in the lower halves) and the
/// upper two in the other four bytes, where scale `n` has byte `n % 4`. Zero is 32.
fn q3_k(bytes: &[u8], to: &mut Planes<'_>) {
    let blocks = bytes.as_chunks::<110>().0.iter().zip(to.numbers.as_chunks_mut::<256>().0);
    for (i, (bytes, numbers)) in blocks.enumerate() {
        to.scales[i] = at(bytes, 108);
        for (run, numbers) in numbers.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let low = bytes[96 + run % 8] >> (run / 8 * 4) & 0x0f;
            let high = bytes[104 + run % 4] >> (run / 4 * 2) & 0x03;
            to.sub_scales[16 * i + run] = (low | high << 4).cast_signed() - 32;
            two_bits(&bytes[32..96], run, numbers);
            for (number, thirds) in numbers.iter_mut().zip(&bytes[run % 2 * 16..]) {
                *number |= (thirds >> (run / 2) & 1) << 2;
            }
        }
    }
}

/// The sixteen two-bit numbers of a run. Each half of a super-block has 32 bytes, and byte `i` of them holds the
/// elements `i`, `i + 32`, `i + 64` and `i + 96`.
fn two_bits(bytes: &[u8], run: usize, to: &mut [u8; 16]) {
    let (half, group, first) = (run / 8, run / 2 % 4, run % 2 * 16);
    for (number, byte) in to.iter_mut().zip(&bytes[half * 32 + first..]) {
        *number = byte >> (group * 2) & 0x03;
    }
}

/// `d`; 16 bits with the upper two of each group's scale; four bytes with the lower four, where the first group of two
/// has the lower half; then eight groups as in `Q4_0`. Zero of the scales is 32.
fn iq4_xs(bytes: &[u8], to: &mut Planes<'_>) {
    let blocks = bytes.as_chunks::<136>().0.iter().zip(to.numbers.as_chunks_mut::<256>().0);
    for (i, (bytes, numbers)) in blocks.enumerate() {
        to.scales[i] = at(bytes, 0);
        let highs = at(bytes, 2);
        for (group, numbers) in numbers.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let low = bytes[4 + group / 2] >> (group % 2 * 4) & 0x0f;
            let high = (highs >> (2 * group) & 0x03) as u8;
            to.sub_scales[8 * i + group] = (low | high << 4).cast_signed() - 32;
            *numbers = four_bits(bytes, 8 + 16 * group);
        }
    }
}
