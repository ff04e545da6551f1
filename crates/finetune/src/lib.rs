//! The training loop: settings, step, schedule, checkpoint, resume, metrics.
//!
//! A [`TrainingConfig`] has the settings, and a [`Dataset`] the masked samples. [`train`] runs the training and reports
//! every step. With a [`Trainer`], the caller writes the loop.
//!
//! ```
//! use foehn_finetune::TrainingConfig;
//!
//! let config = TrainingConfig { epochs: 2, ..TrainingConfig::default() };
//! config.check()?;
//! // 100 samples in steps of 16: seven steps an epoch, and the learning rate falls over all of them.
//! assert_eq!(config.total_steps(100), 14);
//! assert!(config.learning_rate_at(13, 14) < config.learning_rate_at(2, 14));
//! # Ok::<(), foehn_finetune::Error>(())
//! ```

mod checkpoint;
mod config;
#[cfg(feature = "curve")]
mod curve;
mod dataset;
mod error;
mod folder;
mod metrics;
mod objective;
mod optim;
mod order;
mod rendering;
mod resume;
mod schedule;
mod step;
mod train;
mod trainer;
mod warning;

pub use config::{TrainingConfig, Validation};
pub use dataset::Dataset;
pub use error::Error;
pub use folder::Folder;
pub use metrics::{StepMetrics, ValidationMetrics};
pub use objective::{DpoConfig, Objective, Rewards};
pub use optim::{AdamW, AdamWConfig, clip_global_norm};
pub use order::Part;
pub use rendering::{Affected, Fate, Fitting, Rendered, Renderer, TooLong};
pub use schedule::Schedule;
pub use step::{LossMean, Noise, StepGradients, gradients, preference_gradients, preference_loss, validation_loss};
pub use train::{Event, Outcome, Run, train};
pub use trainer::Trainer;
pub use warning::Warning;
