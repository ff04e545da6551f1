//! The rejected records, for a person to mend.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::file::write_error;
use crate::read::{ReadConfig, read_with};
use crate::report::{CleanReport, Rejection};

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
    let mut left = report.rejections.iter().peekable();
    for input in inputs {
        for line in read_with(input, reading)? {
            let line = line?;
            let Some(rejection) = left.next_if(|rejection| rejection.place == line.place) else { continue };
            let mut object = match line.record {
                Ok(record) => match serde_json::to_value(&record) {
                    Ok(Value::Object(object)) => object,
                    _ => Map::new(),
                },
                Err(unreadable) => [("excerpt".to_owned(), Value::String(unreadable.excerpt))].into_iter().collect(),
            };
            object.insert("rejection".to_owned(), described(rejection));
            let mut text = Value::Object(object).to_string();
            text.push('\n');
            draft.write_all(text.as_bytes()).map_err(failed)?;
        }
    }
    draft.finish().map_err(failed)
}

fn described(rejection: &Rejection) -> Value {
    let Rejection { place, pass, reason, .. } = rejection;
    json!({ "file": place.file.display().to_string(), "line": place.line, "pass": pass, "reason": reason })
}
