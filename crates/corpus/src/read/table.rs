//! The rows of a CSV file with named columns, as objects of texts.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value};

use super::Fault;
use super::lines::LIMIT;

/// The rows after the header.
pub(super) struct Table<R> {
    reader: csv::Reader<Metered<R>>,
    columns: Vec<String>,
    room: Arc<AtomicUsize>,
}

/// One row: its first line, its bytes as one text for hashing, and its cells by column.
pub(super) struct Row {
    pub line: u64,
    pub raw: Vec<u8>,
    pub object: Result<Map<String, Value>, Fault>,
}

impl<R: Read> Table<R> {
    /// Reads the header. A name that is not UTF-8 is kept with its bytes replaced: it matches no known column.
    pub fn new(input: R) -> io::Result<Self> {
        let room = Arc::new(AtomicUsize::new(LIMIT));
        let mut reader =
            csv::ReaderBuilder::new().flexible(true).from_reader(Metered { input, room: Arc::clone(&room) });
        let columns = reader
            .byte_headers()
            .map_err(io::Error::from)?
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim().to_owned())
            .collect();
        Ok(Self { reader, columns, room })
    }

    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The line on which the next row begins.
    pub fn line(&self) -> u64 {
        self.reader.position().line()
    }

    /// Whether the last failure was a row past the limit.
    pub fn is_exhausted(&self) -> bool {
        self.room.load(Ordering::Relaxed) == 0
    }

    /// The next row, or `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<Row>> {
        self.room.store(LIMIT, Ordering::Relaxed);
        let mut cells = csv::ByteRecord::new();
        if !self.reader.read_byte_record(&mut cells)? {
            return Ok(None);
        }
        Ok(Some(Row {
            line: cells.position().map_or(0, csv::Position::line),
            raw: cells.iter().collect::<Vec<_>>().join(&b"\0"[..]),
            object: self.object(&cells),
        }))
    }

    /// The row's cells that are not empty, under their columns' names.
    fn object(&self, cells: &csv::ByteRecord) -> Result<Map<String, Value>, Fault> {
        if cells.len() != self.columns.len() {
            return Err(Fault::Cells { expected: self.columns.len(), found: cells.len() });
        }
        let mut object = Map::new();
        for (column, cell) in self.columns.iter().zip(cells) {
            let text =
                std::str::from_utf8(cell).map_err(|error| Fault::NotUtf8 { valid_up_to: error.valid_up_to() })?;
            // An empty cell of the conversation is a message that says nothing; any other is no value.
            if !text.is_empty() || is_message(column) {
                object.insert(column.clone(), Value::from(text));
            }
        }
        Ok(object)
    }
}

fn is_message(column: &str) -> bool {
    ["instruction", "output", "prompt", "completion", "text"].contains(&column)
}

/// Fails once more than [`LIMIT`] bytes are read for one row: a quotation mark that never closes would else swallow the
/// file into memory.
struct Metered<R> {
    input: R,
    room: Arc<AtomicUsize>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.room.load(Ordering::Relaxed);
        if room == 0 {
            return Err(io::Error::other("the row is too long"));
        }
        let length = buffer.len().min(room);
        let read = self.input.read(&mut buffer[..length])?;
        self.room.store(room - read, Ordering::Relaxed);
        Ok(read)
    }
}
