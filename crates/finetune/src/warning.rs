//! Problems that do not end a run.

use std::path::PathBuf;

/// A problem that does not stop the run but that the user should know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// A checkpoint is damaged; an older one was used.
    #[error("the checkpoint {path} is damaged and was skipped: {reason}")]
    DamagedCheckpoint {
        /// Its folder.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The run continues with a changed setting that affects the remaining steps.
    #[error("continuing with a changed setting: {change}")]
    Changed {
        /// The key, its old and new value, and the effect.
        change: String,
    },
    /// A file that only informs about the run could not be written.
    #[error("{path} could not be written; the run continues: {reason}")]
    NotWritten {
        /// The file.
        path: PathBuf,
        /// The system's error.
        reason: String,
    },
}
