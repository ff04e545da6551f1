//! Writes this crate's files, with its errors.

use std::io;
use std::path::Path;

use foehn_files::printable_json;
use serde::Serialize;

use crate::error::{Error, Result};

pub(crate) fn write_error(path: &Path, source: io::Error) -> Error {
    Error::Write { path: path.into(), source }
}

/// Writes a value as indented JSON that can be printed.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| write_error(path, error.into()))?;
    write(path, &format!("{}\n", printable_json(text)))
}

/// Writes a text, atomically.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    foehn_files::write(path, text.as_bytes()).map_err(|source| write_error(path, source))
}
