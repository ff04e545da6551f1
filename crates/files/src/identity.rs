//! Whether two paths name the same file, also if it does not exist yet.

use std::io;
use std::path::{Path, PathBuf};

use crate::folder_of;

/// An output that would overwrite an input or another output, or that cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// An output is also an input.
    #[error("the output {} is the input {}: choose another place for the output", output.display(), input.display())]
    Input {
        /// The output, as the caller wrote it.
        output: PathBuf,
        /// The input, as the caller wrote it.
        input: PathBuf,
    },
    /// Two outputs are the same file.
    #[error("two outputs are the same file: {} and {}", first.display(), second.display())]
    Outputs {
        /// One path, as the caller wrote it.
        first: PathBuf,
        /// The other path, as the caller wrote it.
        second: PathBuf,
    },
    /// An output cannot be written.
    #[error("cannot write {}", path.display())]
    Place {
        /// The output.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// Refuses an output that is also an input or another output, and checks that each output can be written, before any
/// work is done.
///
/// The check creates and removes a temporary file beside each output. It does not create folders.
///
/// # Errors
/// [`Conflict`], with the paths as the caller wrote them.
pub fn check_outputs(inputs: &[impl AsRef<Path>], outputs: &[impl AsRef<Path>]) -> Result<(), Conflict> {
    for (index, output) in outputs.iter().map(AsRef::as_ref).enumerate() {
        if let Some(input) = inputs.iter().map(AsRef::as_ref).find(|input| is_same(input, output)) {
            return Err(Conflict::Input { output: output.to_owned(), input: input.to_owned() });
        }
        if let Some(first) = outputs[..index].iter().map(AsRef::as_ref).find(|first| is_same(first, output)) {
            return Err(Conflict::Outputs { first: first.to_owned(), second: output.to_owned() });
        }
        try_place(output).map_err(|source| Conflict::Place { path: output.to_owned(), source })?;
    }
    Ok(())
}

/// Whether a folder for output is absent or empty.
///
/// # Errors
/// The system's error, if the path exists but is not a readable folder.
pub fn is_empty_or_absent(folder: &Path) -> io::Result<bool> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn try_place(output: &Path) -> io::Result<()> {
    if output.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
    }
    match crate::Draft::new(output) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !folder_of(output).exists() => {
            Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no folder {}", folder_of(output).display())))
        }
        draft => draft.map(drop),
    }
}

/// Whether two paths name the same file. If both exist, they are compared by device and inode, which finds links, other
/// spellings and other mounts. Otherwise the resolved paths are compared.
pub fn is_same(first: &Path, second: &Path) -> bool {
    match same_file::is_same_file(first, second) {
        Ok(same) => same,
        Err(_) => resolved(first) == resolved(second),
    }
}

/// The absolute path without links, `.` and `..`. If the path does not exist yet, its nearest existing folder is
/// resolved.
pub fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut missing = Vec::new();
    let mut known = absolute.as_path();
    loop {
        if let Ok(found) = known.canonicalize() {
            return missing.iter().rev().fold(found, |path: PathBuf, part: &std::ffi::OsString| match part.to_str() {
                Some("..") => path.parent().map(Path::to_owned).unwrap_or(path),
                _ => path.join(part),
            });
        }
        // A dangling link needs no resolving: files are replaced by a rename, which replaces the link itself.
        let mut parts = known.components();
        let Some(last) = parts.next_back() else { return absolute };
        missing.push(last.as_os_str().to_owned());
        known = parts.as_path();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_spelling_is_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::fs::create_dir(folder.join("sub")).unwrap();
        let (old, new) = (folder.join("old"), folder.join("new"));
        crate::write(&old, b"").unwrap();
        assert!(is_same(&old, &folder.join("sub/../old")));
        assert!(is_same(&new, &folder.join("sub/../new")));
        assert!(is_same(&folder.join("no/a/../b"), &folder.join("no/b")));
        assert!(!is_same(&old, &new));
    }

    #[cfg(unix)]
    #[test]
    fn links_of_both_kinds_are_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name| folder.path().join(name);
        crate::write(place("file"), b"").unwrap();
        std::os::unix::fs::symlink(place("file"), place("soft")).unwrap();
        std::fs::hard_link(place("file"), place("hard")).unwrap();
        for name in ["soft", "hard"] {
            assert!(matches!(check_outputs(&[place("file")], &[place(name)]), Err(Conflict::Input { .. })), "{name}");
        }
        std::os::unix::fs::symlink(folder.path(), place("folder")).unwrap();
        assert!(is_same(&place("new"), &place("folder/new")));
    }

    #[test]
    fn a_folder_with_anything_in_it_is_not_empty() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name| folder.path().join(name);
        assert!(is_empty_or_absent(folder.path()).unwrap() && is_empty_or_absent(&place("absent")).unwrap());
        crate::write(place("file"), b"").unwrap();
        assert!(!is_empty_or_absent(folder.path()).unwrap());
        assert!(is_empty_or_absent(&place("file")).is_err());
    }

    #[test]
    fn outputs_are_compared_with_each_other_and_tried() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name| folder.path().join(name);
        let none: [&Path; 0] = [];
        assert!(matches!(check_outputs(&none, &[place("a"), place("./a")]), Err(Conflict::Outputs { .. })));
        assert!(matches!(check_outputs(&none, &[place("no/a")]), Err(Conflict::Place { .. })));
        assert!(matches!(check_outputs(&none, &[folder.path()]), Err(Conflict::Place { .. })));
        check_outputs(&[place("in")], &[place("a"), place("b")]).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
