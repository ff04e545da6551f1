//! The rows of a CSV file with named columns, as objects of texts.

use std::io::{self, BufRead};
use std::sync::Arc;

use csv_core::ReadRecordResult;
use serde_json::{Map, Value};

use super::Fault;
use super::config::Delimiter;
use super::lines::{LIMIT, fill};
use super::map::Mapping;
use super::names::simple;
use super::shape::is_needed;

/// The rows after the header.
pub(super) struct Table<R> {
    input: R,
    parser: csv_core::Reader,
    columns: Vec<String>,
    mapping: Option<Arc<Mapping>>,
    cells: Cells,
    lines: LineCount,
    row: u64,
    is_exhausted: bool,
}

/// One row: its first line, its bytes as one text for hashing, and its values by column.
pub(super) struct Row {
    pub line: u64,
    pub raw: Vec<u8>,
    pub object: Result<Map<String, Value>, Fault>,
    /// The columns that were left out: their cells are not text and are not needed.
    pub left_out: Vec<String>,
}

impl<R: BufRead> Table<R> {
    /// Reads the header, after this number of lines that are no part of the table. In a name that is not UTF-8, invalid
    /// bytes are replaced: it matches no known column.
    pub fn new(input: R, delimiter: Delimiter, skipped: u64, mapping: Option<Arc<Mapping>>) -> io::Result<Self> {
        let parser = csv_core::ReaderBuilder::new().delimiter(delimiter.byte()).build();
        let (columns, cells, lines) = (Vec::new(), Cells::default(), LineCount::after(skipped));
        let mut table = Self { input, parser, columns, mapping, cells, lines, row: 0, is_exhausted: false };
        table.read_row()?;
        table.columns = table.cells.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        Ok(table)
    }

    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    pub fn input(&self) -> &R {
        &self.input
    }

    /// The line on which the last row began.
    pub fn line(&self) -> u64 {
        self.row
    }

    /// Whether the last error was a row longer than the limit.
    pub fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }

    /// The next row; `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<Row>> {
        if !self.read_row()? {
            return Ok(None);
        }
        let raw = self.cells.iter().collect::<Vec<_>>().join(&b"\0"[..]);
        let mut left_out = Vec::new();
        let object = self.object(&mut left_out);
        Ok(Some(Row { line: self.row, raw, object, left_out }))
    }

    /// Reads the cells of the next row that is not blank. Returns false at the end.
    ///
    /// With an unclosed quotation mark, the rest of the file would be read into memory. So a row longer than [`LIMIT`]
    /// is an error.
    fn read_row(&mut self) -> io::Result<bool> {
        self.skip_breaks()?;
        self.row = self.lines.next;
        self.cells.clear();
        let mut read = 0;
        loop {
            let input = fill(&mut self.input)?;
            let (result, used) = self.cells.parse(&mut self.parser, input);
            self.lines.pass(&input[..used]);
            self.input.consume(used);
            read += used;
            if read > LIMIT {
                self.is_exhausted = true;
                return Err(io::Error::other("the row is too long"));
            }
            match result {
                ReadRecordResult::Record => return Ok(true),
                ReadRecordResult::End => return Ok(false),
                _ => {}
            }
        }
    }

    /// Skips the end of the previous row, and blank lines.
    fn skip_breaks(&mut self) -> io::Result<()> {
        loop {
            let input = fill(&mut self.input)?;
            let breaks = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.lines.pass(&input[..breaks]);
            let is_done = breaks < input.len() || breaks == 0;
            self.input.consume(breaks);
            if is_done {
                return Ok(());
            }
        }
    }

    /// The row's non-empty cells under the names of their columns.
    fn object(&self, left_out: &mut Vec<String>) -> Result<Map<String, Value>, Fault> {
        let (expected, found) = (self.columns.len(), self.cells.count);
        if found != expected {
            return Err(Fault::Cells { expected, found });
        }
        let mut object = Map::new();
        for (column, cell) in self.columns.iter().zip(self.cells.iter()) {
            let text = match std::str::from_utf8(cell) {
                Ok(text) => text,
                Err(error) if self.is_needed(column) => {
                    return Err(Fault::NotUtf8 { valid_up_to: error.valid_up_to() });
                }
                Err(_) => {
                    left_out.push(column.clone());
                    continue;
                }
            };
            if text.is_empty() {
                self.empty(column).into_iter().for_each(|value| drop(object.insert(column.clone(), value)));
            } else {
                object.insert(column.clone(), Value::from(text));
            }
        }
        Ok(object)
    }

    fn is_needed(&self, column: &str) -> bool {
        self.mapping.as_ref().map_or_else(|| is_needed(&simple(column)), |mapping| mapping.needs(column))
    }

    /// The value of an empty cell. In a column of the conversation it is an empty message, in another column that is
    /// mapped it is null. Any other is left out.
    fn empty(&self, column: &str) -> Option<Value> {
        match &self.mapping {
            Some(mapping) if mapping.is_message(column) => Some("".into()),
            Some(mapping) if mapping.uses(column) => Some(Value::Null),
            _ => is_message(&simple(column)).then(|| "".into()),
        }
    }
}

fn is_message(column: &str) -> bool {
    ["instruction", "output", "prompt", "completion", "text"].contains(&column)
}

/// The cells of one row, without their quotation marks.
#[derive(Default)]
struct Cells {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    length: usize,
    count: usize,
}

impl Cells {
    fn clear(&mut self) {
        (self.length, self.count) = (0, 0);
    }

    /// Makes room, and parses the part of the row that is in this piece of the input. Returns the number of bytes used.
    fn parse(&mut self, parser: &mut csv_core::Reader, input: &[u8]) -> (ReadRecordResult, usize) {
        // The piece cannot give more than this; at the end of the input, the parser may need one more byte.
        self.bytes.resize(self.bytes.len().max(self.length + input.len() + 1), 0);
        self.ends.resize(self.ends.len().max(self.count + input.len() + 1), 0);
        let (bytes, ends) = (&mut self.bytes[self.length..], &mut self.ends[self.count..]);
        let (result, used, length, count) = parser.read_record(input, bytes, ends);
        self.length += length;
        self.count += count;
        (result, used)
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let ends = &self.ends[..self.count];
        let starts = std::iter::once(&0).chain(ends);
        starts.zip(ends).map(|(start, end)| &self.bytes[*start..*end])
    }
}

/// Counts lines. A line ends at `\n`, `\r\n` or `\r`, as a row outside quotation marks does.
struct LineCount {
    /// The line of the next byte.
    next: u64,
    after_return: bool,
}

impl LineCount {
    fn after(lines: u64) -> Self {
        Self { next: 1 + lines, after_return: false }
    }

    fn pass(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let is_second_half = *byte == b'\n' && self.after_return;
            self.next += u64::from(matches!(byte, b'\r' | b'\n') && !is_second_half);
            self.after_return = *byte == b'\r';
        }
    }
}
