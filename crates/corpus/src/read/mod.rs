//! Reads files of any supported format, one record at a time.

mod columnar;
mod config;
mod decode;
mod delimiter;
mod encoding;
mod fault;
mod lines;
mod map;
mod names;
mod numbers;
mod objects;
mod packed;
mod pair;
mod question;
mod raw;
mod shape;
mod table;
mod tools;
mod turn;

use std::fs::File;
use std::io::{self, BufRead};
use std::path::Path;
use std::sync::Arc;

use serde::{Serialize, Serializer};

pub use config::{Delimiter, ReadAs, ReadConfig};
pub use encoding::Encoding;
pub use fault::Fault;
pub use map::FieldMap;

use crate::error::{Error, Result};
use columnar::Columnar;
use decode::{Decoded, Undecodable};
use foehn_record::Record;
use lines::{Elements, LIMIT, Lines};
use map::Mapping;
use objects::Objects;
use packed::{Input, Stream};
use raw::Content;
pub(crate) use raw::Raw;
use table::Table;

/// The place where a record was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The file, as the caller wrote it.
    #[serde(serialize_with = "as_text")]
    pub file: Arc<Path>,
    /// The line, from 1. In a JSON array, the position of the element, from 1. In a table of text, the line on which the row
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
/// It holds one record in memory, at most 16 MiB of it; for a Parquet file, one page of each column; for a text file
/// also about 1 MiB, by which its encoding is found. It ends after an error.
pub struct Reader {
    file: Arc<Path>,
    source: Source,
    /// The compression format of the file.
    packed: Option<&'static str>,
    delimiter: Option<Delimiter>,
    mapping: Option<Arc<Mapping>>,
    is_empty: bool,
    is_done: bool,
}

/// The decompressed bytes of a text file, as UTF-8.
type Text = Decoded<Input>;

enum Source {
    Lines(Lines<Text>),
    Elements(Elements<Text>),
    Objects(Objects<Text>),
    Table(Box<Table<Text>>),
    Columnar(Box<Columnar>),
}

/// Opens a dataset file: `.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv` (also `.tab`, and `.txt` with tabs) or `.parquet`;
/// all but the last also with `.gz` or `.zst`.
///
/// The first character of a JSON file shows whether it is one array or one object per line. A `.json` file whose first
/// object extends over several lines is read as one object after another. An object is a record if it has one of these
/// sets of keys: `messages`, `conversations`, `instruction` and `output`, `prompt` and `completion`, `question` and
/// `answer` (and similar pairs), or `text`; capitals and spaces around them do not matter. Blank lines are skipped. A file
/// without an extension is read as JSON if it begins like JSON.
///
/// Text is UTF-8, UTF-16, or an older encoding such as Windows-1252, which is found from its bytes; a file that is mostly
/// UTF-8 is read as UTF-8, and its bad lines are faults. The columns of a table are divided by commas, semicolons, tabs
/// or vertical bars, as its first rows or a line such as `sep=;` show.
///
/// The first bytes of a file show whether it is compressed; its name does not matter. It is decompressed while it is
/// read.
///
/// A Parquet file is also recognised by its first bytes. A row becomes an object with one key per column. Dates, times
/// and decimals become text, and so do bytes that are UTF-8. Pages may be uncompressed, or compressed with Snappy, gzip,
/// Zstandard, Brotli or LZ4.
///
/// Values that JSON cannot express (other bytes, NaN, infinity) are left out of a record's metadata and named in
/// [`Line::left_out`]. In a conversation, a call or a tool they are a fault.
///
/// # Errors
/// [`Error::Open`], [`Error::Folder`], [`Error::UnknownFormat`], [`Error::Columns`], [`Error::NoColumn`],
/// [`Error::Parquet`], [`Error::PackedParquet`], [`Error::Utf32`], and [`Error::Empty`] for a file of zero bytes. The
/// iterator returns [`Error::Read`], [`Error::Compressed`], [`Error::MixedEncodings`], [`Error::UnclosedQuote`],
/// [`Error::Parquet`], [`Error::NoColumn`], and [`Error::Empty`] if there was no record.
pub fn read(path: &Path) -> Result<Reader> {
    read_with(path, &ReadConfig::default())
}

/// As [`read`], with an encoding and a delimiter that are given, and with a map of columns to fields.
///
/// The map is applied to the rows and objects of every format, before anything else is looked for in them. A mapped
/// column that no record has is an error; one that a single record does not have rejects that record.
///
/// # Errors
/// As [`read`].
pub fn read_with(path: &Path, config: &ReadConfig) -> Result<Reader> {
    check_file(path)?;
    let extension = packed::extension(path);
    let file = File::open(path).map_err(|source| Error::Open { path: path.into(), source })?;
    let stream = Stream::new(file).map_err(|source| read_error(path, 0, None, source))?;
    let packed = stream.format();
    let failed = |source| read_error(path, 0, packed, source);
    let mut input = Input::with_capacity(1 << 16, stream);
    let head = input.fill_buf().map_err(failed)?;
    if head.is_empty() {
        return Err(Error::Empty { path: path.into() });
    }
    let mapping = (!config.map.is_empty()).then(|| Arc::new(Mapping::new(config.map.clone())));
    let (source, delimiter) = if extension == "parquet" || head.starts_with(columnar::MAGIC) {
        (open_columnar(path, input, mapping.clone())?, None)
    } else {
        let text = Text::new(input, config.encoding).map_err(failed)?;
        open_text(path, &extension, text, config.delimiter, mapping.clone(), packed)?
    };
    Ok(Reader { file: path.into(), source, packed, delimiter, mapping, is_empty: true, is_done: false })
}

fn open_text(
    path: &Path,
    extension: &str,
    mut text: Text,
    delimiter: Option<Delimiter>,
    mapping: Option<Arc<Mapping>>,
    packed: Option<&'static str>,
) -> Result<(Source, Option<Delimiter>)> {
    let failed = |source| read_error(path, 0, packed, source);
    let Some(first) = first_byte(&mut text).map_err(failed)? else {
        return Err(Error::Empty { path: path.into() });
    };
    let source = match (extension, first) {
        ("csv" | "tsv" | "tab", _) => return open_table(path, extension, text, delimiter, mapping, packed),
        ("txt", _) if has_tab(text.fill_buf().map_err(failed)?) => {
            return open_table(path, extension, text, delimiter, mapping, packed);
        }
        ("jsonl" | "ndjson" | "json" | "", b'[') => Source::Elements(Elements::new(text)),
        ("json" | "", b'{') if objects::is_spread(text.fill_buf().map_err(failed)?) => {
            Source::Objects(Objects::new(text))
        }
        ("jsonl" | "ndjson" | "json", _) | ("", b'{') => Source::Lines(Lines::new(text)),
        _ => {
            let (path, extension) = (path.into(), extension.to_owned());
            return Err(Error::UnknownFormat { path, extension });
        }
    };
    Ok((source, None))
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
        match self.next_raw() {
            Some(Ok(raw)) => Some(Ok(raw.parse())),
            Some(Err(error)) => {
                self.mapping = None;
                Some(Err(error))
            }
            None => check_map(&self.file, self.mapping.take().as_deref()).err().map(Err),
        }
    }
}

impl Reader {
    /// How the file is read. The encoding is the one that was found so far: a file of ASCII counts as UTF-8.
    pub fn read_as(&self) -> ReadAs {
        ReadAs { file: self.file.display().to_string(), encoding: self.encoding(), delimiter: self.delimiter }
    }

    fn encoding(&self) -> Encoding {
        match &self.source {
            Source::Lines(lines) => lines.input().encoding(),
            Source::Elements(elements) => elements.input().encoding(),
            Source::Objects(objects) => objects.input().encoding(),
            Source::Table(table) => table.input().encoding(),
            Source::Columnar(_) => Encoding::UTF_8,
        }
    }

    /// A check of the map after all records have been parsed: every column must have been in one of them.
    pub(crate) fn map_check(&self) -> impl FnOnce() -> Result<()> + Send + use<> {
        let (file, mapping) = (Arc::clone(&self.file), self.mapping.clone());
        move || check_map(&file, mapping.as_deref())
    }

    /// Like the iterator's `next`, but does not parse the record, and does not check the map at the end.
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
        Ok(Some(Raw::new(place, content, self.encoding(), self.mapping.clone())))
    }
}

/// The first byte that is not white space.
fn first_byte(text: &mut Text) -> io::Result<Option<u8>> {
    let buffer = text.fill_buf()?;
    let visible = buffer.iter().find(|byte| !byte.is_ascii_whitespace());
    Ok(visible.or(buffer.first()).copied())
}

/// Whether the first line has a tab, as in a spreadsheet that was saved as text.
fn has_tab(head: &[u8]) -> bool {
    let head = head.trim_ascii_start();
    head.split(|byte| matches!(byte, b'\r' | b'\n')).next().is_some_and(|line| line.contains(&b'\t'))
}

fn open_table(
    path: &Path,
    extension: &str,
    mut text: Text,
    asked: Option<Delimiter>,
    mapping: Option<Arc<Mapping>>,
    packed: Option<&'static str>,
) -> Result<(Source, Option<Delimiter>)> {
    let failed = |source| read_error(path, 0, packed, source);
    let head = text.fill_buf().map_err(failed)?;
    let declared = delimiter::declared(head);
    let usual = if extension == "csv" { Delimiter::COMMA } else { Delimiter::TAB };
    let is_known = |columns: &[String]| is_known(columns, mapping.as_deref());
    let found = || delimiter::found(head, usual, is_known);
    let delimiter = asked.or(declared.map(|(delimiter, _)| delimiter)).unwrap_or_else(found);
    let skipped = declared.map_or(0, |(_, length)| length);
    text.consume(skipped);
    let table = Table::new(text, delimiter, u64::from(skipped > 0), mapping.clone()).map_err(failed)?;
    check_columns(path, table.columns(), mapping.as_deref())?;
    Ok((Source::Table(Box::new(table)), Some(delimiter)))
}

fn open_columnar(path: &Path, input: Input, mapping: Option<Arc<Mapping>>) -> Result<Source> {
    let file = input.into_inner().into_file();
    let file = file.map_err(|format| Error::PackedParquet { path: path.into(), format })?;
    let opened = Columnar::new(file, mapping.clone());
    let columnar = opened.map_err(|source| Error::Parquet { path: path.into(), row: 0, source })?;
    check_columns(path, columnar.columns(), mapping.as_deref())?;
    Ok(Source::Columnar(Box::new(columnar)))
}

fn is_known(columns: &[String], mapping: Option<&Mapping>) -> bool {
    mapping.map_or_else(|| names::are_known(columns), |mapping| mapping.makes_known(columns))
}

fn check_columns(path: &Path, columns: &[String], mapping: Option<&Mapping>) -> Result<()> {
    let found = columns.join(", ");
    if let Some(column) = mapping.and_then(|mapping| mapping.missing_in(columns)) {
        return Err(Error::NoColumn { path: path.into(), column: column.to_owned(), found });
    }
    if is_known(columns, mapping) {
        return Ok(());
    }
    Err(Error::Columns { path: path.into(), found, example: names::example(columns) })
}

fn check_map(path: &Path, mapping: Option<&Mapping>) -> Result<()> {
    match mapping.and_then(Mapping::missing) {
        None => Ok(()),
        Some((column, found)) => {
            Err(Error::NoColumn { path: path.into(), column: column.to_owned(), found: found.to_owned() })
        }
    }
}

fn table_error(path: &Path, table: &Table<Text>, packed: Option<&'static str>, source: io::Error) -> Error {
    if table.is_exhausted() {
        return Error::UnclosedQuote { path: path.into(), line: table.line(), limit: LIMIT };
    }
    read_error(path, table.line(), packed, source)
}

/// An error while reading a compressed file comes from the decoder, unless it has a system error code.
fn read_error(path: &Path, line: u64, packed: Option<&'static str>, source: io::Error) -> Error {
    match source.get_ref().and_then(|cause| cause.downcast_ref::<Undecodable>()) {
        Some(Undecodable::Utf32) => return Error::Utf32 { path: path.into() },
        Some(Undecodable::Mixed(encoding)) => {
            return Error::MixedEncodings { path: path.into(), line, encoding: *encoding };
        }
        None => {}
    }
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
