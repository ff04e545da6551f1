//! What goes wrong in a run that goes on all the same.

use std::path::PathBuf;

use foehn_files::printable_text;

/// Something that does not stop a run, and that its owner should know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// A checkpoint is damaged; an older one was taken.
    #[error("the checkpoint {path} is damaged and was passed over: {reason}", reason = printable_text(reason))]
    DamagedCheckpoint {
        /// Its folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The run goes on with another setting, which moves what comes.
    #[error("going on with another setting: {change}", change = printable_text(change))]
    Changed {
        /// Key, old and new value, and what follows.
        change: String,
    },
    /// A file that only tells about the run could not be written.
    #[error("{path} could not be written, the run goes on: {reason}", reason = printable_text(reason))]
    NotWritten {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}
