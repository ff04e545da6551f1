//! Files with the hash of what they hold.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use foehn_files::Draft;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::code::Code;
use crate::error::Result;
use crate::file::{write_error, write_json};
use crate::text::sha256_hex;

/// The size of a file, and the hash of its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seal {
    pub bytes: u64,
    pub sha256: String,
}

impl Seal {
    /// The seal of a file as it is now.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut file = Hashing::new(File::open(path)?);
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(file.seal()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A value with the hash of its JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamped<T> {
    contents: T,
    sha256: String,
}

/// Writes a value as JSON, with its hash.
pub(super) fn write_stamped(path: &Path, contents: &impl Serialize) -> Result<()> {
    let sha256 = stamp(contents).map_err(|error| write_error(path, error.into()))?;
    write_json(path, &Stamped { contents, sha256 })
}

/// Reads a value with its hash. The value is `None` if it has another hash.
pub(super) fn read_stamped<T: Serialize + DeserializeOwned>(text: &str) -> serde_json::Result<Option<(T, String)>> {
    let Stamped { contents, sha256 } = serde_json::from_str(text)?;
    Ok((stamp(&contents)? == sha256).then_some((contents, sha256)))
}

fn stamp(contents: &impl Serialize) -> serde_json::Result<String> {
    Ok(sha256_hex(serde_json::to_string(contents)?.as_bytes()))
}

/// A file or a draft, and the hash of what went through it.
struct Hashing<F> {
    file: F,
    hasher: Sha256,
    bytes: u64,
}

impl<F> Hashing<F> {
    fn new(file: F) -> Self {
        Self { file, hasher: Sha256::new(), bytes: 0 }
    }

    fn note(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn seal(self) -> Seal {
        let sha256 = self.hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Seal { bytes: self.bytes, sha256 }
    }
}

impl<F: Read> Read for Hashing<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.note(&buffer[..count]);
        Ok(count)
    }
}

impl<F: Write> Write for Hashing<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.note(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file that is being written.
pub(super) struct Sealing {
    path: PathBuf,
    writer: BufWriter<Hashing<Draft>>,
    /// Room for a value as bytes.
    frame: Vec<u8>,
}

impl Sealing {
    pub fn new(path: PathBuf) -> Result<Self> {
        let draft = Draft::new(&path).map_err(|source| write_error(&path, source))?;
        let writer = BufWriter::with_capacity(1 << 16, Hashing::new(draft));
        Ok(Self { path, writer, frame: Vec::new() })
    }

    /// Writes by a function.
    pub fn write<T>(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<T>) -> Result<T> {
        write(&mut self.writer).map_err(|source| write_error(&self.path, source))
    }

    /// Writes a number.
    pub fn number(&mut self, number: u64) -> Result<()> {
        let mut bytes = Vec::with_capacity(10);
        number.put(&mut bytes);
        self.write(|to| to.write_all(&bytes))
    }

    /// Writes words of eight bytes after their number.
    pub fn words(&mut self, words: &[u64]) -> Result<()> {
        self.number(words.len() as u64)?;
        self.write(|to| words.iter().try_for_each(|word| to.write_all(&word.to_le_bytes())))
    }

    /// Writes bytes after their length.
    pub fn frame(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        self.frame.clear();
        fill(&mut self.frame);
        self.number(self.frame.len() as u64)?;
        self.writer.write_all(&self.frame).map_err(|source| write_error(&self.path, source))
    }

    /// Completes the file.
    pub fn finish(self) -> Result<Seal> {
        let Self { path, writer, .. } = self;
        let finish = || {
            let mut hashing = writer.into_inner().map_err(|error| error.into_error())?;
            hashing.flush()?;
            let Hashing { file, hasher, bytes } = hashing;
            file.finish()?;
            Ok(Hashing { file: (), hasher, bytes }.seal())
        };
        finish().map_err(|source| write_error(&path, source))
    }
}

/// A file that is being read from its beginning to its end.
pub(super) struct Unsealing(BufReader<Hashing<File>>);

impl Unsealing {
    pub fn new(path: &Path) -> io::Result<Self> {
        Ok(Self(BufReader::with_capacity(1 << 16, Hashing::new(File::open(path)?))))
    }

    /// A number.
    pub fn number(&mut self) -> io::Result<u64> {
        let (mut bytes, mut byte) = (Vec::new(), [0x80]);
        while byte[0] & 0x80 != 0 && bytes.len() < 10 {
            self.0.read_exact(&mut byte)?;
            bytes.push(byte[0]);
        }
        u64::get(&mut bytes.as_slice()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The words that stand after their number.
    pub fn words(&mut self, words: &mut Vec<u64>) -> io::Result<()> {
        words.clear();
        for _ in 0..self.number()? {
            let mut word = [0; 8];
            self.0.read_exact(&mut word)?;
            words.push(u64::from_le_bytes(word));
        }
        Ok(())
    }

    /// The bytes that stand after their length.
    pub fn frame(&mut self, frame: &mut Vec<u8>) -> io::Result<()> {
        let length = self.number()?;
        frame.clear();
        // A wrong length ends at the end of the file, before it asks for more memory than the file has bytes.
        self.0.by_ref().take(length).read_to_end(frame)?;
        if frame.len() as u64 == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Whether everything has been read.
    pub fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.0.fill_buf()?.is_empty())
    }

    /// A line without its end; `None` at the end of the file.
    pub fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line)?;
        Ok(line.strip_suffix(b"\n").map(<[u8]>::to_vec))
    }

    /// Reads the rest. Returns the seal of the whole file.
    pub fn finish(mut self) -> io::Result<Seal> {
        io::copy(&mut self.0, &mut io::sink())?;
        Ok(self.0.into_inner().seal())
    }
}

impl Read for Unsealing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}
