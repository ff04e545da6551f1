//! The writer that all crates use: it writes a temporary file beside the destination, syncs it and renames it.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file that is being written beside its destination. If it is dropped without [`Draft::finish`], it is removed.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    writer: BufWriter<NamedTempFile>,
}

impl Draft {
    /// Creates the temporary file in the folder of `path`, which must exist.
    ///
    /// # Errors
    /// The system's error: no such folder, no permission, a full disk.
    pub fn new(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let mut builder = tempfile::Builder::new();
        builder.prefix(".foehn-").suffix(".partial");
        if let Some(permissions) = any_new_file() {
            builder.permissions(permissions);
        }
        let file = builder.tempfile_in(folder_of(&path))?;
        Ok(Self { path, writer: BufWriter::with_capacity(1 << 18, file) })
    }

    /// Syncs the file, renames it to its destination, and syncs the folder.
    ///
    /// # Errors
    /// The system's error. An earlier file at the destination is then unchanged.
    pub fn finish(self) -> io::Result<()> {
        let file = self.writer.into_inner().map_err(|error| error.into_error())?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        sync_folder(folder_of(&self.path))
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Writes a whole file, like [`Draft`].
///
/// # Errors
/// The system's error. An earlier file at the destination is then unchanged.
pub fn write(path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
    let mut draft = Draft::new(path.as_ref())?;
    draft.write_all(bytes)?;
    draft.finish()
}

/// Removes the temporary files that killed processes left in a folder: `.foehn-*.partial` of a [`Draft`], `.partial-*`
/// and `.tmp*`. Only the holder of the folder's lock may call this. A folder that does not exist has no such files.
///
/// # Errors
/// The path that could not be removed, with the system's error.
pub fn remove_left_overs(folder: &Path) -> Result<(), (PathBuf, io::Error)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        let is_draft = name.starts_with(".foehn-") && name.ends_with(".partial");
        if is_draft || name.starts_with(".partial-") || name.starts_with(".tmp") {
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.map_err(|source| (path, source))?;
        }
    }
    Ok(())
}

/// The folder of a path's file; `.` if the path is only a file name.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Syncs a folder, so that files created or renamed in it survive a crash. Does nothing where folders cannot be synced
/// (Windows).
///
/// # Errors
/// The system's error.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// The mode of a new file, before the system applies the process's umask.
#[cfg(unix)]
fn any_new_file() -> Option<Permissions> {
    use std::os::unix::fs::PermissionsExt;
    Some(Permissions::from_mode(0o666))
}

#[cfg(not(unix))]
fn any_new_file() -> Option<Permissions> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_that_is_not_finished_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&path, b"old").unwrap();
        let mut draft = Draft::new(&path).unwrap();
        draft.write_all(b"new").unwrap();
        draft.flush().unwrap();
        drop(draft);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_has_the_mode_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write(&ours, b"").unwrap();
        std::fs::write(&plain, b"").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn left_overs_go_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        std::fs::create_dir(place(".partial-a")).unwrap();
        for name in [".partial-a/file", ".foehn-b.partial", ".tmpc", ".foehn-notes", "tmp", "a.partial"] {
            write(place(name), b"").unwrap();
        }
        remove_left_overs(folder.path()).unwrap();
        let left: std::collections::BTreeSet<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [".foehn-notes", "a.partial", "tmp"].map(Into::into).into());
        remove_left_overs(&place("absent")).unwrap();
    }

    #[test]
    fn a_bare_name_lies_in_the_current_folder() {
        assert_eq!(folder_of(Path::new("a")), Path::new("."));
        assert_eq!(folder_of(Path::new("b/a")), Path::new("b"));
    }
}
