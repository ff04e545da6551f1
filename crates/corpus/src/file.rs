//! Files that appear whole or not at all.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// A file that is being written beside its place.
pub(crate) struct Draft<'a> {
    path: &'a Path,
    writer: BufWriter<NamedTempFile>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(path: &'a Path) -> Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".foehn-");
        let builder = match readable() {
            Some(permissions) => builder.permissions(permissions).tempfile_in(folder(path)),
            None => builder.tempfile_in(folder(path)),
        };
        let file = builder.map_err(|source| write_error(path, source))?;
        Ok(Self { path, writer: BufWriter::with_capacity(1 << 16, file) })
    }

    /// Syncs the file, and puts it in its place.
    pub(crate) fn finish(self) -> Result<()> {
        let path = self.path;
        let finish = || -> io::Result<()> {
            let file = self.writer.into_inner().map_err(|error| error.into_error())?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            sync_folder(folder(path))
        };
        finish().map_err(|source| write_error(path, source))
    }
}

impl Write for Draft<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// The folder that holds the path's file.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

pub(crate) fn write_error(path: &Path, source: io::Error) -> Error {
    Error::Write { path: path.into(), source }
}

/// What any new file has, less the process's mask; a temporary file would else be its owner's alone.
#[cfg(unix)]
fn readable() -> Option<Permissions> {
    use std::os::unix::fs::PermissionsExt;
    Some(Permissions::from_mode(0o666))
}

#[cfg(not(unix))]
fn readable() -> Option<Permissions> {
    None
}

/// Makes the new name survive a crash, where folders can be synced.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}
