//! Low-rank adapters: attaching, training, detaching, merging; reading and writing PEFT's files.
//!
//! An [`Adapter`] is a set of matrices by module name, independent of a model. [`attach`] attaches it to a
//! [`Mistral`](foehn_mistral::Mistral), [`detach`] detaches it, and [`merge`] merges it into the weights.
//!
//! ```
//! use foehn_lora::{LoraConfig, TargetModules};
//!
//! let config = LoraConfig { r: 8, lora_alpha: 16.0, ..LoraConfig::default() };
//! assert_eq!(config.scale("model.layers.0.self_attn.q_proj")?, 2.0);
//! assert!(TargetModules::AllLinear.matches("model.layers.0.mlp.up_proj")?);
//! # Ok::<(), foehn_lora::Error>(())
//! ```

mod adapter;
mod attach;
mod combine;
mod config;
mod error;
mod files;
mod gguf;
mod manifest;
mod native;
mod pattern;

pub use adapter::{Adapter, Matrices};
pub use attach::{Factor, Parameter, attach, attach_trainable, detach, merge, parameters, set_dropout, set_parameters};
pub use config::{LoraConfig, TargetModules};
pub use error::Error;
pub use manifest::Manifest;
pub use pattern::Patterns;
