//! Files that appear whole or not at all, whether two paths name the same one, and how to show what files say.
//!
//! Foehn writes every file with [`Draft`] (or [`write()`]): it writes a temporary file beside the destination, syncs
//! it, renames it, and syncs the folder. A crash at any instant leaves either the old file or the new one. The new file
//! gets the usual mode from the process's umask, not the owner-only mode of a temporary file.
//!
//! [`DraftFolder`] writes a folder of several files in the same way.
//!
//! [`read()`] reads a file up to a limit, even if the file's reported size is wrong.
//!
//! [`printable()`] shows a name out of a file so that it cannot steer a terminal.
//!
//! [`check_outputs`] refuses an output that is also an input or another output, however the paths are written.
//!
//! ```
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("report.json");
//! foehn_files::write(&path, b"{}\n")?;
//! assert_eq!(std::fs::read(&path)?, b"{}\n");
//! assert!(foehn_files::check_outputs(&[&path], &[&folder.path().join("./report.json")]).is_err());
//! # Ok::<(), std::io::Error>(())
//! ```

mod draft;
mod folder;
mod identity;
mod printable;
mod text;

pub use draft::{Draft, folder_of, remove_left_overs, sync_folder, write};
pub use folder::{DraftFolder, remove_folder};
pub use identity::{Conflict, check_outputs, is_empty_or_absent, is_same, resolved};
pub use printable::{Printable, printable, printable_json, printable_text};
pub use text::{MAX_TEXT, TooLarge, read, read_to_string};
