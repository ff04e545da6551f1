//! The K-quants: super-blocks of 256 with quantised scales (`block_q4_K` and its like in `ggml-common.h`).

use super::f16_at;

const SUPER: usize = 256;

/// `d`, `dmin`, 12 bytes of scales, then 128 bytes: of each 32 bytes, the low halves are 32 elements, the high ones the next 32.
pub(super) fn q4_k(bytes: &[u8; 144], values: &mut [f32; SUPER]) {
    scaled_groups(bytes, values, |group, i| {
        let byte = bytes[16 + group / 2 * 32 + i];
        if group % 2 == 0 { byte & 0x0f } else { byte >> 4 }
    });
}

/// As [`q4_k`], with 32 bytes of fifth bits before the low ones: bit `group` of byte `i` belongs to element `i` of its group.
pub(super) fn q5_k(bytes: &[u8; 176], values: &mut [f32; SUPER]) {
    scaled_groups(bytes, values, |group, i| {
        let byte = bytes[48 + group / 2 * 32 + i];
        let low = if group % 2 == 0 { byte & 0x0f } else { byte >> 4 };
        low | (bytes[16 + i] >> group & 1) << 4
    });
}

/// 128 bytes of low bits, 64 of high bits, 16 signed scales, then `d`. A half of the block (128 elements) is four groups
/// of 32: groups 0 and 2 share a byte of low bits, groups 1 and 3 another, and all four one byte of high bits.
pub(super) fn q6_k(bytes: &[u8; 210], values: &mut [f32; SUPER]) {
    let d = f16_at(bytes, 208);
    for (at, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (half, group, first) = (at / 8, at / 2 % 4, at % 2 * 16);
        let lows = &bytes[half * 64 + group % 2 * 32 + first..][..16];
        let highs = &bytes[128 + half * 32 + first..][..16];
        let scale = d * f32::from(bytes[192 + at].cast_signed());
        for ((value, low), high) in values.iter_mut().zip(lows).zip(highs) {
            let (low, high) = (low >> (group / 2 * 4) & 0x0f, high >> (group * 2) & 0x03);
            *value = scale * (f32::from(low | high << 4) - 32.0);
        }
    }
}

/// Eight groups of 32 elements: `(d · scale) · number − (dmin · minimum)`.
fn scaled_groups(bytes: &[u8], values: &mut [f32; SUPER], number: impl Fn(usize, usize) -> u8) {
    let (d, dmin) = (f16_at(bytes, 0), f16_at(bytes, 2));
    for (group, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, minimum) = scale_and_minimum(&bytes[4..16], group);
        let (scale, minimum) = (d * f32::from(scale), dmin * f32::from(minimum));
        for (i, value) in values.iter_mut().enumerate() {
            *value = scale * f32::from(number(group, i)) - minimum;
        }
    }
}

/// The two six-bit numbers of a group (`get_scale_min_k4` in `ggml-quants.c`). The first four groups use the low six bits
/// of bytes 0–3 and 4–7; the others have four bits in bytes 8–11 and two on top of those same bytes.
fn scale_and_minimum(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        return (packed[group] & 0x3f, packed[group + 4] & 0x3f);
    }
    let (low, scale_top, minimum_top) = (packed[group + 4], packed[group - 4] >> 6, packed[group] >> 6);
    (low & 0x0f | scale_top << 4, low >> 4 | minimum_top << 4)
}
