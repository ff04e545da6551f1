//! Files to records, one at a time, whatever the format.

mod columnar;
mod fault;
mod lines;
mod shape;
mod table;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;

pub use fault::Fault;

use crate::error::{Error, Result};
use crate::record::Record;
use crate::text::content_id;
use columnar::Columnar;
use lines::{Chunk, Elements, LIMIT, Lines};
use table::Table;

/// Where a record was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The file, as the caller named it.
    #[serde(serialize_with = "as_text")]
    pub file: Arc<Path>,
    /// The line from 1; in a JSON array the element's position from 1; in a CSV file the line on which the row begins; in a Parquet file the
    /// row from 1.
    pub line: u64,
}

/// One record of a file, or the reason that it cannot be read.
#[derive(Debug)]
pub struct Line {
    /// Where it was read.
    pub place: Place,
    /// The record, if it can be read.
    pub record: std::result::Result<Record, Unreadable>,
}

/// A record that cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// The record's own id where that much can be read, else the hash of its bytes.
    pub id: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// The records of one file, in order. Made by [`read`].
///
/// It holds one record in memory, at most 16 MiB of it; of a Parquet file a page of each column. An error ends it.
pub struct Reader {
    file: Arc<Path>,
    source: Source,
    is_empty: bool,
    is_done: bool,
}

enum Source {
    Lines(Lines<BufReader<File>>),
    Elements(Elements<BufReader<File>>),
    Table(Box<Table<BufReader<File>>>),
    Columnar(Box<Columnar>),
}

/// Opens a dataset file: `.jsonl`, `.ndjson`, `.json`, `.csv` or `.parquet`.
///
/// Whether a JSON file holds one array or one object a line is told by its first character, and what makes an object a
/// record by its keys: `messages`, `conversations`, `instruction` and `output`, `prompt` and `completion`, or `text`.
/// A byte-order mark is skipped, and so are blank lines.
///
/// A Parquet file is known by its first bytes too, whatever its name. A row is the object of its columns: dates, times and
/// decimals are text, as are bytes that are UTF-8; NaN is null. It is read uncompressed or with Snappy, gzip or Zstandard.
///
/// # Errors
/// [`Error::Open`], [`Error::Folder`], [`Error::UnknownFormat`], [`Error::Columns`], [`Error::Parquet`], and [`Error::Empty`] for a file of
/// no bytes. The iterator gives [`Error::Read`], [`Error::UnclosedQuote`], [`Error::Parquet`], and [`Error::Empty`] where no record came.
pub fn read(path: &Path) -> Result<Reader> {
    let open_error = |source| Error::Open { path: path.into(), source };
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let extension = extension.to_ascii_lowercase();
    let file = File::open(path).map_err(open_error)?;
    if file.metadata().map_err(open_error)?.is_dir() {
        return Err(Error::Folder { path: path.into() });
    }
    let mut input = BufReader::with_capacity(1 << 16, file);
    let is_parquet = input.fill_buf().map_err(|source| read_error(path, 0, source))?.starts_with(columnar::MAGIC);
    let first = first_byte(&mut input).map_err(|source| read_error(path, 0, source))?;
    let Some(first) = first else {
        return Err(Error::Empty { path: path.into() });
    };
    let source = match (extension.as_str(), first) {
        ("parquet", _) => open_columnar(path, input)?,
        _ if is_parquet => open_columnar(path, input)?,
        ("csv", _) => Source::Table(Box::new(open_table(path, input)?)),
        ("jsonl" | "ndjson" | "json", b'[') => Source::Elements(Elements::new(input)),
        ("jsonl" | "ndjson" | "json", _) => Source::Lines(Lines::new(input)),
        _ => {
            let path = path.into();
            return Err(Error::UnknownFormat { path, extension });
        }
    };
    Ok(Reader { file: path.into(), source, is_empty: true, is_done: false })
}

/// Reads a file in which every record has to be readable, such as one that [`clean`](crate::clean) wrote.
///
/// # Errors
/// As [`read`], and [`Error::Line`] for the first record that cannot be read.
pub fn read_clean(path: &Path) -> Result<Vec<Record>> {
    let record = |line: Result<Line>| {
        let Line { place, record } = line?;
        record.map_err(|unreadable| Error::Line { path: path.into(), line: place.line, source: unreadable.fault })
    };
    read(path)?.map(record).collect()
}

impl Iterator for Reader {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Result<Line>> {
        if self.is_done {
            return None;
        }
        let line = self.read_line().transpose();
        self.is_done = !matches!(line, Some(Ok(_)));
        if line.is_none() && self.is_empty {
            let path = self.file.as_ref().into();
            return Some(Err(Error::Empty { path }));
        }
        self.is_empty = false;
        line
    }
}

impl Reader {
    fn read_line(&mut self) -> Result<Option<Line>> {
        let (number, record) = match &mut self.source {
            Source::Lines(lines) => match lines.next() {
                Ok(Some(chunk)) => parse(chunk),
                Ok(None) => return Ok(None),
                Err(source) => return Err(read_error(&self.file, lines.number(), source)),
            },
            Source::Elements(elements) => match elements.next() {
                Ok(Some(chunk)) => parse(chunk),
                Ok(None) => return Ok(None),
                Err(source) => return Err(read_error(&self.file, elements.number(), source)),
            },
            Source::Table(table) => match table.next() {
                Ok(Some(row)) => {
                    let object = row.object.map(Value::Object);
                    (row.line, shaped(object, &row.raw))
                }
                Ok(None) => return Ok(None),
                Err(source) => return Err(table_error(&self.file, table, source)),
            },
            Source::Columnar(columnar) => match columnar.next() {
                Ok(Some(row)) => {
                    let object = row.object.map(Value::Object);
                    (row.number, shaped(object, &row.raw))
                }
                Ok(None) => return Ok(None),
                Err(source) => {
                    let (path, row) = (self.file.as_ref().into(), columnar.number());
                    return Err(Error::Parquet { path, row, source });
                }
            },
        };
        let place = Place { file: Arc::clone(&self.file), line: number };
        Ok(Some(Line { place, record }))
    }
}

/// The first byte that is no white space, after a byte-order mark, which is consumed.
fn first_byte(input: &mut BufReader<File>) -> io::Result<Option<u8>> {
    if input.fill_buf()?.starts_with(b"\xEF\xBB\xBF") {
        input.consume(3);
    }
    let buffer = input.fill_buf()?;
    let visible = buffer.iter().find(|byte| !byte.is_ascii_whitespace());
    Ok(visible.or(buffer.first()).copied())
}

fn open_table(path: &Path, input: BufReader<File>) -> Result<Table<BufReader<File>>> {
    let table = Table::new(input).map_err(|source| read_error(path, 0, source))?;
    check_columns(path, table.columns())?;
    Ok(table)
}

fn open_columnar(path: &Path, input: BufReader<File>) -> Result<Source> {
    let columnar =
        Columnar::new(input.into_inner()).map_err(|source| Error::Parquet { path: path.into(), row: 0, source })?;
    check_columns(path, columnar.columns())?;
    Ok(Source::Columnar(Box::new(columnar)))
}

fn check_columns(path: &Path, columns: &[String]) -> Result<()> {
    if shape::is_known(|key| columns.iter().any(|column| column == key)) {
        return Ok(());
    }
    Err(Error::Columns { path: path.into(), found: columns.join(", ") })
}

fn parse(chunk: Chunk) -> (u64, std::result::Result<Record, Unreadable>) {
    let value = match chunk.fault {
        Some(fault) => Err(fault),
        None => std::str::from_utf8(&chunk.bytes)
            .map_err(|error| Fault::NotUtf8 { valid_up_to: error.valid_up_to() })
            .and_then(|text| serde_json::from_str(text).map_err(|source| Fault::Json { source })),
    };
    (chunk.number, shaped(value, &chunk.bytes))
}

fn shaped(value: std::result::Result<Value, Fault>, raw: &[u8]) -> std::result::Result<Record, Unreadable> {
    let mut own_id = None;
    let record = value.and_then(|value| match value {
        Value::Object(object) => {
            own_id = shape::id(&object);
            shape::record(object)
        }
        other => Err(Fault::NotAnObject { found: shape::kind(&other) }),
    });
    record.map_err(|fault| Unreadable { id: own_id.unwrap_or_else(|| content_id(raw)), fault })
}

fn table_error(path: &Path, table: &Table<BufReader<File>>, source: io::Error) -> Error {
    if table.is_exhausted() {
        return Error::UnclosedQuote { path: path.into(), line: table.line(), limit: LIMIT };
    }
    read_error(path, table.line(), source)
}

fn read_error(path: &Path, line: u64, source: io::Error) -> Error {
    Error::Read { path: path.into(), line, source }
}

fn as_text<S: Serializer>(path: &Arc<Path>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}
