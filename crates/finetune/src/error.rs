//! What can go wrong in a training run.

use std::path::PathBuf;

use foehn_files::{printable, printable_text};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of its range.
    #[error("the setting `{field}` is {found}, expected {expected}", found = printable(found))]
    Setting {
        /// The key.
        field: &'static str,
        /// Its value.
        found: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// A file of the run could not be read or written.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// There is nothing to train on.
    #[error("the dataset has no record to train on: {reason}", reason = printable_text(reason))]
    NoData {
        /// Why.
        reason: String,
    },
    /// A record cannot be made into a sample.
    #[error("record {record} cannot be trained on", record = printable(record))]
    Record {
        /// The record's id, or its number (from 1) where it has none.
        record: String,
        /// What is wrong with it.
        #[source]
        source: foehn_tokens::Error,
    },
    /// The last trained token of a turn is not one that generation stops on: the model would never learn to stop.
    #[error(
        "record {record}: the last trained token is {found}, which generation does not stop on (it stops on {expected:?}); the template must end an assistant's turn in the model's stop token",
        record = printable(record)
    )]
    StopTokenUntrained {
        /// The record's id or number.
        record: String,
        /// The last trained token's id.
        found: u32,
        /// The ids that generation stops on.
        expected: Vec<u32>,
    },
    /// A token id has no row in the embedding.
    #[error(
        "record {record} has token id {id}, the model's vocabulary ends at {vocab_size}: the tokenizer does not belong to this model",
        record = printable(record)
    )]
    TokenOutOfVocabulary {
        /// The record's id or number.
        record: String,
        /// The id.
        id: u32,
        /// The rows of the embedding.
        vocab_size: usize,
    },
    /// The loss or a gradient became infinite or NaN.
    #[error(
        "the {what} of step {step} is {value}; samples {samples:?}; {advice}",
        advice = advice(last_checkpoint),
        what = printable(what)
    )]
    NotFinite {
        /// `loss`, `gradient norm`, `validation loss`, or the parameter or moment.
        what: String,
        /// The step, from 1.
        step: usize,
        /// The value.
        value: f64,
        /// Ids or numbers of the step's records.
        samples: Vec<String>,
        /// The newest checkpoint from before the step.
        last_checkpoint: Option<PathBuf>,
    },
    /// A run is to go on from a checkpoint of another run.
    #[error(
        "the checkpoint {path} was made with `{key}` {old}, this run has {new}; go on with the former, or begin anew in another folder",
        key = printable(key),
        old = printable(old),
        new = printable(new)
    )]
    ResumeMismatch {
        /// The checkpoint.
        path: PathBuf,
        /// What differs: a setting, or `base`, `tokenizer`, `template`, `dataset`, whose values are hashes.
        key: String,
        /// The checkpoint's value.
        old: String,
        /// The value of the run that is to go on.
        new: String,
    },
    /// There is nothing to go on from.
    #[error("there is no checkpoint to resume from in {path}")]
    NoCheckpoint {
        /// The run's folder.
        path: PathBuf,
    },
    /// Another run works in the folder.
    #[error("another run is working in {path}; wait until it ends, or choose another folder")]
    Locked {
        /// The run's folder.
        path: PathBuf,
    },
    /// The adapter that training is to start from is not one that the settings of `lora` describe.
    #[error(
        "the adapter {path} has {what} {found}, the setting `lora` says {expected}; leave `lora` out to take the adapter's",
        what = printable(what),
        found = printable(found),
        expected = printable(expected)
    )]
    InitAdapter {
        /// The adapter's folder.
        path: PathBuf,
        /// What differs.
        what: String,
        /// The adapter's.
        found: String,
        /// The settings'.
        expected: String,
    },
    /// A run's folder already holds a run.
    #[error("{path} already holds a run; resume it, or choose another folder")]
    AlreadyThere {
        /// The run's folder.
        path: PathBuf,
    },
    /// A file of a checkpoint does not hold what it should.
    #[error("the checkpoint file {path} is broken: {reason}", reason = printable_text(reason))]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The loss curve could not be drawn.
    #[error("cannot draw the loss curve: {reason}", reason = printable_text(reason))]
    Curve {
        /// What the plotting library said.
        reason: String,
    },
    /// The adapter.
    #[error(transparent)]
    Lora(#[from] foehn_lora::Error),
    /// The tensor files of a checkpoint.
    #[error(transparent)]
    Weights(#[from] foehn_weights::Error),
}

fn advice(last_checkpoint: &Option<PathBuf>) -> String {
    match last_checkpoint {
        Some(path) => format!("the last good checkpoint is {}; lower the learning rate", path.display()),
        None => "no checkpoint was written before; lower the learning rate".into(),
    }
}
