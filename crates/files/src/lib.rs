//! Files that appear whole or not at all, whether two paths name the same one, and how to show what files say.
//!
//! Every file that Foehn writes goes through [`Draft`] (or [`write()`]): it is written beside its place, synced, and renamed,
//! and then its folder is synced. A crash at any instant leaves the old file or the new one. The new file has the mode that
//! the process's mask gives to any file, not the owner-only mode of a temporary file.
//!
//! A folder of several files is written in the same way, by [`DraftFolder`].
//!
//! [`read()`] reads a file within a limit, whatever the file says of its size.
//!
//! [`printable()`] shows a name out of a file so that it cannot steer a terminal.
//!
//! [`check_outputs`] refuses an output that is also an input or another output, however the paths are spelled.
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
