//! Errors of a training run.

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
        /// The accepted values.
        expected: &'static str,
    },
    /// A file of the run could not be read or written.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// There is nothing to train on.
    #[error("the dataset has no record to train on: {reason}", reason = printable_text(reason))]
    NoData {
        /// The reason.
        reason: String,
    },
    /// A record cannot be turned into a sample.
    #[error("record {record} cannot be trained on", record = printable(record))]
    Record {
        /// The record's id, or its number (from 1) where it has none.
        record: String,
        /// The error.
        #[source]
        source: foehn_tokens::Error,
    },
    /// A conversation has more tokens than a sample may have.
    #[error(
        "record {record} has {length} tokens, a sample at most {limit}: set `too_long` to \"drop\" or \"truncate\", or \
         raise `max_length` if the model's context allows it",
        record = printable(record)
    )]
    TooLong {
        /// The record's id or number.
        record: String,
        /// Its tokens.
        length: usize,
        /// The most tokens of a sample.
        limit: usize,
    },
    /// A record has an answer that supervised fine-tuning would not read.
    #[error(
        "record {record} has a rejected answer, which objective = \"sft\" does not read: set objective = \"dpo\", or \
         remove `rejected`",
        record = printable(record)
    )]
    RejectedAnswer {
        /// The record's id or number.
        record: String,
    },
    /// A record is no pair of a chosen and a rejected answer.
    #[error("record {record} is no pair of answers, which objective = \"dpo\" needs: {reason}", record = printable(record))]
    NotAPair {
        /// The record's id or number.
        record: String,
        /// The reason.
        reason: &'static str,
    },
    /// The last trained token of a turn is not one that stops generation: the model would never learn to stop.
    #[error(
        "record {record}: the last trained token is {found}, which generation does not stop on (it stops on {expected:?}); the template must end an assistant's turn in the model's stop token",
        record = printable(record)
    )]
    StopTokenUntrained {
        /// The record's id or number.
        record: String,
        /// The last trained token's id.
        found: u32,
        /// The ids that stop generation.
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
        /// The number of rows of the embedding.
        vocab_size: usize,
    },
    /// The loss or a gradient became infinite or NaN.
    #[error(
        "the {what} of step {step} is {value}; samples {samples:?}; {advice}",
        advice = advice(last_checkpoint),
        what = printable(what)
    )]
    NotFinite {
        /// `loss`, `gradient norm`, `validation loss`, or the name of the parameter or moment.
        what: String,
        /// The step, from 1.
        step: usize,
        /// The value.
        value: f64,
        /// Ids or numbers of the step's records.
        samples: Vec<String>,
        /// The newest checkpoint before this step.
        last_checkpoint: Option<PathBuf>,
    },
    /// The checkpoint to resume from belongs to another run.
    #[error(
        "the checkpoint {path} was made with `{key}` {old}, this run has {new}; go on with the former, or begin anew in another folder",
        key = printable(key),
        old = printable(old),
        new = printable(new)
    )]
    ResumeMismatch {
        /// The checkpoint.
        path: PathBuf,
        /// The first difference: a setting, or `base`, `tokenizer`, `template` or `dataset`, whose values are hashes.
        key: String,
        /// The checkpoint's value.
        old: String,
        /// The value of the run that was to be resumed.
        new: String,
    },
    /// There is no checkpoint to resume from.
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
    /// The adapter to start from does not match the settings of `lora`.
    #[error(
        "the adapter {path} has {what} {found}, the setting `lora` says {expected}; leave `lora` out to take the adapter's",
        what = printable(what),
        found = printable(found),
        expected = printable(expected)
    )]
    InitAdapter {
        /// The adapter's folder.
        path: PathBuf,
        /// The first difference.
        what: String,
        /// The adapter's value.
        found: String,
        /// The value in the settings.
        expected: String,
    },
    /// The folder already holds a run.
    #[error("{path} already holds a run; resume it, or choose another folder")]
    AlreadyThere {
        /// The run's folder.
        path: PathBuf,
    },
    /// A file of a checkpoint has wrong contents.
    #[error("the checkpoint file {path} is broken: {reason}", reason = printable_text(reason))]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The loss curve could not be drawn.
    #[error("cannot draw the loss curve: {reason}", reason = printable_text(reason))]
    Curve {
        /// The plotting library's message.
        reason: String,
    },
    /// An error of the adapter.
    #[error(transparent)]
    Lora(#[from] foehn_lora::Error),
    /// An error of a checkpoint's tensor files.
    #[error(transparent)]
    Weights(#[from] foehn_weights::Error),
}

fn advice(last_checkpoint: &Option<PathBuf>) -> String {
    match last_checkpoint {
        Some(path) => format!("the last good checkpoint is {}; lower the learning rate", path.display()),
        None => "no checkpoint was written before; lower the learning rate".into(),
    }
}
