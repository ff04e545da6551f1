//! The rejected records, for a person to mend.

use std::io::Write;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::file::write_error;
use crate::read::{ReadConfig, read_with};
use crate::report::CleanReport;

/// Writes every rejected record as it was read, before any repair, as JSON lines. A record has a field `rejection` with its
/// file, its line, the pass and the reason; what cannot be read as a record has the beginning of its text as `excerpt`.
///
/// The inputs are read again; they must be those of the report, unchanged. Once mended, the file is an input like any other.
/// Personal data that a pass masks in the clean file is not masked here.
///
/// # Errors
/// Any error of [`read_with`], and [`Error::Write`](crate::Error::Write).
pub fn write_rejects(inputs: &[PathBuf], reading: &ReadConfig, report: &CleanReport, out: &Path) -> Result<()> {
    let failed = |source| write_error(out, source);
    let mut draft = foehn_files::Draft::new(out).map_err(failed)?;
    let found = report.rejections.iter().map(|found| Found {
        file: found.place.file.display().to_string(),
        line: found.place.line,
        pass: &found.pass,
        reason: &found.reason,
    });
    let mut left = found.peekable();
    for input in inputs {
        write_file(input, reading, &mut left, |line| draft.write_all(line).map_err(failed))?;
    }
    draft.finish().map_err(failed)
}

/// A rejection.
pub(super) struct Found<'a> {
    pub file: String,
    pub line: u64,
    pub pass: &'a str,
    pub reason: &'a str,
}

/// Writes the rejected records of one file, those that come next among the rejections that are left.
pub(super) fn write_file<'a>(
    input: &Path,
    reading: &ReadConfig,
    left: &mut Peekable<impl Iterator<Item = Found<'a>>>,
    mut write: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let file = input.display().to_string();
    for line in read_with(input, reading)? {
        let line = line?;
        let Some(found) = left.next_if(|found| found.line == line.place.line && found.file == file) else { continue };
        let mut object = match line.record {
            Ok(record) => match serde_json::to_value(&record) {
                Ok(Value::Object(object)) => object,
                _ => Map::new(),
            },
            Err(unreadable) => [("excerpt".to_owned(), Value::String(unreadable.excerpt))].into_iter().collect(),
        };
        let Found { file, line, pass, reason } = found;
        object.insert("rejection".to_owned(), json!({ "file": file, "line": line, "pass": pass, "reason": reason }));
        let mut text = Value::Object(object).to_string();
        text.push('\n');
        write(text.as_bytes())?;
    }
    Ok(())
}
