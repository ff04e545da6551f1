//! What matrix products round their operands to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What matrix products round both sides to; their sums are always in single precision. In packed batches it concerns the
/// products with a model's matrices and with adapters, forward and backward, and the logits. Everything else stays in
/// single precision: an adapter's matrices and their gradients, norms, attention, the loss. Over a cache it concerns the
/// layers' products for prompts, and for all tokens where the cache is exact. Decoding into a cache that is not exact has a
/// rounding of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// Single precision: nothing is rounded. The reference.
    #[default]
    F32,
    /// bfloat16, to the nearest, ties to even. Products are several times as fast where the processor has AMX, up to twice
    /// as fast where it has AVX512-BF16 at full rate, not faster elsewhere. The rounded numbers are the same on every
    /// processor; the order of the sums is not.
    Bf16,
}

impl Compute {
    /// Whether the kernels of a device have it. Every device has [`F32`](Self::F32), only `flex` the other one.
    pub fn is_available_on(self, device: &burn::tensor::Device) -> bool {
        #[cfg(feature = "flex")]
        return self == Self::F32 || crate::flex::is_flex(device);
        #[cfg(not(feature = "flex"))]
        {
            let _ = device;
            self == Self::F32
        }
    }

    /// Its name in recipes: `f32` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compute {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Self::F32, Self::Bf16];
        all.into_iter()
            .find(|compute| compute.name() == name)
            .ok_or_else(|| format!("{name:?} is neither f32 nor bf16"))
    }
}
