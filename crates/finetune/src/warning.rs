//! Problems that do not end a run.

use std::path::PathBuf;

use foehn_files::printable_text;

use crate::Fitting;

/// A problem that does not stop the run but that the user should know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// A checkpoint is damaged; an older one was taken.
    #[error("the checkpoint {path} is damaged and was passed over: {reason}", reason = printable_text(reason))]
    DamagedCheckpoint {
        /// Its folder.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// Records are longer than a sample may be, and the settings say what is done with them.
    #[error("of the {set} records: {fitting}")]
    Length {
        /// `training` or `validation`.
        set: &'static str,
        /// What became of them.
        fitting: Fitting,
    },
    /// The run goes on with another setting, which moves what comes.
    #[error("going on with another setting: {change}", change = printable_text(change))]
    Changed {
        /// The key, its old and new value, and the effect.
        change: String,
    },
    /// A file that only tells about the run could not be written.
    #[error("{path} could not be written, the run goes on: {reason}", reason = printable_text(reason))]
    NotWritten {
        /// The file.
        path: PathBuf,
        /// The system's error.
        reason: String,
    },
}
