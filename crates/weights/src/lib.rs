//! Reads named tensors from tensor files, lazily, and writes them.
//!
//! [`Weights::open`] takes a safetensors file, a folder with a (sharded) safetensors model, or a GGUF file. It maps the
//! file into memory and checks all headers: after that, no tensor lies outside its file. [`Weights::load_f32`] then
//! reads one tensor, and dequantises it if necessary. [`save_safetensors`] and [`save_gguf`] write a file; block types are
//! quantised on the way.
//!
//! The crate handles names, shapes and bytes. It does not depend on layers, models or a tensor library.
//!
//! ```
//! use foehn_weights::{Tensor, Weights, save_safetensors};
//!
//! # fn main() -> Result<(), foehn_weights::Error> {
//! # let folder = tempfile::tempdir().unwrap();
//! let path = folder.path().join("adapter_model.safetensors");
//! let tensors = [Tensor::f32("lora_A.weight", vec![2, 3], vec![1., 2., 3., 4., 5., 6.])];
//! save_safetensors(&path, &tensors, &[("format".into(), "pt".into())].into())?;
//!
//! let weights = Weights::open(&path)?;
//! assert_eq!(weights.names().collect::<Vec<_>>(), ["lora_A.weight"]);
//! let (data, shape) = weights.load_f32("lora_A.weight")?;
//! assert_eq!((data[5], shape), (6.0, vec![2, 3]));
//! # Ok(())
//! # }
//! ```
//!
//! Formats: [safetensors](https://github.com/huggingface/safetensors#format) and
//! [GGUF](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), versions 2 and 3.

mod blocks;
mod dequant;
mod dtype;
mod encode;
mod error;
mod gguf;
mod index;
mod map;
mod quantize;
mod safetensors;
mod save;
mod scale;
mod text;
mod weights;

pub use blocks::{IQ4_LEVELS, Planes, unpack};
pub use dtype::DType;
pub use encode::EncodeError;
pub use error::{Error, Result};
pub use gguf::{Gguf, GgufValue, save_gguf, save_gguf_with};
pub use quantize::Quantization;
pub use save::{Tensor, TensorData, TensorSpec, save_safetensors, save_safetensors_with, save_sharded};
pub use weights::{TensorInfo, Weights};
