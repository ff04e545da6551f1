//! The numeric operations of the model, each with a reference in Burn ops that runs on every device.
//!
//! All shapes use the same legend as `foehn-mistral`: `batch` sequences computed side by side, `rows` tokens of a
//! packed sequence, `d_model` (Hugging Face's `hidden_size`), `heads`, `kv_heads`, `head_dim`, `vocab`.
//!
//! The functions take tensors with or without autodiff. If no argument is tracked, nothing is recorded.
//!
//! ```
//! use burn::tensor::Tensor;
//!
//! /// RMSNorm keeps a row whose root mean square is one.
//! fn keeps(row: Tensor<2>, ones: Tensor<1>) -> Tensor<2> {
//!     foehn_kernels::rms_norm(row, ones, 1e-6)
//! }
//! ```

mod attention;
mod block;
mod cached;
mod compute;
#[cfg(feature = "flex")]
mod cpu;
mod cross_entropy;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
mod decoder;
mod encoding;
#[cfg(feature = "flex")]
mod flex;
mod memory;
mod noise;
mod norm;
mod projection;
mod random;
mod rope;
mod rotary;
mod swiglu;
mod weight;

/// Whether the kernels of a device can compute a layer's inner values again in the backward pass, to save memory.
pub fn can_recompute(device: &burn::tensor::Device) -> bool {
    #[cfg(feature = "flex")]
    return flex::is_flex(device);
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        false
    }
}

pub use attention::{Visibility, attention};
pub use block::{AttentionHalf, Cache, FeedForward};
pub use cached::{KvShape, KvStore};
pub use compute::Compute;
#[cfg(feature = "flex")]
pub use cpu::pool::{set_threads, threads};
pub use cross_entropy::{Targets, linear_cross_entropy, token_log_probs, token_losses};
pub use decoder::{DecoderKernel, DecoderLayerParts, DecoderModel, Ends};
pub use encoding::{Encoding, HalfKind, IQ4_LEVELS, NF4_LEVELS, Row, Storage};
pub use memory::{heap_in_use, keep_freed_memory};
pub use noise::EmbeddingNoise;
pub use norm::rms_norm;
pub use projection::{Dropout, Linear, LowRank, projection};
pub use rope::{QueryScale, Rope};
pub use rotary::Rotary;
pub use swiglu::swiglu;
pub use weight::Weight;
