//! Writes clean records to a file: chat JSON lines, uncompressed or compressed, or Parquet.

mod columns;

use std::io::{self, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::error::{Error, Result};
use foehn_files::Draft;

use crate::file::write_error;
use foehn_record::Record;

pub(crate) use columns::Columns;
use columns::Table;

/// Writes records to a file in the same format as [`clean`](crate::clean()): `.jsonl`, also with `.gz` or `.zst`, or
/// `.parquet`. The file is written atomically.
///
/// # Errors
/// [`Error::OutputFormat`] for another extension, and [`Error::Write`].
pub fn write_clean(path: &Path, records: &[Record]) -> Result<()> {
    let format = Format::of(path)?;
    let mut columns = Columns::default();
    records.iter().for_each(|record| columns.add(record));
    let mut output = Output::new(path, format, columns)?;
    for record in records {
        let line = serde_json::to_vec(record).map_err(|error| write_error(path, error.into()))?;
        output.write(&line, (format == Format::Parquet).then(|| record.clone()))?;
    }
    output.finish()
}

/// The format that a file's name determines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Lines,
    Gzip,
    Zstd,
    Parquet,
}

/// The default of Zstandard: about three times as fast as gzip, with smaller files.
const ZSTD_LEVEL: i32 = 3;

impl Format {
    /// # Errors
    /// [`Error::OutputFormat`].
    pub fn of(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        Ok(if ends(&[".parquet"]) {
            Self::Parquet
        } else if ends(&[".jsonl", ".ndjson", ".json"]) {
            Self::Lines
        } else if ends(&[".jsonl.gz", ".ndjson.gz", ".json.gz"]) {
            Self::Gzip
        } else if ends(&[".jsonl.zst", ".ndjson.zst", ".json.zst"]) {
            Self::Zstd
        } else {
            return Err(Error::OutputFormat { path: path.into() });
        })
    }
}

/// A file of records while it is written. It appears when it is [finished](Self::finish).
pub(crate) struct Output<'a> {
    path: &'a Path,
    sink: Sink,
}

enum Sink {
    Lines(Draft),
    Gzip(GzEncoder<Draft>),
    Zstd(zstd::Encoder<'static, Draft>),
    Parquet(Table<Draft>),
}

impl<'a> Output<'a> {
    /// A file in the given format. For Parquet, `columns` must be computed from all records of the file.
    pub fn new(path: &'a Path, format: Format, columns: Columns) -> Result<Self> {
        let draft = Draft::new(path).map_err(|source| write_error(path, source))?;
        let failed = |source| write_error(path, source);
        let sink = match format {
            Format::Lines => Sink::Lines(draft),
            // The header has no time and no name, so the same records give the same bytes.
            Format::Gzip => Sink::Gzip(GzEncoder::new(draft, Compression::default())),
            Format::Zstd => {
                let mut encoder = zstd::Encoder::new(draft, ZSTD_LEVEL).map_err(failed)?;
                encoder.include_checksum(true).map_err(failed)?;
                Sink::Zstd(encoder)
            }
            Format::Parquet => Sink::Parquet(Table::new(draft, columns).map_err(failed)?),
        };
        Ok(Self { path, sink })
    }

    /// Writes one record, given as its line of JSON. For Parquet, the record itself is needed too.
    pub fn write(&mut self, line: &[u8], record: Option<Record>) -> Result<()> {
        let written = match &mut self.sink {
            Sink::Lines(draft) => write_line(draft, line),
            Sink::Gzip(encoder) => write_line(encoder, line),
            Sink::Zstd(encoder) => write_line(encoder, line),
            Sink::Parquet(table) => record.map_or(Ok(()), |record| table.write(record, line.len())),
        };
        written.map_err(|source| write_error(self.path, source))
    }

    /// Whether the records themselves are needed.
    pub fn is_table(&self) -> bool {
        matches!(self.sink, Sink::Parquet(_))
    }

    /// Completes the file, syncs it, and moves it to its destination.
    pub fn finish(self) -> Result<()> {
        let draft = match self.sink {
            Sink::Lines(draft) => Ok(draft),
            Sink::Gzip(encoder) => encoder.finish(),
            Sink::Zstd(encoder) => encoder.finish(),
            Sink::Parquet(table) => table.finish(),
        };
        draft.and_then(Draft::finish).map_err(|source| write_error(self.path, source))
    }
}

fn write_line(sink: &mut impl Write, line: &[u8]) -> io::Result<()> {
    sink.write_all(line)?;
    sink.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_format() {
        for (name, format) in [
            ("a.jsonl", Some(Format::Lines)),
            ("a.b.JSONL", Some(Format::Lines)),
            ("a.jsonl.gz", Some(Format::Gzip)),
            ("a.ndjson.zst", Some(Format::Zstd)),
            ("a.parquet", Some(Format::Parquet)),
            ("a.csv", None),
            ("a.parquet.gz", None),
            ("a.gz", None),
            ("a", None),
            ("", None),
        ] {
            assert_eq!(Format::of(Path::new(name)).ok(), format, "{name}");
        }
    }
}
