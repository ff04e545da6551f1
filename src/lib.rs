//! Foehn, in Rust only: cleans a dataset, fine-tunes a model on it, measures the result, and chats with it.
//!
//! This crate combines the others: it provides the devices ([`device()`]), loads a model with its tokenizer and
//! template ([`Pretrained`]), runs the whole job of a [`Recipe`] ([`Job`]), and re-exports the other crates.
//! `docs/guide.md` explains all steps.
//!
//! ```no_run
//! use foehn::{Pretrained, generate::GenerateConfig, record::Message};
//!
//! let mut base = Pretrained::load("smollm2-135m-instruct", &foehn::device("flex")?)?;
//! base.attach("runs/vakog/adapter")?;
//! let answer = base.ask(&[Message::user("What modality is: 'A bell rang'?")], &GenerateConfig::default())?;
//! println!("{}", answer.text);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod audit;
mod device;
pub mod doctor;
pub mod export;
mod job;
mod loading;
pub mod plan;
mod pretrained;
mod recipe;
mod run_data;
#[cfg(feature = "serve")]
mod serving;

pub use device::{DeviceError, available, device};
pub use job::{Job, JobError, TrainingData};
pub use loading::{AdapterNote, LoadError, Loading};
pub use plan::{Plan, PlanError};
pub use pretrained::{Network, Pretrained, load_text, load_text_for_text, sha256_of_file, template_of_adapter};
pub use recipe::{DataFile, DataFiles, EvaluationRecipe, Recipe, RecipeError};
#[cfg(feature = "serve")]
pub use serving::{ServeError, Serving, lexicon_of};

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
pub use foehn_score as score;
#[cfg(feature = "serve")]
pub use foehn_serve as serve;
pub use foehn_tokens as tokens;
pub use foehn_weights as weights;
