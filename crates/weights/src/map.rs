//! A memory-mapped file as a slice of bytes.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::{Error, Result};

/// A read-only memory map and its path.
#[derive(Debug)]
pub(crate) struct MappedFile {
    path: PathBuf,
    file: File,
    map: Mmap,
}

impl MappedFile {
    /// Maps `path`. Pages are read from disk at the first access.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |action| move |source| Error::Io { action, path: path.to_owned(), source };
        let file = File::open(path).map_err(io("open"))?;
        // SAFETY: the map covers the whole file. It is read-only and private to this type; this program never writes to
        // it, and every read goes through bounds-checked slices. Another process can change the file meanwhile, which
        // Rust cannot exclude. Changed bytes only give changed numbers: no type with invalid bit patterns is made from
        // them, and text is validated at each read. If the file becomes shorter, the process ends with SIGBUS, as with
        // every program that maps model files. Foehn itself only replaces files by renaming, which does not change an
        // open map.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(io("map"))?;
        Ok(Self { path: path.to_owned(), file, map })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    pub fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// The bytes of `range`. If the file is too short, [`Error::Truncated`] with the text of `what`.
    pub fn slice(&self, range: Range<usize>, what: impl FnOnce() -> String) -> Result<&[u8]> {
        self.map.get(range.clone()).ok_or_else(|| Error::Truncated {
            path: self.path.clone(),
            what: what(),
            offset: range.start as u64,
            needed: range.end.saturating_sub(range.start) as u64,
            available: self.map.len().saturating_sub(range.start) as u64,
        })
    }

    /// A copy of the bytes of `range`, read from the file instead of the map. Accessed pages of a map count as the
    /// process's memory, and a model's weights are read only once.
    pub fn read(&self, range: Range<usize>, what: impl FnOnce() -> String) -> Result<Vec<u8>> {
        let mapped = self.slice(range.clone(), what)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::FileExt;
            let mut bytes = vec![0; mapped.len()];
            let read = self.file.read_exact_at(&mut bytes, range.start as u64);
            read.map_err(|source| Error::Io { action: "read", path: self.path.clone(), source })?;
            Ok(bytes)
        }
        #[cfg(not(unix))]
        {
            let _ = &self.file;
            Ok(mapped.to_vec())
        }
    }
}
