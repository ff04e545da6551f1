//! The mark of a clean file: which pipeline made it, and of which bytes that is true.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::file::{write_error, write_json};
use crate::report::Report;

/// What stands beside a clean file.
#[derive(Serialize, Deserialize)]
struct Mark {
    /// The hash of the pipeline.
    pipeline: String,
    /// The SHA-256 of the clean file.
    sha256: String,
    /// The records in it.
    records: u64,
}

/// A mark is a few hundred bytes; what is longer is none.
const MAX_MARK: u64 = 1 << 16;

/// Where the mark of a clean file stands: `clean.jsonl.clean.json` beside `clean.jsonl`.
pub fn mark_path(clean: &Path) -> PathBuf {
    let mut name = clean.as_os_str().to_owned();
    name.push(".clean.json");
    name.into()
}

/// The hash of the pipeline that made the file, as [`Pipeline::hash`](crate::Pipeline::hash) gives it; none for a file
/// that cleaning has not made, or that has changed since.
///
/// A file of records that has its mark can be trained on as it is. The file is read once, to compare its hash.
///
/// # Errors
/// [`Error::Open`] for a file that cannot be read. A mark that is missing or damaged is no error: then the file is not
/// known to be clean.
pub fn is_clean(path: &Path) -> Result<Option<String>> {
    let found = sha256_of(path).map_err(|source| Error::Open { path: path.into(), source })?;
    let mark = read(&mark_path(path)).filter(|mark| mark.sha256 == found);
    Ok(mark.map(|mark| mark.pipeline))
}

/// Sets the mark of a file that was just written. One that holds no record loses its mark.
pub(super) fn set(out: &Path, report: &Report) -> Result<()> {
    let path = mark_path(out);
    if report.kept == 0 {
        return match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(write_error(&path, error)),
            _ => Ok(()),
        };
    }
    let sha256 = sha256_of(out).map_err(|source| Error::Open { path: out.into(), source })?;
    let mark = Mark { pipeline: report.pipeline.clone(), sha256, records: report.kept };
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
