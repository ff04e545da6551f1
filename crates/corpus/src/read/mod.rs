//! Reads files of any supported format, one record at a time.

mod columnar;
mod fault;
mod lines;
mod numbers;
mod objects;
mod packed;
mod pair;
mod question;
mod shape;
mod table;
mod tools;
mod turn;

use std::fs::File;
use std::io::{self, BufRead};
use std::path::Path;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

pub use fault::Fault;

use crate::error::{Error, Result};
use crate::text::content_id;
use columnar::Columnar;
use foehn_record::Record;
use lines::{Chunk, Elements, LIMIT, Lines};
use objects::Objects;
use packed::{Input, Stream};
use table::Table;

/// The place where a record was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The file, as the caller wrote it.
    #[serde(serialize_with = "as_text")]
    pub file: Arc<Path>,
    /// The line, from 1. In a JSON array, the position of the element, from 1. In a CSV file, the line on which the row
    /// begins. In a Parquet file, the row, from 1.
    pub line: u64,
}

/// One record of a file, or the reason why it cannot be read.
#[derive(Debug)]
pub struct Line {
    /// The place where it was read.
    pub place: Place,
    /// The record, if it can be read.
    pub record: std::result::Result<Record, Unreadable>,
    /// The parts of the record that were left out, as paths: side columns and metadata that JSON cannot express (bytes,
    /// NaN, infinity), and keys of messages that do not concern the text.
    pub left_out: Vec<String>,
}

/// A record that cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// The record's own id if it can be read, otherwise the hash of its bytes.
    pub id: String,
    /// The reason.
    pub fault: Fault,
    /// The beginning of the record, at most [`EXCERPT`] characters; invalid bytes are replaced.
    pub excerpt: String,
}

/// The largest number of characters of a text that is shown, in an [`Unreadable`] and in the report.
pub const EXCERPT: usize = 1200;

/// The records of one file, in order. [`read`] returns it.
///
/// It holds one record in memory, at most 16 MiB of it; for a Parquet file, one page of each column. It ends after an
/// error.
pub struct Reader {
    file: Arc<Path>,
    source: Source,
    /// The compression format of the file.
    packed: Option<&'static str>,
    is_empty: bool,
    is_done: bool,
}

enum Source {
    Lines(Lines<Input>),
    Elements(Elements<Input>),
    Objects(Objects<Input>),
    Table(Box<Table<Input>>),
    Columnar(Box<Columnar>),
}

/// The bytes or cells of one record. Any thread can parse it, because nothing else is needed.
pub(crate) struct Raw {
    place: Place,
    content: Content,
}

enum Content {
    Text(Chunk),
    Cells { object: std::result::Result<Map<String, Value>, Fault>, raw: Vec<u8>, left_out: Vec<String> },
}

/// Opens a dataset file: `.jsonl`, `.ndjson`, `.json`, `.csv` or `.parquet`; all but the last also with `.gz` or
/// `.zst`.
///
/// The first character of a JSON file shows whether it is one array or one object per line. A `.json` file whose first
/// object extends over several lines is read as one object after another. An object is a record if it has one of these
/// sets of keys: `messages`, `conversations`, `instruction` and `output`, `prompt` and `completion`, `question` and
/// `answer` (and similar pairs), or `text`. A byte-order mark and blank lines are skipped. A file without an extension is read as JSON if it begins like JSON.
///
/// The first bytes of a file show whether it is compressed; its name does not matter. It is decompressed while it is
/// read.
///
/// A Parquet file is also recognised by its first bytes. A row becomes an object with one key per column. Dates, times
/// and decimals become text, and so do bytes that are UTF-8. Pages may be uncompressed, or compressed with Snappy, gzip
/// or Zstandard.
///
/// Values that JSON cannot express (other bytes, NaN, infinity) are left out of a record's metadata and named in
/// [`Line::left_out`]. In a conversation, a call or a tool they are a fault.
///
/// # Errors
/// [`Error::Open`], [`Error::Folder`], [`Error::UnknownFormat`], [`Error::Columns`], [`Error::Parquet`],
/// [`Error::PackedParquet`], and [`Error::Empty`] for a file of zero bytes. The iterator returns [`Error::Read`],
/// [`Error::Compressed`], [`Error::UnclosedQuote`], [`Error::Parquet`], and [`Error::Empty`] if there was no record.
pub fn read(path: &Path) -> Result<Reader> {
    check_file(path)?;
    let extension = packed::extension(path);
    let file = File::open(path).map_err(|source| Error::Open { path: path.into(), source })?;
    let stream = Stream::new(file).map_err(|source| read_error(path, 0, None, source))?;
    let packed = stream.format();
    let failed = |source| read_error(path, 0, packed, source);
    let mut input = Input::with_capacity(1 << 16, stream);
    let is_parquet = input.fill_buf().map_err(failed)?.starts_with(columnar::MAGIC);
    let Some(first) = first_byte(&mut input).map_err(failed)? else {
        return Err(Error::Empty { path: path.into() });
    };
    let source = match (extension.as_str(), first) {
        ("parquet", _) => open_columnar(path, input)?,
        _ if is_parquet => open_columnar(path, input)?,
        ("csv", _) => Source::Table(Box::new(open_table(path, input)?)),
        ("jsonl" | "ndjson" | "json" | "", b'[') => Source::Elements(Elements::new(input)),
        ("json" | "", b'{') if objects::is_spread(input.fill_buf().map_err(failed)?) => {
            Source::Objects(Objects::new(input))
        }
        ("jsonl" | "ndjson" | "json", _) | ("", b'{') => Source::Lines(Lines::new(input)),
        _ => {
            let path = path.into();
            return Err(Error::UnknownFormat { path, extension });
        }
    };
    Ok(Reader { file: path.into(), source, packed, is_empty: true, is_done: false })
}

/// Checks that a path is an existing file, as far as this is possible without opening it.
pub(crate) fn check_file(path: &Path) -> Result<()> {
    let about = std::fs::metadata(path).map_err(|source| Error::Open { path: path.into(), source })?;
    if about.is_dir() { Err(Error::Folder { path: path.into() }) } else { Ok(()) }
}

/// Reads a file in which every record must be readable, such as one that [`clean`](crate::clean) wrote.
///
/// # Errors
/// As [`read`], and [`Error::Line`] for the first record that cannot be read.
pub fn read_clean(path: &Path) -> Result<Vec<Record>> {
    let record = |line: Result<Line>| {
        let Line { place, record, .. } = line?;
        record.map_err(|unreadable| Error::Line { path: path.into(), line: place.line, source: unreadable.fault })
    };
    read(path)?.map(record).collect()
}

impl Iterator for Reader {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Result<Line>> {
        self.next_raw().map(|raw| raw.map(Raw::parse))
    }
}

impl Reader {
    /// Like the iterator's `next`, but does not parse the record.
    pub(crate) fn next_raw(&mut self) -> Option<Result<Raw>> {
        if self.is_done {
            return None;
        }
        let raw = self.read_raw().transpose();
        self.is_done = !matches!(raw, Some(Ok(_)));
        if raw.is_none() && self.is_empty {
            let path = self.file.as_ref().into();
            return Some(Err(Error::Empty { path }));
        }
        self.is_empty = false;
        raw
    }

    fn read_raw(&mut self) -> Result<Option<Raw>> {
        let (line, content) = match &mut self.source {
            Source::Lines(lines) => match lines.next() {
                Ok(Some(chunk)) => (chunk.number, Content::Text(chunk)),
                Ok(None) => return Ok(None),
                Err(source) => return Err(read_error(&self.file, lines.number(), self.packed, source)),
            },
            Source::Elements(elements) => match elements.next() {
                Ok(Some(chunk)) => (chunk.number, Content::Text(chunk)),
                Ok(None) => return Ok(None),
                Err(source) => return Err(read_error(&self.file, elements.number(), self.packed, source)),
            },
            Source::Objects(objects) => match objects.next() {
                Ok(Some(chunk)) => (chunk.number, Content::Text(chunk)),
                Ok(None) => return Ok(None),
                Err(source) => return Err(read_error(&self.file, objects.number(), self.packed, source)),
            },
            Source::Table(table) => match table.next() {
                Ok(Some(row)) => {
                    (row.line, Content::Cells { object: row.object, raw: row.raw, left_out: row.left_out })
                }
                Ok(None) => return Ok(None),
                Err(source) => return Err(table_error(&self.file, table, self.packed, source)),
            },
            Source::Columnar(columnar) => match columnar.next() {
                Ok(Some(row)) => {
                    (row.number, Content::Cells { object: row.object, raw: row.raw, left_out: row.left_out })
                }
                Ok(None) => return Ok(None),
                Err(source) => {
                    let (path, row) = (self.file.as_ref().into(), columnar.number());
                    return Err(Error::Parquet { path, row, source });
                }
            },
        };
        let place = Place { file: Arc::clone(&self.file), line };
        Ok(Some(Raw { place, content }))
    }
}

impl Raw {
    /// About how many bytes it holds.
    pub fn size(&self) -> usize {
        match &self.content {
            Content::Text(chunk) => chunk.bytes.len(),
            Content::Cells { raw, .. } => 2 * raw.len(),
        }
    }

    pub fn parse(self) -> Line {
        let mut left_out = Vec::new();
        let record = match self.content {
            Content::Text(chunk) => parse(chunk, &mut left_out),
            Content::Cells { object, raw, left_out: cells } => {
                left_out = cells;
                shaped(object.map(Value::Object), &raw, &mut left_out)
            }
        };
        left_out.sort_unstable();
        left_out.dedup();
        Line { place: self.place, record, left_out }
    }
}

/// The first byte that is not white space. Consumes a byte-order mark before it.
fn first_byte(input: &mut Input) -> io::Result<Option<u8>> {
    if input.fill_buf()?.starts_with(b"\xEF\xBB\xBF") {
        input.consume(3);
    }
    let buffer = input.fill_buf()?;
    let visible = buffer.iter().find(|byte| !byte.is_ascii_whitespace());
    Ok(visible.or(buffer.first()).copied())
}

fn open_table(path: &Path, input: Input) -> Result<Table<Input>> {
    let packed = input.get_ref().format();
    let table = Table::new(input).map_err(|source| read_error(path, 0, packed, source))?;
    check_columns(path, table.columns())?;
    Ok(table)
}

fn open_columnar(path: &Path, input: Input) -> Result<Source> {
    let file = input.into_inner().into_file();
    let file = file.map_err(|format| Error::PackedParquet { path: path.into(), format })?;
    let columnar = Columnar::new(file).map_err(|source| Error::Parquet { path: path.into(), row: 0, source })?;
    check_columns(path, columnar.columns())?;
    Ok(Source::Columnar(Box::new(columnar)))
}

fn check_columns(path: &Path, columns: &[String]) -> Result<()> {
    if shape::is_known(|key| columns.iter().any(|column| column == key)) {
        return Ok(());
    }
    Err(Error::Columns { path: path.into(), found: columns.join(", ") })
}

fn parse(chunk: Chunk, left_out: &mut Vec<String>) -> std::result::Result<Record, Unreadable> {
    let value = match chunk.fault {
        Some(fault) => Err(fault),
        None => std::str::from_utf8(&chunk.bytes)
            .map_err(|error| Fault::NotUtf8 { valid_up_to: error.valid_up_to() })
            .and_then(|text| numbers::parse(text, left_out).map_err(|source| Fault::Json { source })),
    };
    shaped(value, &chunk.bytes, left_out)
}

fn shaped(
    value: std::result::Result<Value, Fault>,
    raw: &[u8],
    left_out: &mut Vec<String>,
) -> std::result::Result<Record, Unreadable> {
    let mut own_id = None;
    let record = value.and_then(|value| match value {
        Value::Object(object) => {
            own_id = shape::id(&object);
            shape::record(object, left_out)
        }
        other => Err(Fault::NotAnObject { found: shape::kind(&other) }),
    });
    let unreadable = |fault| Unreadable { id: own_id.unwrap_or_else(|| content_id(raw)), fault, excerpt: excerpt(raw) };
    record.map_err(unreadable)
}

fn excerpt(raw: &[u8]) -> String {
    // A character has at most four bytes.
    let head = &raw[..raw.len().min(4 * EXCERPT)];
    String::from_utf8_lossy(head).chars().take(EXCERPT).collect()
}

fn table_error(path: &Path, table: &Table<Input>, packed: Option<&'static str>, source: io::Error) -> Error {
    if table.is_exhausted() {
        return Error::UnclosedQuote { path: path.into(), line: table.line(), limit: LIMIT };
    }
    read_error(path, table.line(), packed, source)
}

/// An error while reading a compressed file comes from the decoder, unless it has a system error code.
fn read_error(path: &Path, line: u64, packed: Option<&'static str>, source: io::Error) -> Error {
    match packed {
        Some(format) if source.raw_os_error().is_none() => {
            Error::Compressed { path: path.into(), line, format, source }
        }
        _ => Error::Read { path: path.into(), line, source },
    }
}

fn as_text<S: Serializer>(path: &Arc<Path>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}
