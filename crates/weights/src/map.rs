//! A file as a slice of bytes.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::{Error, Result};

/// A read-only memory map and the path that it came from.
#[derive(Debug)]
pub(crate) struct MappedFile {
    path: PathBuf,
    file: File,
    map: Mmap,
}

impl MappedFile {
    /// Maps `path`. Pages are read from disk when they are first touched.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |action| move |source| Error::Io { action, path: path.to_owned(), source };
        let file = File::open(path).map_err(io("open"))?;
        // SAFETY: the map is read-only and private to this type, and every read goes through bounds-checked slices of it.
        // What Rust can't rule out is that another process changes the file meanwhile: changed bytes are changed numbers
        // (no type with invalid bit patterns is ever made from them, and text is checked at each read); a file that
        // shrinks ends the process with SIGBUS, as it does for every reader of mapped model files. Foehn itself only
        // replaces files by renaming, which leaves an open map untouched.
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

    /// The bytes of `range`, or [`Error::Truncated`] that says that `what` lies there.
    pub fn slice(&self, range: Range<usize>, what: impl FnOnce() -> String) -> Result<&[u8]> {
        self.map.get(range.clone()).ok_or_else(|| Error::Truncated {
            path: self.path.clone(),
            what: what(),
            offset: range.start as u64,
            needed: range.end.saturating_sub(range.start) as u64,
            available: self.map.len().saturating_sub(range.start) as u64,
        })
    }

    /// A copy of the bytes of `range`, read past the map: the pages of a map count as the process's memory once they were
    /// touched, and a model's weights are read once.
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
