//! Files to records, one at a time, whatever the format.

mod columnar;
mod fault;
mod lines;
mod numbers;
mod objects;
mod packed;
mod shape;
mod table;
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
    /// What the record does without, as paths: side columns and metadata that JSON has no value for (bytes, NaN,
    /// infinity), and keys of messages that say nothing of the text.
    pub left_out: Vec<String>,
}

/// A record that cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// The record's own id where that much can be read, else the hash of its bytes.
    pub id: String,
    /// What is wrong with it.
    pub fault: Fault,
    /// How it begins, at most [`EXCERPT`] characters; bytes that are no text are replaced.
    pub excerpt: String,
}

/// How many characters of a text are shown, in an [`Unreadable`] and in the report.
pub const EXCERPT: usize = 1200;

/// The records of one file, in order. Made by [`read`].
///
/// It holds one record in memory, at most 16 MiB of it; of a Parquet file a page of each column. An error ends it.
pub struct Reader {
    file: Arc<Path>,
    source: Source,
    /// What the file is packed with.
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

/// One record's bytes or cells. Making a record of them takes nothing else, so that any thread may do it.
pub(crate) struct Raw {
    place: Place,
    content: Content,
}

enum Content {
    Text(Chunk),
    Cells { object: std::result::Result<Map<String, Value>, Fault>, raw: Vec<u8>, left_out: Vec<String> },
}

/// Opens a dataset file: `.jsonl`, `.ndjson`, `.json`, `.csv` or `.parquet`; all but the last also with `.gz` or `.zst`.
///
/// Whether a JSON file holds one array or one object a line is told by its first character; a `.json` whose first object
/// goes over several lines holds one object after another. What makes an object a
/// record by its keys: `messages`, `conversations`, `instruction` and `output`, `prompt` and `completion`, or `text`.
/// A byte-order mark is skipped, and so are blank lines. A file without an extension is JSON where it begins as JSON does.
///
/// Whether a file is packed, its first bytes say, whatever its name. It is unpacked as it is read.
///
/// A Parquet file is known by its first bytes too. A row is the object of its columns: dates, times and decimals are
/// text, as are bytes that are UTF-8. It is read uncompressed or with Snappy, gzip or Zstandard.
///
/// What JSON has no value for (other bytes, NaN, infinity) is left out of a record's metadata, and named in
/// [`Line::left_out`]; in a conversation it is a fault.
///
/// # Errors
/// [`Error::Open`], [`Error::Folder`], [`Error::UnknownFormat`], [`Error::Columns`], [`Error::Parquet`],
/// [`Error::PackedParquet`], and [`Error::Empty`] for a file of no bytes. The iterator gives [`Error::Read`],
/// [`Error::Compressed`], [`Error::UnclosedQuote`], [`Error::Parquet`], and [`Error::Empty`] where no record came.
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

/// Whether a path is a file that is there, as far as that can be told without opening it.
pub(crate) fn check_file(path: &Path) -> Result<()> {
    let about = std::fs::metadata(path).map_err(|source| Error::Open { path: path.into(), source })?;
    if about.is_dir() { Err(Error::Folder { path: path.into() }) } else { Ok(()) }
}

/// Reads a file in which every record has to be readable, such as one that [`clean`](crate::clean) wrote.
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
    /// As the iterator's `next`, with the record still to be made.
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
    /// The bytes that it holds, about.
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

/// The first byte that is no white space, after a byte-order mark, which is consumed.
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
    // A character has four bytes at most.
    let head = &raw[..raw.len().min(4 * EXCERPT)];
    String::from_utf8_lossy(head).chars().take(EXCERPT).collect()
}

fn table_error(path: &Path, table: &Table<Input>, packed: Option<&'static str>, source: io::Error) -> Error {
    if table.is_exhausted() {
        return Error::UnclosedQuote { path: path.into(), line: table.line(), limit: LIMIT };
    }
    read_error(path, table.line(), packed, source)
}

/// An error of a packed file is the decoder's, unless the system gave it.
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
