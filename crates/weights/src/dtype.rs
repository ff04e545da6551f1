//! The storage types of tensors: plain numbers, or quantised blocks.

use std::fmt;

/// The storage type of a tensor.
///
/// The quantised types are GGML's ([`ggml-common.h`](https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h)):
/// each block of 32 or 256 consecutive elements of a row has its own scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16, the upper half of an `F32`.
    BF16,
    /// Eight bits: a sign, four bits of exponent, three of fraction, no infinity (`float8_e4m3fn`). The scale is in
    /// another tensor, named with `_scale_inv` after this one's name: one number, or one for each block of a matrix.
    F8E4M3,
    /// 4 bits, one scale per 32.
    Q4_0,
    /// 4 bits, one scale and one minimum per 32.
    Q4_1,
    /// 5 bits, one scale per 32.
    Q5_0,
    /// 5 bits, one scale and one minimum per 32.
    Q5_1,
    /// 8 bits, one scale per 32.
    Q8_0,
    /// 2 bits, a super-block of 256 with sixteen 4-bit scales and minima.
    Q2K,
    /// 3 bits, a super-block of 256 with sixteen 6-bit scales.
    Q3K,
    /// 4 bits, a super-block of 256 with eight 6-bit scales and minima.
    Q4K,
    /// 5 bits, a super-block of 256 with eight 6-bit scales and minima.
    Q5K,
    /// 6 bits, a super-block of 256 with sixteen 8-bit scales.
    Q6K,
    /// 4 bits that stand for sixteen levels, one scale per 32.
    Iq4Nl,
    /// 4 bits that stand for sixteen levels, a super-block of 256 with eight 6-bit scales.
    Iq4Xs,
    /// Another known type (integers, `F64`, `F8_E5M2`, …). Its bytes can be read but not converted to `f32`.
    Other(&'static str),
}

/// The elements and the bytes of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub elements: usize,
    pub bytes: usize,
}

/// The types of GGML that are not read, with their numbers (`enum ggml_type`); some of them GGML has dropped since.
const NOT_READ: [(u32, &str); 22] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

/// The types of safetensors that have no `f32` form here (its `Dtype` enum, version 0.8).
const OTHERS: [(&str, Block); 18] = [
    ("BOOL", Block::new(1, 1)),
    ("F4", Block::new(2, 1)),
    ("F6_E2M3", Block::new(4, 3)),
    ("F6_E3M2", Block::new(4, 3)),
    ("U8", Block::new(1, 1)),
    ("I8", Block::new(1, 1)),
    ("F8_E5M2", Block::new(1, 1)),
    ("F8_E8M0", Block::new(1, 1)),
    ("F8_E4M3FNUZ", Block::new(1, 1)),
    ("F8_E5M2FNUZ", Block::new(1, 1)),
    ("I16", Block::new(1, 2)),
    ("U16", Block::new(1, 2)),
    ("I32", Block::new(1, 4)),
    ("U32", Block::new(1, 4)),
    ("C64", Block::new(1, 8)),
    ("F64", Block::new(1, 8)),
    ("I64", Block::new(1, 8)),
    ("U64", Block::new(1, 8)),
];

impl Block {
    const fn new(elements: usize, bytes: usize) -> Self {
        Self { elements, bytes }
    }
}

impl DType {
    /// The name in safetensors and GGML.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::F8E4M3 => "F8_E4M3",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Iq4Nl => "IQ4_NL",
            Self::Iq4Xs => "IQ4_XS",
            Self::Other(name) => name,
        }
    }

    /// Elements per block: 1 for plain types, 32 or 256 for quantised ones.
    pub fn block_elements(self) -> usize {
        self.block().elements
    }

    /// Bytes per block. For plain types this is the size of an element; divided by `block_elements()` it is the average
    /// size.
    pub fn block_bytes(self) -> usize {
        self.block().bytes
    }

    pub(crate) fn block(self) -> Block {
        match self {
            Self::F32 => Block::new(1, 4),
            Self::F16 | Self::BF16 => Block::new(1, 2),
            Self::F8E4M3 => Block::new(1, 1),
            Self::Q4_0 | Self::Iq4Nl => Block::new(32, 18),
            Self::Q4_1 => Block::new(32, 20),
            Self::Q5_0 => Block::new(32, 22),
            Self::Q5_1 => Block::new(32, 24),
            Self::Q8_0 => Block::new(32, 34),
            Self::Q2K => Block::new(256, 84),
            Self::Q3K => Block::new(256, 110),
            Self::Q4K => Block::new(256, 144),
            Self::Q5K => Block::new(256, 176),
            Self::Q6K => Block::new(256, 210),
            Self::Iq4Xs => Block::new(256, 136),
            Self::Other(name) => {
                OTHERS.iter().find(|(other, _)| *other == name).map_or(Block::new(1, 1), |(_, block)| *block)
            }
        }
    }

    /// The type with this name in safetensors headers.
    pub(crate) fn from_safetensors(name: &str) -> Option<Self> {
        match name {
            "F32" => Some(Self::F32),
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::BF16),
            "F8_E4M3" => Some(Self::F8E4M3),
            _ => OTHERS.iter().find(|(other, _)| *other == name).map(|(other, _)| Self::Other(other)),
        }
    }

    /// The type with GGML's number `id` (`enum ggml_type`).
    pub(crate) fn from_ggml(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            10 => Self::Q2K,
            11 => Self::Q3K,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            20 => Self::Iq4Nl,
            23 => Self::Iq4Xs,
            24 => Self::Other("I8"),
            25 => Self::Other("I16"),
            26 => Self::Other("I32"),
            27 => Self::Other("I64"),
            28 => Self::Other("F64"),
            30 => Self::BF16,
            _ => return None,
        })
    }

    /// GGML's number for the type, if it has it.
    pub(crate) fn to_ggml(self) -> Option<u32> {
        (0..=30).find(|id| Self::from_ggml(*id) == Some(self))
    }

    /// What to call a type of GGML's that [`from_ggml`](Self::from_ggml) does not know.
    pub(crate) fn name_of_ggml(id: u32) -> String {
        let known = NOT_READ.iter().find(|(number, _)| *number == id);
        known.map_or_else(|| format!("GGML type {id}"), |(_, name)| (*name).to_owned())
    }

    /// The length of the groups that share a scale in a quantised block.
    pub(crate) fn group(self) -> usize {
        if matches!(self, Self::Q2K | Self::Q3K | Self::Q6K) { 16 } else { 32 }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
