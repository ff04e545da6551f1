//! Foehn: from a messy dataset to a fine-tuned, measured, talking model, in Rust alone.
//!
//! This crate is a facade: it names the devices ([`device()`]), loads a model with everything that belongs to it
//! ([`Pretrained`]), and re-exports the crates that do the work. `docs/guide.md` walks through the whole job.
//!
//! ```no_run
//! use foehn::{Pretrained, corpus::{Message, Role}, generate::{GenerateConfig, generate}, mistral::Base};
//!
//! let device = foehn::device("flex")?;
//! let mut base = Pretrained::load("smollm2-135m-instruct", Base::Stored, &device, &mut |_| ())?;
//! base.attach("runs/vakog/adapter".as_ref(), false, &mut |_| ())?;
//! let question = [Message::new(Role::User, "What modality is: 'A bell rang'?")];
//! let prompt = base.template.prompt(&base.tokenizer, &question)?;
//! let answer = generate(&base.model, &base.tokenizer, &[prompt], &GenerateConfig::default(), &mut |_, _| ())?;
//! println!("{}", answer[0].text);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod device;
mod job;
mod pretrained;

pub use device::{DeviceError, available, device};
pub use job::{JobError, TrainingData, training_data};
pub use pretrained::{AdapterNote, LoadError, Loading, Network, Pretrained, load_text, sha256_of_file};

pub use burn;
pub use foehn_corpus as corpus;
pub use foehn_evaluate as evaluate;
pub use foehn_files as files;
pub use foehn_finetune as finetune;
pub use foehn_generate as generate;
pub use foehn_hub as hub;
pub use foehn_kernels as kernels;
pub use foehn_lora as lora;
pub use foehn_mistral as mistral;
pub use foehn_record as record;
pub use foehn_tokens as tokens;
pub use foehn_weights as weights;
