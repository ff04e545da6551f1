//! The training loop: recipe, step, schedule, checkpoint, resume, metrics.
//!
//! A [`Recipe`] says what to do, a [`Dataset`] holds the masked samples, [`train`] does it and reports every
//! step; a [`Trainer`] leaves the loop to the caller.
//!
//! ```
//! use foehn_finetune::Recipe;
//!
//! let recipe = Recipe::from_toml("epochs = 2\n[lora]\nr = 4\n", "recipe.toml".as_ref())?;
//! assert_eq!((recipe.epochs, recipe.lora.r, recipe.batch_size), (2, 4, 16));
//! assert!(Recipe::from_toml("epocs = 2\n", "recipe.toml".as_ref()).is_err());
//! # Ok::<(), foehn_finetune::Error>(())
//! ```

mod checkpoint;
#[cfg(feature = "curve")]
mod curve;
mod dataset;
mod error;
mod folder;
mod metrics;
mod optim;
mod order;
mod recipe;
mod resume;
mod schedule;
mod step;
mod train;
mod trainer;
mod warning;

pub use dataset::Dataset;
pub use error::Error;
pub use folder::Folder;
pub use metrics::{StepMetrics, ValidationMetrics};
pub use optim::{AdamW, AdamWConfig, clip_global_norm};
pub use recipe::{Recipe, Validation};
pub use schedule::Schedule;
pub use step::{LossMean, StepGradients, gradients, validation_loss};
pub use train::{Event, Outcome, Run, train};
pub use trainer::Trainer;
pub use warning::Warning;
