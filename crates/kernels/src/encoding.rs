//! How the weights of a quantised matrix are stored.

/// A block-quantised encoding of weights. Small unsigned numbers share scales along a row; a weight is `scale · (number
/// − zero)` or `scale · number + minimum`.
///
/// All but [`Nf4`](Self::Nf4) are GGML's encodings: same names, and same numbers to the last bit
/// ([`ggml-common.h`](https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// Four bits, with zero at 8; one scale per group of 32.
    Q4_0,
    /// Four bits; one scale and one minimum per group of 32.
    Q4_1,
    /// Five bits, with zero at 16; one scale per group of 32.
    Q5_0,
    /// Five bits; one scale and one minimum per group of 32.
    Q5_1,
    /// Eight bits, with zero at 128; one scale per group of 32.
    Q8_0,
    /// Four bits. A super-block of 256 has a scale and a minimum; each group of 32 has a six-bit factor for either.
    Q4K,
    /// As [`Q4K`](Self::Q4K) with five bits.
    Q5K,
    /// Six bits, with zero at 32. A super-block of 256 has a scale; each group of 16 has an eight-bit factor for it.
    Q6K,
    /// Two bits. A super-block of 256 has a scale and a minimum; each group of 16 has a four-bit factor for either.
    Q2K,
    /// Three bits, with zero at 4. A super-block of 256 has a scale; each group of 16 has a six-bit factor for it.
    Q3K,
    /// Four bits, each number one of [`IQ4_LEVELS`]; one scale per group of 32.
    Iq4Nl,
    /// As [`Iq4Nl`](Self::Iq4Nl). A super-block of 256 has a scale; each group of 32 has a six-bit factor for it.
    Iq4Xs,
    /// Four bits, each number one of sixteen levels of a normal distribution; groups of 64, whose scales are stored in
    /// eight bits relative to the row's (Dettmers et al. 2023, "QLoRA": NF4 with double quantisation).
    Nf4,
}

/// The levels of [`Encoding::Nf4`], as the paper's appendix E gives them.
pub const NF4_LEVELS: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// The levels of [`Encoding::Iq4Nl`] and [`Encoding::Iq4Xs`]: `kvalues_iq4nl` in `ggml-common.h`.
pub const IQ4_LEVELS: [f32; 16] =
    [-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0];

/// One row of a quantised matrix, to be filled in. A plane that the encoding does not have is empty.
#[derive(Debug)]
pub struct Row<'a> {
    /// One number per weight.
    pub numbers: &'a mut [u8],
    /// One half-precision scale (its bits) per super-block: 32 weights, 256 in the K encodings and in
    /// IQ4_XS, the whole row in NF4.
    pub scales: &'a mut [u16],
    /// One half-precision offset (its bits) per super-block, added to each weight. In the K encodings it is minus
    /// GGML's `dmin`. In NF4 it is added to the groups' scales, not to the weights.
    pub minima: &'a mut [u16],
    /// The factor of the scale, one per group.
    pub sub_scales: &'a mut [i8],
    /// The factor of the minimum, one per group.
    pub sub_minima: &'a mut [i8],
}

/// The 16-bit format of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfKind {
    /// IEEE 754 half precision.
    F16,
    /// bfloat16, the upper half of a single-precision number.
    Bf16,
}

/// How a frozen matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Storage {
    /// In single precision.
    Full,
    /// In a 16-bit format.
    Half,
    /// Quantised.
    Blocks(Encoding),
}

impl Storage {
    /// Bytes of a matrix `[out, in]` in memory on the CPU device `flex`, whose layout fills whole blocks; `None` in a
    /// build without that device.
    pub fn bytes(self, [out, input]: [usize; 2]) -> Option<usize> {
        #[cfg(feature = "flex")]
        return Some(crate::cpu::matrix::stored_bytes(self, out, input));
        #[cfg(not(feature = "flex"))]
        {
            let _ = (out, input);
            None
        }
    }
}

/// The format of the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    Two,
    Three,
    Four,
    Six,
    Eight,
    /// Four bits that stand for the encoding's [`levels`](Encoding::levels).
    Levels,
}

/// The second term of a weight, besides its scaled number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offset {
    /// The number that means zero.
    Zero(u8),
    Minimum,
}

impl Encoding {
    /// Every encoding.
    pub const ALL: [Self; 13] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Iq4Xs,
        Self::Nf4,
    ];

    /// The length of a row must be a multiple of this.
    pub fn divisor(self) -> usize {
        match self {
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K | Self::Iq4Xs => 256,
            Self::Nf4 => 64,
            _ => 32,
        }
    }

    /// The number of weights in a group, which share a scale.
    pub fn group(self) -> usize {
        match self {
            Self::Q2K | Self::Q3K | Self::Q6K => 16,
            Self::Nf4 => 64,
            _ => 32,
        }
    }

    pub(crate) fn numbers(self) -> Numbers {
        match self {
            Self::Q2K => Numbers::Two,
            Self::Q3K => Numbers::Three,
            Self::Q4_0 | Self::Q4_1 | Self::Q4K => Numbers::Four,
            Self::Q5_0 | Self::Q5_1 | Self::Q5K | Self::Q6K => Numbers::Six,
            Self::Q8_0 => Numbers::Eight,
            Self::Iq4Nl | Self::Iq4Xs | Self::Nf4 => Numbers::Levels,
        }
    }

    pub(crate) fn offset(self) -> Offset {
        match self {
            // The levels have signs of their own.
            Self::Iq4Nl | Self::Iq4Xs => Offset::Zero(0),
            Self::Q3K => Offset::Zero(4),
            Self::Q4_0 => Offset::Zero(8),
            Self::Q5_0 => Offset::Zero(16),
            Self::Q8_0 => Offset::Zero(128),
            Self::Q6K => Offset::Zero(32),
            Self::Q4_1 | Self::Q5_1 | Self::Q2K | Self::Q4K | Self::Q5K | Self::Nf4 => Offset::Minimum,
        }
    }

    /// Whether a group's scale is a small number times the scale of its super-block.
    pub(crate) fn is_nested(self) -> bool {
        matches!(self, Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K | Self::Iq4Xs | Self::Nf4)
    }

    /// Whether a group's minimum is a small number times the minimum of its super-block.
    pub(crate) fn has_sub_minima(self) -> bool {
        matches!(self, Self::Q2K | Self::Q4K | Self::Q5K)
    }

    /// Whether the minima are added to the groups' scales, not to the weights.
    pub(crate) fn has_minima_of_scales(self) -> bool {
        self == Self::Nf4
    }

    /// What the numbers stand for, where they stand for [`Numbers::Levels`].
    pub(crate) fn levels(self) -> &'static [f32; 16] {
        if self == Self::Nf4 { &NF4_LEVELS } else { &IQ4_LEVELS }
    }

    /// Weights per super-block, in a row of `input` weights.
    pub(crate) fn super_inputs(self, input: usize) -> usize {
        if self == Self::Nf4 { input } else { self.divisor() }
    }

    pub(crate) fn super_blocks(self, input: usize) -> usize {
        input.checked_div(self.super_inputs(input)).unwrap_or(0)
    }

    pub(crate) fn groups(self, input: usize) -> usize {
        input / self.group()
    }
}

/// The planes of one row, which a [`Row`] borrows.
#[derive(Debug)]
pub(crate) struct RowBuffers {
    pub numbers: Vec<u8>,
    pub scales: Vec<u16>,
    pub minima: Vec<u16>,
    pub sub_scales: Vec<i8>,
    pub sub_minima: Vec<i8>,
}

impl RowBuffers {
    pub fn new(encoding: Encoding, input: usize) -> Self {
        let (groups, supers) = (encoding.groups(input), encoding.super_blocks(input));
        let if_any = |some: bool, count: usize| if some { count } else { 0 };
        Self {
            numbers: vec![0; input],
            scales: vec![0; supers],
            minima: vec![0; if_any(encoding.offset() == Offset::Minimum, supers)],
            sub_scales: vec![0; if_any(encoding.is_nested(), groups)],
            sub_minima: vec![0; if_any(encoding.is_nested() && encoding.has_sub_minima(), groups)],
        }
    }

    pub fn row(&mut self) -> Row<'_> {
        Row {
            numbers: &mut self.numbers,
            scales: &mut self.scales,
            minima: &mut self.minima,
            sub_scales: &mut self.sub_scales,
            sub_minima: &mut self.sub_minima,
        }
    }

    /// Computes the weights by the encoding's definition.
    pub fn open(&self, encoding: Encoding, weights: &mut [f32]) {
        let super_inputs = encoding.super_inputs(weights.len());
        let half = |plane: &[u16], k: usize| half::f16::from_bits(plane[k / super_inputs]).to_f32();
        let sub = |plane: &[i8], k: usize| f32::from(plane[k / encoding.group()]);
        for (k, (weight, &number)) in weights.iter_mut().zip(&self.numbers).enumerate() {
            let scale = half(&self.scales, k);
            let level = || encoding.levels()[usize::from(number)];
            *weight = match (encoding.numbers(), encoding.offset()) {
                _ if encoding.has_minima_of_scales() => {
                    level() * scale.mul_add(sub(&self.sub_scales, k), half(&self.minima, k))
                }
                (numbers, Offset::Zero(zero)) => {
                    let scale = if encoding.is_nested() { scale * sub(&self.sub_scales, k) } else { scale };
                    let number = if numbers == Numbers::Levels { level() } else { f32::from(number) - f32::from(zero) };
                    scale * number
                }
                (_, Offset::Minimum) if encoding.is_nested() => {
                    let minimum = half(&self.minima, k) * sub(&self.sub_minima, k);
                    scale * sub(&self.sub_scales, k) * f32::from(number) + minimum
                }
                (_, Offset::Minimum) => scale * f32::from(number) + half(&self.minima, k),
            };
        }
    }
}
