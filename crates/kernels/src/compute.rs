//! What matrix products round their operands to.

use serde::{Deserialize, Serialize};

/// What the matrix products of packed batches round both sides to; their sums are always in single precision. It concerns
/// the products with a model's matrices and with adapters, forward and backward, and the logits. Everything else stays in
/// single precision: an adapter's matrices and their gradients, norms, attention, the loss. Decoding over a cache has a
/// rounding of its own ([`Decoder`](crate::Decoder)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// Single precision: nothing is rounded. The reference.
    #[default]
    F32,
    /// bfloat16, to the nearest, ties to even. Several times as fast where the processor has AMX, twice as fast where it has
    /// AVX512-BF16 at full rate, not faster elsewhere. The rounded numbers are the same on every processor; the order of the
    /// sums is not.
    Bf16,
}
