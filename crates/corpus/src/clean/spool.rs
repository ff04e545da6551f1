//! A temporary file of records that wait for the passes over the set.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use foehn_record::Record;

/// A temporary file of records, each with its id and its line of JSON. The system removes the file when the process
/// ends.
pub(super) struct Spool {
    writer: BufWriter<File>,
    /// The offset of each record.
    starts: Vec<u64>,
    end: u64,
}

/// A record in the temporary file.
#[derive(Default)]
pub(super) struct Spooled {
    /// The record's id in the report.
    pub id: String,
    /// The record as JSON.
    pub json: Vec<u8>,
}

impl Spool {
    pub fn new(folder: &Path) -> io::Result<Self> {
        let file = tempfile::tempfile_in(folder)?;
        Ok(Self { writer: BufWriter::with_capacity(1 << 16, file), starts: Vec::new(), end: 0 })
    }

    pub fn push(&mut self, id: &str, json: &[u8]) -> io::Result<()> {
        self.starts.push(self.end);
        for length in [id.len(), json.len()] {
            self.writer.write_all(&(length as u64).to_le_bytes())?;
        }
        self.writer.write_all(id.as_bytes())?;
        self.writer.write_all(json)?;
        self.end += 16 + (id.len() + json.len()) as u64;
        Ok(())
    }

    /// Calls a function with each of the records with these indices, which must be ascending.
    pub fn each(
        &mut self,
        indices: impl IntoIterator<Item = usize>,
        mut show: impl FnMut(usize, &Spooled) -> io::Result<()>,
    ) -> io::Result<()> {
        self.writer.flush()?;
        let mut file = self.writer.get_ref();
        file.seek(SeekFrom::Start(0))?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let (mut at, mut spooled) = (0u64, Spooled::default());
        for index in indices {
            let Some(&start) = self.starts.get(index) else { continue };
            // Within the buffer, this seek only skips bytes.
            reader.seek_relative(start as i64 - at as i64)?;
            spooled.read(&mut reader)?;
            at = start + 16 + (spooled.id.len() + spooled.json.len()) as u64;
            show(index, &spooled)?;
        }
        // Later records are written at the end again.
        let mut file = self.writer.get_ref();
        file.seek(SeekFrom::End(0))?;
        Ok(())
    }
}

impl Spooled {
    pub fn record(&self) -> io::Result<Record> {
        Ok(serde_json::from_slice(&self.json)?)
    }

    fn read(&mut self, from: &mut impl Read) -> io::Result<()> {
        let mut lengths = [[0; 8]; 2];
        for length in &mut lengths {
            from.read_exact(length)?;
        }
        let [id, json] = lengths.map(|length| u64::from_le_bytes(length) as usize);
        let mut name = std::mem::take(&mut self.id).into_bytes();
        name.resize(id, 0);
        from.read_exact(&mut name)?;
        self.id = String::from_utf8(name).map_err(io::Error::other)?;
        self.json.resize(json, 0);
        from.read_exact(&mut self.json)
    }
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
}
