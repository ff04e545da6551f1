//! Folders that are written atomically.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::{Builder, TempDir};

use crate::{folder_of, sync_folder};

/// The names of folders that are being written or removed begin with this.
/// [`remove_left_overs`](crate::remove_left_overs) removes such folders.
const PARTIAL: &str = ".partial-";

/// A folder that is written beside its destination and then moved there as a whole. It replaces a folder that was
/// there.
///
/// The files in it are written with [`write()`](crate::write()) or [`Draft`](crate::Draft). If it is dropped without
/// [`finish`](Self::finish), it is removed.
#[derive(Debug)]
pub struct DraftFolder {
    partial: TempDir,
    place: PathBuf,
}

impl DraftFolder {
    /// Creates the temporary folder, and missing folders above it.
    ///
    /// # Errors
    /// The system's error.
    pub fn new(place: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder_of(place))?;
        Ok(Self { partial: beside(place)?, place: place.to_owned() })
    }

    /// The path to write the files into.
    pub fn path(&self) -> &Path {
        self.partial.path()
    }

    /// Moves the folder to its destination.
    ///
    /// # Errors
    /// The system's error. An earlier folder at the destination is then still there.
    pub fn finish(self) -> io::Result<()> {
        let Self { partial, place } = self;
        sync_folder(partial.path())?;
        // An existing folder is moved aside first. It is deleted only when the new folder is in place.
        let old = beside(&place)?;
        let old_place = old.path().join("old");
        let is_replaced = place.exists();
        if is_replaced {
            std::fs::rename(&place, &old_place)?;
        }
        if let Err(error) = std::fs::rename(partial.path(), &place) {
            if is_replaced {
                let _ = std::fs::rename(&old_place, &place);
            }
            return Err(error);
        }
        let _ = partial.keep();
        sync_folder(folder_of(&place))
    }
}

/// Removes a folder with all its contents. At any instant, the folder of this name is either complete or absent. If the
/// process is killed, [`remove_left_overs`](crate::remove_left_overs) removes the rest.
///
/// # Errors
/// The system's error.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    let going = beside(folder)?;
    std::fs::rename(folder, going.path().join("old"))?;
    going.close()
}

/// Creates a temporary folder beside a path, with the mode of a normal new folder.
fn beside(path: &Path) -> io::Result<TempDir> {
    let mut builder = Builder::new();
    builder.prefix(PARTIAL);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o777));
    }
    builder.tempdir_in(folder_of(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_folder_appears_whole_and_replaces_its_namesake() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("above/run");
        for text in ["first", "second"] {
            let draft = DraftFolder::new(&place).unwrap();
            crate::write(draft.path().join(text), b"").unwrap();
            assert!(!place.join(text).exists());
            draft.finish().unwrap();
            assert_eq!(names(&place), [text]);
        }
        drop(DraftFolder::new(&place).unwrap());
        assert_eq!(names(&folder.path().join("above")), ["run"]);
        remove_folder(&place).unwrap();
        assert!(names(&folder.path().join("above")).is_empty() && remove_folder(&place).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_has_the_mode_of_any_new_folder() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        DraftFolder::new(&ours).unwrap().finish().unwrap();
        std::fs::create_dir(&plain).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
