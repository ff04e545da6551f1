//! The storage formats of a model's matrices.

use std::fmt;
use std::str::FromStr;

use foehn_kernels::{Encoding, HalfKind};
use foehn_weights::{DType, Quantization};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The storage format of a model's matrices in memory. Norms are always in single precision.
///
/// A device without packed weights keeps all matrices in single precision, with the same values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Base {
    /// As the checkpoint stores them: quantised blocks stay quantised, 16-bit weights stay 16-bit.
    ///
    /// Eight-bit floats are held in bfloat16. Their products with a scale have more bits, so they are rounded, by at most
    /// a 512th of each; [`F32`](Self::F32) holds them exactly.
    #[default]
    Stored,
    /// In single precision.
    F32,
    /// In bfloat16. A weight that is stored in less than 16 bits stays as it is stored.
    Bf16,
    /// In GGML's `Q8_0`: 8.5 bits per weight.
    Q8_0,
    /// In GGML's `Q4_K`: 4.5 bits per weight. `Q8_0` is used for rows whose length is not a multiple of 256, and for
    /// embedding and head, which lose the most by four bits.
    Q4K,
    /// In NF4 with double quantisation (Dettmers et al. 2023, "QLoRA"): 4.25 bits per weight; embedding and head in
    /// `Q8_0`.
    Nf4,
}

/// How one matrix is built.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    /// The stored blocks, unchanged.
    Same(Encoding),
    Half(HalfKind),
    Made(Quantization, Encoding),
    Full,
}

const NAMES: [(Base, &str); 6] = [
    (Base::Stored, "stored"),
    (Base::F32, "f32"),
    (Base::Bf16, "bf16"),
    (Base::Q8_0, "q8_0"),
    (Base::Q4K, "q4_k"),
    (Base::Nf4, "nf4"),
];

impl Base {
    /// The format of a matrix, given its name in Hugging Face's checkpoints, its stored type, and the length of its
    /// rows.
    ///
    /// A matrix that is stored in fewer bits than requested is not changed: more bits would hold the same numbers.
    pub(crate) fn form(self, name: &str, stored: DType, input: usize) -> Form {
        let is_end = matches!(name, "model.embed_tokens" | "lm_head");
        let base = if is_end && matches!(self, Self::Q4K | Self::Nf4) { Self::Q8_0 } else { self };
        let same = encoding(stored).filter(|encoding| input.is_multiple_of(encoding.divisor())).map(Form::Same);
        let made = |quantization: Quantization, encoding| {
            input.is_multiple_of(quantization.divisor()).then_some(Form::Made(quantization, encoding))
        };
        let eight = || made(Quantization::Q8_0, Encoding::Q8_0);
        let found = match (base, stored) {
            (Self::F32, _) => None,
            (Self::Stored | Self::Bf16, DType::F16) => Some(Form::Half(HalfKind::F16)),
            (Self::Stored | Self::Bf16, DType::BF16 | DType::F8E4M3) => Some(Form::Half(HalfKind::Bf16)),
            (Self::Stored, _) => same,
            (Self::Bf16, _) => same.or(Some(Form::Half(HalfKind::Bf16))),
            (Self::Q8_0, _) => same.or_else(eight),
            (Self::Q4K | Self::Nf4, DType::Q4_0 | DType::Q4_1 | DType::Q4K | DType::Iq4Nl | DType::Iq4Xs) => same,
            (Self::Q4K | Self::Nf4, DType::Q2K | DType::Q3K) => same,
            (Self::Q4K, DType::Q8_0) if !input.is_multiple_of(256) => same,
            (Self::Q4K, _) => made(Quantization::Q4K, Encoding::Q4K).or_else(eight),
            (Self::Nf4, _) => made(Quantization::Nf4, Encoding::Nf4),
        };
        found.unwrap_or(Form::Full)
    }
}

fn encoding(dtype: DType) -> Option<Encoding> {
    Some(match dtype {
        DType::Q4_0 => Encoding::Q4_0,
        DType::Q4_1 => Encoding::Q4_1,
        DType::Q5_0 => Encoding::Q5_0,
        DType::Q5_1 => Encoding::Q5_1,
        DType::Q8_0 => Encoding::Q8_0,
        DType::Q2K => Encoding::Q2K,
        DType::Q3K => Encoding::Q3K,
        DType::Q4K => Encoding::Q4K,
        DType::Q5K => Encoding::Q5K,
        DType::Q6K => Encoding::Q6K,
        DType::Iq4Nl => Encoding::Iq4Nl,
        DType::Iq4Xs => Encoding::Iq4Xs,
        _ => return None,
    })
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(base, _)| base == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for Base {
    type Err = Error;

    /// # Errors
    /// [`Error::UnknownBase`], with a list of the known formats.
    fn from_str(text: &str) -> Result<Self, Error> {
        let found = NAMES.iter().find(|(_, name)| *name == text).map(|(base, _)| *base);
        let known = || NAMES.map(|(_, name)| name).join(", ");
        found.ok_or_else(|| Error::UnknownBase { found: text.to_owned(), known: known() })
    }
}

impl TryFrom<String> for Base {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Base> for String {
    fn from(base: Base) -> Self {
        base.to_string()
    }
}
