//! The mark of a clean file: the pipeline that made it, and the hash of the file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::file::{write_error, write_json};

/// The contents of the mark file.
#[derive(Serialize, Deserialize)]
struct Mark {
    /// The hash of the pipeline.
    pipeline: String,
    /// The SHA-256 of the clean file.
    sha256: String,
    /// The number of records in it.
    records: u64,
}

/// A mark has a few hundred bytes. A longer file is not a mark.
const MAX_MARK: u64 = 1 << 16;

/// The path of a clean file's mark: `clean.jsonl.clean.json` beside `clean.jsonl`.
pub fn mark_path(clean: &Path) -> PathBuf {
    let mut name = clean.as_os_str().to_owned();
    name.push(".clean.json");
    name.into()
}

/// The hash of the pipeline that made the file, as given by [`Pipeline::hash`](crate::Pipeline::hash). `None` for a
/// file that was not made by cleaning, or that has changed since.
///
/// A file with a valid mark can be used for training without cleaning. This function reads the whole file once, to
/// compute its hash.
///
/// # Errors
/// [`Error::Open`] for a file that cannot be read. A missing or damaged mark is not an error: the file then counts as
/// not clean.
pub fn is_clean(path: &Path) -> Result<Option<String>> {
    let found = sha256_of(path).map_err(|source| Error::Open { path: path.into(), source })?;
    let mark = read(&mark_path(path)).filter(|mark| mark.sha256 == found);
    Ok(mark.map(|mark| mark.pipeline))
}

/// Writes the mark of a new clean file. If the file has no records, an old mark is removed.
pub(super) fn set(out: &Path, pipeline: &str, records: u64) -> Result<()> {
    let path = mark_path(out);
    if records == 0 {
        return match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(write_error(&path, error)),
            _ => Ok(()),
        };
    }
    let sha256 = sha256_of(out).map_err(|source| Error::Open { path: out.into(), source })?;
    let mark = Mark { pipeline: pipeline.to_owned(), sha256, records };
    write_json(&path, &mark)
}

fn read(path: &Path) -> Option<Mark> {
    let file = File::open(path).ok()?;
    serde_json::from_reader(io::Read::take(file, MAX_MARK)).ok()
}

fn sha256_of(path: &Path) -> io::Result<String> {
    let (mut file, mut hasher, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        match io::Read::read(&mut file, &mut buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
