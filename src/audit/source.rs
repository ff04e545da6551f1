//! The data of an audit, with the lines of its file.

use std::path::{Path, PathBuf};

use foehn_record::Record;
use sha2::{Digest, Sha256};

use super::AuditError;

/// A record and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its line, from 1; see [`Place`](foehn_corpus::Place).
    pub line: u64,
    /// The record.
    pub record: Record,
}

/// A file of records, clean or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the file's bytes.
    pub sha256: String,
    /// The records that can be read.
    pub entries: Vec<Entry>,
    /// The lines of the other ones.
    pub unreadable: Vec<u64>,
}

impl Source {
    /// Reads a file in any format that `foehn-corpus` knows.
    ///
    /// # Errors
    /// [`AuditError::Corpus`] and [`AuditError::File`].
    pub fn read(path: &Path) -> Result<Self, AuditError> {
        let (mut entries, mut unreadable) = (Vec::new(), Vec::new());
        for line in foehn_corpus::read(path)? {
            let line = line?;
            match line.record {
                Ok(record) => entries.push(Entry { line: line.place.line, record }),
                Err(_) => unreadable.push(line.place.line),
            }
        }
        let bytes = std::fs::read(path).map_err(|source| AuditError::File { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), sha256: sha256(&bytes), entries, unreadable })
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A hash of what a record says. It changes with any of its messages, so also with its label.
pub(super) fn fingerprint(record: &Record) -> String {
    sha256(serde_json::to_string(&record.messages).unwrap_or_default().as_bytes())
}
