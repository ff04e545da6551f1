//! The Mistral family: config, modules, forward pass, KV cache. This crate does not depend on text, file formats or
//! training.
//!
//! All shapes in this workspace use one legend: `batch` sequences computed side by side, `rows` tokens of one pass (all
//! sequences of a batch, one after the other), `d_model` (Hugging Face's `hidden_size`), `heads`
//! (`num_attention_heads`), `kv_heads` (`num_key_value_heads`), `head_dim`, `vocab` (`vocab_size`).
//!
//! ```
//! use foehn_mistral::MistralConfig;
//!
//! let config = MistralConfig::from_json(
//!     r#"{"model_type": "mistral", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
//!         "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "sliding_window": null}"#,
//! )?;
//! assert_eq!(config.head_dim, 16);
//! # Ok::<(), foehn_mistral::Error>(())
//! ```

mod attention;
mod base;
mod block;
mod cache;
mod checkpoint;
mod config;
mod decoder;
mod error;
mod load;
mod mlp;
mod model;
mod naming;
mod projection;
mod save;
mod size;
mod synthetic;

pub use attention::SelfAttention;
pub use base::Base;
pub use block::DecoderLayer;
pub use cache::KvCache;
pub use checkpoint::{Checkpoint, RowOrder, half_split_row};
pub use config::{MistralConfig, ModelType, QueryScale, RopeScaling};
pub use decoder::Decoder;
pub use error::Error;
pub use mlp::Mlp;
pub use model::{Mistral, Packed};
pub use naming::{gguf_name, interleaved_row, is_rotated, native_name, part_of_native};
pub use projection::Projection;
pub use size::MatrixSize;
