//! What this crate's errors say of files that are written.

use std::io;
use std::path::Path;

use crate::error::Error;

pub(crate) fn write_error(path: &Path, source: io::Error) -> Error {
    Error::Write { path: path.into(), source }
}
