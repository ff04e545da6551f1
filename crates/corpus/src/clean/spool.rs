//! Files of records that wait for the passes over the set.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use foehn_record::Record;

use crate::error::{Error, Result};
use crate::file::write_error;
use crate::similar::hash_bytes;

/// A temporary file of records, each with its id and its line of JSON. The system removes the file when the process
/// ends.
pub(super) struct Spool {
    writer: BufWriter<File>,
    /// The path near which the file is, for errors.
    near: PathBuf,
    ends: Ends,
}

/// Where each record of a file ends.
#[derive(Default)]
pub(super) struct Ends(Vec<u64>);

/// A record in such a file.
#[derive(Default)]
pub(super) struct Spooled {
    /// The record's id in the report.
    pub id: String,
    /// The record as JSON.
    pub json: Vec<u8>,
    /// The path that an error names.
    near: PathBuf,
}

/// Before each record: the lengths of its id and of its JSON, and a checksum of both.
const HEAD: u64 = 24;

impl Spool {
    /// The file is beside `near`, or in it if it is a folder.
    pub fn new(near: &Path) -> Result<Self> {
        let folder = if near.is_dir() { near } else { foehn_files::folder_of(near) };
        let file = tempfile::tempfile_in(folder).map_err(|source| write_error(near, source))?;
        let writer = BufWriter::with_capacity(1 << 16, file);
        Ok(Self { writer, near: near.to_owned(), ends: Ends::default() })
    }

    pub fn push(&mut self, id: &str, json: &[u8]) -> Result<()> {
        let written = Spooled::write(&mut self.writer, id, json);
        self.ends.push(written.map_err(|source| write_error(&self.near, source))?);
        Ok(())
    }

    /// The path near which the file is.
    pub fn near(&self) -> &Path {
        &self.near
    }

    /// As [`Ends::each`].
    pub fn each(
        &mut self,
        indices: impl IntoIterator<Item = usize>,
        show: impl FnMut(usize, &Spooled) -> Result<()>,
    ) -> Result<()> {
        let failed = |source| write_error(&self.near, source);
        self.writer.flush().map_err(failed)?;
        let mut file = self.writer.get_ref();
        self.ends.each(file, &self.near, indices, show, &failed)?;
        // Later records are written at the end again.
        file.seek(SeekFrom::End(0)).map_err(failed).map(drop)
    }
}

impl Ends {
    /// Appends a record of this number of bytes.
    pub fn push(&mut self, length: u64) {
        self.0.push(self.0.last().copied().unwrap_or_default() + length);
    }

    /// Where the record with this index begins.
    fn start(&self, index: usize) -> Option<u64> {
        self.0.get(index)?;
        Some(index.checked_sub(1).map_or(0, |before| self.0[before]))
    }

    /// The bytes of all records.
    pub fn total(&self) -> u64 {
        self.0.last().copied().unwrap_or_default()
    }

    /// Calls a function with each of the file's records with these indices, which must be ascending. Indices of no
    /// record are skipped. An error of the file becomes one of `failed`.
    pub fn each(
        &self,
        mut file: &File,
        near: &Path,
        indices: impl IntoIterator<Item = usize>,
        mut show: impl FnMut(usize, &Spooled) -> Result<()>,
        failed: &dyn Fn(io::Error) -> Error,
    ) -> Result<()> {
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let (mut at, mut spooled) = (0u64, Spooled { near: near.to_owned(), ..Spooled::default() });
        for index in indices {
            let Some(start) = self.start(index) else { continue };
            // Within the buffer, this seek only skips bytes.
            reader.seek_relative(start as i64 - at as i64).map_err(failed)?;
            spooled.read(&mut reader).map_err(failed)?;
            at = start + spooled.length();
            show(index, &spooled)?;
        }
        Ok(())
    }
}

impl Spooled {
    /// Writes a record, and returns its number of bytes in the file.
    pub fn write(to: &mut impl Write, id: &str, json: &[u8]) -> io::Result<u64> {
        let (id_length, json_length) = (id.len() as u64, json.len() as u64);
        for number in [id_length, json_length, checksum(id.as_bytes(), json)] {
            to.write_all(&number.to_le_bytes())?;
        }
        to.write_all(id.as_bytes())?;
        to.write_all(json)?;
        Ok(HEAD + id_length + json_length)
    }

    /// The number of bytes in the file.
    fn length(&self) -> u64 {
        HEAD + (self.id.len() + self.json.len()) as u64
    }

    pub fn record(&self) -> Result<Record> {
        serde_json::from_slice(&self.json).map_err(|error| write_error(&self.near, error.into()))
    }

    /// Reads the next record. A wrong length asks for no more memory than the file has bytes.
    pub fn read(&mut self, from: &mut impl Read) -> io::Result<()> {
        let mut head = [[0; 8]; 3];
        for number in &mut head {
            from.read_exact(number)?;
        }
        let [id, json, check] = head.map(u64::from_le_bytes);
        let mut name = std::mem::take(&mut self.id).into_bytes();
        for (bytes, length) in [(&mut name, id), (&mut self.json, json)] {
            bytes.clear();
            from.take(length).read_to_end(bytes)?;
        }
        if name.len() as u64 != id || self.json.len() as u64 != json || checksum(&name, &self.json) != check {
            return Err(broken());
        }
        self.id = String::from_utf8(name).map_err(io::Error::other)?;
        Ok(())
    }
}

fn checksum(id: &[u8], json: &[u8]) -> u64 {
    hash_bytes(json, hash_bytes(id, 0))
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a stored record is not as it was written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spooled_comes_back_by_index() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut spool = Spool::new(folder.path()).expect("writable");
        let json = |number: usize| vec![b'x'; number * 1000];
        for number in 0..300 {
            spool.push(&format!("id {number}"), &json(number)).expect("writable");
        }
        for wanted in [vec![], vec![0], vec![299], vec![3, 4, 200], (0..300).collect()] {
            let mut found = Vec::new();
            let show = |index: usize, spooled: &Spooled| {
                assert_eq!((spooled.id.as_str(), &spooled.json), (format!("id {index}").as_str(), &json(index)));
                found.push(index);
                Ok(())
            };
            spool.each(wanted.clone(), show).expect("readable");
            assert_eq!(found, wanted);
        }
        spool.push("last", b"{}").expect("writable");
        let show = |_, spooled: &Spooled| {
            assert_eq!(spooled.json, b"{}");
            Ok(())
        };
        spool.each([300], show).expect("readable");
    }

    #[test]
    fn a_flipped_bit_is_an_error() {
        let mut bytes = Vec::new();
        let length = Spooled::write(&mut bytes, "id", b"{\"a\": 1}").expect("memory does not fail");
        assert_eq!(length, bytes.len() as u64);
        Spooled::default().read(&mut bytes.as_slice()).expect("as it was written");
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            Spooled::default().read(&mut bytes.as_slice()).expect_err("another record");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
