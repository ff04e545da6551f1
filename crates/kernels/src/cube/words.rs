//! The layout of a quantised matrix in device memory.

use crate::encoding::{Encoding, Numbers, Offset, Row, RowBuffers};

/// A quantised matrix's encoding and shape. They determine where each of its parts is.
///
/// The words have three sections. Each has the rows one after the other, so that the positions of an element's parts
/// follow from its index in the matrix:
///
/// 1. the numbers: 2, 4 or 8 bits each; of three bits the third, and of five and six bits the upper two, are in a section
///    of their own after it;
/// 2. the half-precision scale of each super-block, followed by its minimum where there are minima;
/// 3. the factors of each group, one byte each: first that of the scale, then that of the minimum, where they exist.
///
/// Neighbouring units read neighbouring words, as fast device memory requires. The scales are not stored beside the
/// numbers, as in the files, because the files' blocks are not whole numbers of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    pub encoding: Encoding,
    pub out: usize,
    pub input: usize,
}

/// The first word of each section except the first one.
#[derive(Clone, Copy, Debug)]
pub struct Sections {
    /// The bits of the numbers that are not in the first section.
    pub upper: usize,
    pub halves: usize,
    pub bytes: usize,
    pub end: usize,
}

/// The elements that an encoding's sections consist of.
impl Encoding {
    /// Bits of a number in the first section.
    pub(super) fn lower_bits(self) -> usize {
        match self.numbers() {
            Numbers::Two | Numbers::Three => 2,
            Numbers::Four | Numbers::Six | Numbers::Levels => 4,
            Numbers::Eight => 8,
        }
    }

    /// The other bits of a number, in the section after it.
    pub(super) fn upper_bits(self) -> usize {
        match self.numbers() {
            Numbers::Three => 1,
            Numbers::Six => 2,
            Numbers::Two | Numbers::Four | Numbers::Eight | Numbers::Levels => 0,
        }
    }

    /// Half-precision numbers per super-block.
    pub(super) fn halves(self) -> usize {
        if self.offset() == Offset::Minimum { 2 } else { 1 }
    }

    /// Bytes per group.
    pub(super) fn bytes(self) -> usize {
        match (self.is_nested(), self.has_sub_minima()) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        }
    }
}

impl Form {
    pub fn sections(self) -> Sections {
        let Self { encoding, out, input } = self;
        let upper = out * input * encoding.lower_bits() / 32;
        let halves = upper + out * input * encoding.upper_bits() / 32;
        let bytes = halves + (out * encoding.super_blocks(input) * encoding.halves()).div_ceil(2);
        Sections { upper, halves, bytes, end: bytes + (out * encoding.groups(input) * encoding.bytes()).div_ceil(4) }
    }

    /// Packs the planes of the rows into words.
    pub fn pack(self, row: impl Fn(usize, Row<'_>)) -> Vec<u32> {
        let Self { encoding, out, input } = self;
        let sections = self.sections();
        let mut words = vec![0; sections.end];
        let mut planes = RowBuffers::new(encoding, input);
        for index in 0..out {
            row(index, planes.row());
            let first = index * input;
            match encoding.lower_bits() {
                8 => pack_row::<8>(&mut words, first, &planes.numbers, 0),
                4 => pack_row::<4>(&mut words, first, &planes.numbers, 0),
                _ => pack_row::<2>(&mut words, first, &planes.numbers, 0),
            }
            match encoding.upper_bits() {
                2 => pack_row::<2>(&mut words[sections.upper..], first, &planes.numbers, 4),
                1 => pack_row::<1>(&mut words[sections.upper..], first, &planes.numbers, 2),
                _ => (),
            }
            let first = index * encoding.super_blocks(input) * encoding.halves();
            for (at, half) in (first..).zip(alternate(&planes.scales, &planes.minima)) {
                words[sections.halves + at / 2] |= u32::from(half) << (at % 2 * 16);
            }
            let first = index * encoding.groups(input) * encoding.bytes();
            for (at, byte) in (first..).zip(alternate(&planes.sub_scales, &planes.sub_minima)) {
                words[sections.bytes + at / 4] |= u32::from(byte.cast_unsigned()) << (at % 4 * 8);
            }
        }
        words
    }
}

/// Packs the numbers of a row; `first` is the index of its first element in the matrix. From each number, shifted
/// right, the lowest `BITS` are stored. A row is a whole number of words.
fn pack_row<const BITS: usize>(section: &mut [u32], first: usize, numbers: &[u8], shift: u32) {
    let fit = 32 / BITS;
    for (word, numbers) in section[first / fit..].iter_mut().zip(numbers.chunks_exact(fit)) {
        let field = |number: u8| u32::from(number >> shift) & ((1 << BITS) - 1);
        *word = numbers.iter().rev().fold(0, |word, &number| word << BITS | field(number));
    }
}

/// The elements of two planes alternately; the second plane may be empty.
fn alternate<'a, T: Copy>(first: &'a [T], second: &'a [T]) -> impl Iterator<Item = T> + 'a {
    first.iter().enumerate().flat_map(|(at, &own)| [Some(own), second.get(at).copied()]).flatten()
}
