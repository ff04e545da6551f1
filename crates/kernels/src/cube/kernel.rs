//! GPU kernels: they expand a quantised matrix, or multiply it while they expand it.

use burn_cubecl::cubecl::{self, prelude::*};

use crate::encoding::{Encoding, Numbers, Offset};

/// Four neighbouring elements of a row.
pub type Quad = Vector<f32, Const<4>>;
type Words = Vector<u32, Const<4>>;

/// Units that compute one output of [`multiply`] together: a power of two, and the size of a plane on most devices.
pub const LANES: usize = 32;
const STEPS: usize = LANES.ilog2() as usize;
/// Outputs per cube.
pub const OUTPUTS: usize = 4;
/// Elements that a unit expands at a time. They belong to one group.
const RUN: usize = 8;
const QUADS: usize = RUN / 4;

/// The positions of a matrix's parts; see [`Form`](super::words::Form).
#[derive(CubeType, CubeLaunch)]
pub struct Places {
    pub input: usize,
    pub upper: usize,
    pub halves: usize,
    pub bytes: usize,
}

/// Expands the matrix, row by row.
#[cube(launch)]
pub fn open(words: &[u32], weights: &mut [Quad], places: Places, #[comptime] encoding: Encoding) {
    let levels = levels(encoding);
    if ABSOLUTE_POS < weights.len() {
        let element = 4 * ABSOLUTE_POS;
        let (scale, minimum) = scale_and_minimum(words, &places, element, encoding);
        weights[ABSOLUTE_POS] = quad(words, &places, &levels, element, scale, minimum, encoding);
    }
}

/// Expands the given rows of the matrix.
#[cube(launch)]
pub fn open_rows(words: &[u32], rows: &[u32], weights: &mut [Quad], places: Places, #[comptime] encoding: Encoding) {
    let levels = levels(encoding);
    if ABSOLUTE_POS < weights.len() {
        let place = 4 * ABSOLUTE_POS;
        let row = rows[place / places.input] as usize;
        let element = row * places.input + place % places.input;
        let (scale, minimum) = scale_and_minimum(words, &places, element, encoding);
        weights[ABSOLUTE_POS] = quad(words, &places, &levels, element, scale, minimum, encoding);
    }
}

/// `y = x·Wᵀ` for a few rows `x`. The units of an output read its row of the matrix side by side, and each keeps a sum
/// for each row of `x`. Then the units' sums are added in a tree, so the order of additions is always the same.
#[cube(launch)]
pub fn multiply(
    x: &[Quad],
    words: &[u32],
    y: &mut [f32],
    places: Places,
    outs: usize,
    #[comptime] rows: usize,
    #[comptime] encoding: Encoding,
) {
    let levels = levels(encoding);
    let out = CUBE_POS * OUTPUTS + UNIT_POS_Y as usize;
    let lane = UNIT_POS_X as usize;
    let mut sums = Array::<Quad>::new(rows);
    if out < outs {
        let quads = places.input / 4;
        let mut at = lane * RUN;
        while at < places.input {
            let element = out * places.input + at;
            let (scale, minimum) = scale_and_minimum(words, &places, element, encoding);
            #[unroll]
            for part in 0..QUADS {
                let weights = quad(words, &places, &levels, element + 4 * part, scale, minimum, encoding);
                #[unroll]
                for row in 0..rows {
                    sums[row] += weights * x[row * quads + at / 4 + part];
                }
            }
            at += LANES * RUN;
        }
    }
    let mut shared = Shared::<[f32]>::new_slice(rows * OUTPUTS * LANES);
    let own = UNIT_POS as usize;
    #[unroll]
    for row in 0..rows {
        let sum = sums[row];
        shared[row * OUTPUTS * LANES + own] =
            (sum.extract(0usize) + sum.extract(1usize)) + (sum.extract(2usize) + sum.extract(3usize));
    }
    #[unroll]
    for step in 0..STEPS {
        let distance = comptime!(LANES >> (step + 1));
        sync_cube();
        if lane < distance {
            #[unroll]
            for row in 0..rows {
                let to = row * OUTPUTS * LANES + own;
                shared[to] += shared[to + distance];
            }
        }
    }
    sync_cube();
    if lane == 0 && out < outs {
        #[unroll]
        for row in 0..rows {
            y[row * outs + out] = shared[row * OUTPUTS * LANES + own];
        }
    }
}

/// Four weights of one group; the first is element `element` of the matrix.
#[cube]
fn quad(
    words: &[u32],
    places: &Places,
    levels: &Shared<[f32]>,
    element: usize,
    scale: f32,
    minimum: f32,
    #[comptime] encoding: Encoding,
) -> Quad {
    let numbers = numbers(words, places, element, encoding);
    let scale = Quad::new(scale);
    if comptime!(encoding.numbers() == Numbers::Levels) {
        let mut found = Quad::new(0.0);
        #[unroll]
        for i in 0..4usize {
            found.insert(i, levels[numbers.extract(i) as usize]);
        }
        found * scale
    } else {
        let numbers = Quad::cast_from(numbers);
        match comptime!(encoding.offset()) {
            Offset::Zero(zero) => scale * (numbers - Quad::new(comptime!(f32::from(zero)))),
            Offset::Minimum => scale * numbers + Quad::new(minimum),
        }
    }
}

/// The numbers of four weights.
#[cube]
fn numbers(words: &[u32], places: &Places, element: usize, #[comptime] encoding: Encoding) -> Words {
    let bits = comptime!(encoding.lower_bits());
    let lower = fields(words[element * bits / 32], element, bits);
    let more = comptime!(encoding.upper_bits());
    if comptime!(more > 0) {
        let upper = fields(words[places.upper + element * more / 32], element, more);
        lower | (upper << Words::new(comptime!(bits as u32)))
    } else {
        lower
    }
}

/// Four neighbouring bit fields of the given width; `first` is the index of the first one.
#[cube]
fn fields(word: u32, first: usize, #[comptime] bits: usize) -> Words {
    let word = word >> ((first * bits % 32) as u32);
    let mut found = Words::new(word);
    #[unroll]
    for i in 0..4usize {
        found.insert(i, word >> comptime!((i * bits) as u32));
    }
    found & Words::new(comptime!((1u32 << bits) - 1))
}

/// The scale and the offset of an element: a weight is `scale · number + offset`.
#[cube]
fn scale_and_minimum(words: &[u32], places: &Places, element: usize, #[comptime] encoding: Encoding) -> (f32, f32) {
    let super_block = if comptime!(encoding == Encoding::Nf4) {
        element / places.input
    } else {
        element / comptime!(encoding.divisor())
    };
    let at = super_block * comptime!(encoding.halves());
    let mut scale = half(words, places.halves, at);
    let mut minimum = f32::new(0.0);
    if comptime!(encoding.offset() == Offset::Minimum) {
        minimum = half(words, places.halves, at + 1);
    }
    if comptime!(encoding.is_nested()) {
        let at = element / comptime!(encoding.group()) * comptime!(encoding.bytes());
        scale *= byte(words, places.bytes, at);
        if comptime!(encoding.has_sub_minima()) {
            minimum *= byte(words, places.bytes, at + 1);
        }
        if comptime!(encoding.has_minima_of_scales()) {
            scale += minimum;
        }
    }
    (scale, minimum)
}

/// The signed byte with the given index in a section.
#[cube]
fn byte(words: &[u32], section: usize, index: usize) -> f32 {
    let bits = (words[section + index / 4] >> ((index % 4 * 8) as u32)) & 0xff;
    f32::cast_from(bits) - select(bits > 127, f32::new(256.0), f32::new(0.0))
}

/// The half-precision number with the given index in a section. Many shaders do not have the type, so its bits are
/// decoded here. Below the smallest normal number they count steps of 2⁻²⁴. Infinity and NaN are kept.
#[cube]
fn half(words: &[u32], section: usize, index: usize) -> f32 {
    let bits = words[section + index / 2] >> ((index % 2 * 16) as u32);
    let sign = (bits & 0x8000) << 16;
    let magnitude = bits & 0x7fff;
    let shifted = magnitude << 13;
    let subnormal = u32::reinterpret(f32::cast_from(magnitude) * f32::new(comptime!(1.0 / (1 << 24) as f32)));
    let normal = shifted + comptime!((127u32 - 15) << 23);
    let special = shifted + comptime!((255u32 - 31) << 23);
    let found = select(magnitude < 0x0400, subnormal, select(magnitude < 0x7c00, normal, special));
    f32::reinterpret(sign | found)
}

/// The encoding's levels, in memory that is fast to look up. Empty where numbers are no levels.
#[cube]
fn levels(#[comptime] encoding: Encoding) -> Shared<[f32]> {
    let used = comptime!(encoding.numbers() == Numbers::Levels);
    let mut levels = Shared::<[f32]>::new_slice(comptime!(if used { 16usize } else { 1usize }));
    if used {
        if UNIT_POS == 0 {
            #[unroll]
            for i in 0..16usize {
                levels[i] = f32::new(comptime!(encoding.levels()[i]));
            }
        }
        sync_cube();
    }
    levels
}
