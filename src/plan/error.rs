//! What can go wrong with a plan.

use std::path::PathBuf;

use super::size;
use crate::{JobError, LoadError};

/// A run cannot be planned, or does not fit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The device's memory is not known to the plan.
    #[error("the memory of the device {device} cannot be planned, that of `flex` alone can")]
    Device {
        /// The device.
        device: String,
    },
    /// A size cannot be read.
    #[error("{found:?} is not a size of memory: write a number above 0 with K, M, G or T, such as 8G or 1.5G")]
    Size {
        /// The text.
        found: String,
    },
    /// The run needs more memory than there is.
    #[error(
        "the run needs {needed} at its peak and {room} are there; {advice}",
        needed = size(*needed),
        room = size(*room)
    )]
    DoesNotFit {
        /// The predicted peak, in bytes.
        needed: usize,
        /// The memory that there is, in bytes.
        room: usize,
        /// The settings that would fit, or how much the smallest ones need.
        advice: String,
    },
    /// No settings are small enough.
    #[error(
        "no settings fit in {room}: the smallest run needs {smallest} ({settings})",
        room = size(*room),
        smallest = size(*smallest)
    )]
    TooLittle {
        /// The memory that was asked for, in bytes.
        room: usize,
        /// The peak of the smallest run, in bytes.
        smallest: usize,
        /// Its settings.
        settings: String,
    },
    /// Records are longer than the model or the recipe allows.
    #[error(
        "{count} of {records} records have more than {limit} tokens; the first is record {first}; set `too_long` to \
         \"drop\" or \"truncate\", or raise `max_length` if the model's context allows it"
    )]
    TooLong {
        /// How many.
        count: usize,
        /// All records.
        records: usize,
        /// The limit in tokens.
        limit: usize,
        /// The id or the number of the first one.
        first: String,
    },
    /// An error of the adapter's settings.
    #[error(transparent)]
    Lora(#[from] foehn_lora::Error),
    /// An error of the adapter to start from.
    #[error("cannot read the adapter in {path}")]
    InitAdapter {
        /// Its folder.
        path: PathBuf,
        /// The error.
        #[source]
        source: Box<foehn_lora::Error>,
    },
    /// An error of the data or its settings.
    #[error(transparent)]
    Training(#[from] foehn_finetune::Error),
    /// An error of the model's files.
    #[error(transparent)]
    Load(#[from] Box<LoadError>),
    /// An error of the job.
    #[error(transparent)]
    Job(#[from] Box<JobError>),
}
