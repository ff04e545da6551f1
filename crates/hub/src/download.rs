//! Downloads one file into the cache: writes `NAME.partial`, checks, syncs and renames it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::cache::hex;
use crate::{Error, Progress, Result};

/// The interval between [`Progress::Bytes`] events, in bytes.
const STEP: u64 = 1 << 20;
/// The largest number of connections for one download. When a connection breaks off, another one follows, as long as
/// each one delivers something.
pub(crate) const CONNECTIONS: usize = 5;

/// The expected size and checksum of a file, if its source states them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub file: String,
    pub size: Option<u64>,
    pub sha256: Option<String>,
}

/// The response to a request for the bytes from an offset on.
pub(crate) struct Incoming<'a> {
    /// The offset of the first byte: 0 if the source cannot resume.
    pub from: u64,
    pub reader: Box<dyn Read + 'a>,
}

/// Downloads a file into `folder`, continuing an interrupted download, and returns its SHA-256.
///
/// `open` requests the bytes from an offset on; it is called at most `connections` times. If a continued file has a
/// wrong checksum, it is downloaded again from the start, since the error may be in its older part.
///
/// # Errors
/// The errors of `open`, [`Error::BrokenOff`], [`Error::Length`], [`Error::Checksum`] or [`Error::Io`]. After the first
/// two, the bytes received so far are kept for the next try. After the others they are deleted, which also frees a full
/// disk.
pub(crate) fn fetch<'a>(
    folder: &Path,
    wanted: &Wanted,
    connections: usize,
    progress: &mut dyn FnMut(Progress<'_>),
    mut open: impl FnMut(u64) -> Result<Incoming<'a>>,
) -> Result<String> {
    let mut partial = Partial::open(folder, wanted)?;
    if let Err(error) = partial.fill(wanted, connections, progress, &mut open) {
        if partial.done == 0 || matches!(error, Error::Io { .. }) {
            // The error that is returned is more important than a failure to delete the file.
            let _ = fs::remove_file(&partial.path);
        }
        return Err(error);
    }
    let resumed = partial.resumed;
    match partial.finish(wanted) {
        Err(Error::Checksum { .. }) if resumed => {
            let mut partial = Partial::open(folder, wanted)?;
            partial.fill(wanted, connections, progress, &mut open)?;
            partial.finish(wanted)
        }
        result => result,
    }
}

/// The bytes received so far, and their hash.
struct Partial {
    path: PathBuf,
    target: PathBuf,
    file: File,
    hasher: Sha256,
    done: u64,
    /// Whether the first part was received in an earlier run.
    resumed: bool,
}

impl Partial {
    fn open(folder: &Path, wanted: &Wanted) -> Result<Self> {
        let path = folder.join(format!("{}.partial", wanted.file));
        let io = |source| Error::Io { action: "open", path: path.clone(), source };
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        let target = folder.join(&wanted.file);
        let mut partial = Self { path, target, file, hasher: Sha256::new(), done: 0, resumed: false };
        let length = partial.io("look at", |file| file.metadata())?.len();
        // Without a checksum it is not possible to verify that the two parts belong together.
        if wanted.sha256.is_none() || wanted.size.is_some_and(|size| length > size) {
            partial.restart()?;
        } else {
            partial.hash_what_is_there()?;
        }
        Ok(partial)
    }

    fn fill<'a>(
        &mut self,
        wanted: &Wanted,
        connections: usize,
        progress: &mut dyn FnMut(Progress<'_>),
        open: &mut impl FnMut(u64) -> Result<Incoming<'a>>,
    ) -> Result<()> {
        for _ in 1..connections {
            let before = self.done;
            match self.append(wanted, progress, open) {
                Err(Error::BrokenOff { .. }) if self.done > before => {}
                result => return result,
            }
        }
        self.append(wanted, progress, open)
    }

    /// Reads from one connection until it ends.
    fn append<'a>(
        &mut self,
        wanted: &Wanted,
        progress: &mut dyn FnMut(Progress<'_>),
        open: &mut impl FnMut(u64) -> Result<Incoming<'a>>,
    ) -> Result<()> {
        if wanted.size == Some(self.done) {
            return Ok(());
        }
        let mut incoming = open(self.done)?;
        if incoming.from != self.done {
            self.restart()?;
        }
        let mut told = self.done;
        let mut buffer = vec![0; 128 << 10];
        loop {
            let read = match incoming.reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(self.broken_off(wanted, source)),
            };
            self.hasher.update(&buffer[..read]);
            self.io("write", |mut file| file.write_all(&buffer[..read]))?;
            self.done += read as u64;
            if let Some(expected) = wanted.size.filter(|&size| self.done > size) {
                let found = self.done;
                self.restart()?;
                return Err(Error::Length { file: wanted.file.clone(), expected, found });
            }
            if self.done - told >= STEP {
                told = self.done;
                progress(Progress::Bytes { file: &wanted.file, done: told, total: wanted.size });
            }
        }
        progress(Progress::Bytes { file: &wanted.file, done: self.done, total: wanted.size });
        match wanted.size {
            Some(size) if self.done < size => Err(self.broken_off(wanted, io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }

    fn broken_off(&self, wanted: &Wanted, source: io::Error) -> Error {
        Error::BrokenOff { file: wanted.file.clone(), done: self.done, source }
    }

    /// Checks and renames the file. If the check fails, the file is deleted.
    fn finish(self, wanted: &Wanted) -> Result<String> {
        self.io("sync", File::sync_all)?;
        let Self { path, target, file, hasher, done, .. } = self;
        drop(file);
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { action, path, source }
        };
        let found = hex(&hasher.finalize());
        let wrong = match (wanted.size, &wanted.sha256) {
            (Some(expected), _) if expected != done => {
                Some(Error::Length { file: wanted.file.clone(), expected, found: done })
            }
            (_, Some(expected)) if *expected != found => {
                Some(Error::Checksum { file: wanted.file.clone(), expected: expected.clone(), found: found.clone() })
            }
            _ => None,
        };
        if let Some(error) = wrong {
            fs::remove_file(&path).map_err(io("remove", &path))?;
            return Err(error);
        }
        fs::rename(&path, &target).map_err(io("rename to", &target))?;
        let folder = foehn_files::folder_of(&target);
        foehn_files::sync_folder(folder).map_err(io("sync", folder))?;
        Ok(found)
    }

    fn restart(&mut self) -> Result<()> {
        self.io("empty", |file| file.set_len(0))?;
        self.io("rewind", |mut file| file.rewind())?;
        self.hasher = Sha256::new();
        (self.done, self.resumed) = (0, false);
        Ok(())
    }

    fn hash_what_is_there(&mut self) -> Result<()> {
        let mut buffer = vec![0; 1 << 20];
        loop {
            match self.io("read", |mut file| file.read(&mut buffer))? {
                0 => {
                    self.resumed = self.done > 0;
                    return Ok(());
                }
                read => {
                    self.hasher.update(&buffer[..read]);
                    self.done += read as u64;
                }
            }
        }
    }

    fn io<T>(&self, action: &'static str, run: impl FnOnce(&File) -> io::Result<T>) -> Result<T> {
        run(&self.file).map_err(|source| Error::Io { action, path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests;
