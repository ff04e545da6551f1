//! Folders that appear whole or not at all.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::{Builder, TempDir};

use crate::{folder_of, sync_folder};

/// What the names of folders begin with that are being written or removed: [`remove_left_overs`](crate::remove_left_overs)
/// knows them.
const PARTIAL: &str = ".partial-";

/// A folder that is written beside its place, and then appears there whole, instead of a folder that was there.
///
/// Files in it are written by [`write()`](crate::write()) or [`Draft`](crate::Draft). One that is dropped without
/// [`finish`](Self::finish) is removed.
#[derive(Debug)]
pub struct DraftFolder {
    partial: TempDir,
    place: PathBuf,
}

impl DraftFolder {
    /// Begins a folder; the folders above it are made where they are missing.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(place: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder_of(place))?;
        Ok(Self { partial: beside(place)?, place: place.to_owned() })
    }

    /// Where to write its files.
    pub fn path(&self) -> &Path {
        self.partial.path()
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// What the system says; the folder that was there is still there then.
    pub fn finish(self) -> io::Result<()> {
        let Self { partial, place } = self;
        sync_folder(partial.path())?;
        // What is there already goes only once its successor is there; until then it is out of the way.
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

/// Removes a folder with all that is in it. Under its own name it is there whole or not at all, at any instant; what a
/// killed process leaves of it, [`remove_left_overs`](crate::remove_left_overs) removes.
///
/// # Errors
/// What the system says.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    let going = beside(folder)?;
    std::fs::rename(folder, going.path().join("old"))?;
    going.close()
}

/// A folder of its own beside a path, with the mode of any new folder.
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
