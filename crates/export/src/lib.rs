//! Writes a tuned model for other programs.
//!
//! A [`Merged`] is a checkpoint and the adapter that changes it; it reads and merges one tensor at a time, so that a model
//! needs the memory of its largest tensor alone. [`save_folder`] writes it as Hugging Face's programs read it, and [`save_gguf`]
//! for llama.cpp, quantised by a [`Mix`]. An adapter by itself is written by `foehn-lora`. [`Modelfile`] is for Ollama.
//!
//! ```no_run
//! use foehn_export::{Merged, Mix, save_gguf};
//! use foehn_mistral::{Checkpoint, Mistral};
//! use foehn_tokens::{ChatTemplate, Tokenizer};
//! use foehn_weights::Weights;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let weights = Weights::open("base.gguf")?;
//! let checkpoint = Checkpoint::new(&Mistral::config_of(&weights, None)?, &weights)?;
//! let adapter = foehn_lora::Adapter::load("runs/vakog/adapter".as_ref())?;
//! let merged = Merged::new(checkpoint, Some(&adapter))?;
//! let tokenizer = Tokenizer::open("base.gguf")?;
//! let template = ChatTemplate::open("base.gguf", &tokenizer)?;
//! let mix: Mix = "q4_k_m".parse()?;
//! save_gguf("tuned.gguf".as_ref(), &merged, mix, Some((&tokenizer, &template)), &[], &mut |_, _| ())?;
//! # Ok(())
//! # }
//! ```

mod card;
mod error;
mod folder;
mod gguf;
mod merged;
mod mix;
mod modelfile;

pub use card::Card;
pub use error::{Error, Result};
pub use folder::{Folder, save_folder};
pub use gguf::save_gguf;
pub use merged::Merged;
pub use mix::Mix;
pub use modelfile::Modelfile;
