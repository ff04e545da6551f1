//! A run's folder, which one run at a time holds.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::{Error, checkpoint};

const LOCK: &str = ".lock";

/// A run's folder: `adapter/`, `checkpoints/`, `metrics.jsonl`, `loss.svg`. While this lives, no other run gets it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    resumes: bool,
    /// The lock goes with the open file, so that a killed run leaves none.
    _lock: File,
}

impl Folder {
    /// The folder of a new run, made where there is none.
    ///
    /// # Errors
    /// [`Error::AlreadyThere`] where a run has been, [`Error::Locked`] where one is now, [`Error::File`].
    pub fn begin(path: &Path) -> Result<Self, Error> {
        Self::open(path, false)
    }

    /// The folder of a run that is to go on.
    ///
    /// # Errors
    /// [`Error::NoCheckpoint`] where there is nothing to go on from, [`Error::Locked`], [`Error::File`].
    pub fn resume(path: &Path) -> Result<Self, Error> {
        Self::open(path, true)
    }

    fn open(path: &Path, resumes: bool) -> Result<Self, Error> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        // Looked at before and under the lock: a refusal makes no folder, and another run cannot come in between.
        check(path, resumes)?;
        fs::create_dir_all(path).map_err(failed)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        check(path, resumes)?;
        for folder in [path.to_owned(), path.join("adapter"), path.join("checkpoints")] {
            foehn_files::remove_left_overs(&folder).map_err(|(path, source)| Error::File { path, source })?;
        }
        Ok(Self { path: path.to_owned(), resumes, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the run in it is to go on.
    pub fn resumes(&self) -> bool {
        self.resumes
    }

    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    pub(crate) fn adapter(&self) -> PathBuf {
        self.path.join("adapter")
    }

    pub(crate) fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    #[cfg(feature = "curve")]
    pub(crate) fn picture(&self) -> PathBuf {
        self.path.join("loss.svg")
    }
}

fn check(path: &Path, resumes: bool) -> Result<(), Error> {
    let is_begun = !checkpoint::all(&path.join("checkpoints"))?.is_empty();
    match resumes {
        true if !is_begun => Err(Error::NoCheckpoint { path: path.to_owned() }),
        false if is_begun || path.join("adapter").exists() => Err(Error::AlreadyThere { path: path.to_owned() }),
        _ => Ok(()),
    }
}
