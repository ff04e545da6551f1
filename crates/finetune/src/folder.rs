//! The folder of a run, and its lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::{Error, checkpoint};

const LOCK: &str = ".lock";

/// The folder of a run: `adapter/`, `checkpoints/`, `metrics.jsonl`, `loss.svg`. While this value exists, no other run
/// can use the folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    resumes: bool,
    /// The lock belongs to the open file, so a killed process releases it.
    _lock: File,
}

impl Folder {
    /// Opens the folder of a new run, and creates it if necessary.
    ///
    /// # Errors
    /// [`Error::AlreadyThere`] if the folder already holds a run, [`Error::Locked`] if a run is working in it,
    /// [`Error::File`].
    pub fn begin(path: &Path) -> Result<Self, Error> {
        Self::open(path, false)
    }

    /// Opens the folder of a run to resume.
    ///
    /// # Errors
    /// [`Error::NoCheckpoint`] if there is nothing to resume, [`Error::Locked`], [`Error::File`].
    pub fn resume(path: &Path) -> Result<Self, Error> {
        Self::open(path, true)
    }

    fn open(path: &Path, resumes: bool) -> Result<Self, Error> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        // Checked before and after locking: a refusal must not create the folder, and another run may have changed it
        // meanwhile.
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

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the run in it is resumed.
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
