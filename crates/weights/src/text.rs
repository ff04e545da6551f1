//! Small files beside the weights, read within bounds.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{Error, Result};

/// The largest config, index or other text file that is read: 256 MB. The largest published ones have a few.
pub const MAX_TEXT: u64 = 256 << 20;

/// The bytes of a text file beside a model's weights: its config, its index.
///
/// # Errors
/// [`Error::TextTooLarge`] above [`MAX_TEXT`], and [`Error::Io`].
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let io = |action| move |source| Error::Io { action, path: path.to_owned(), source };
    let too_large = |found| Error::TextTooLarge { path: path.to_owned(), found, limit: MAX_TEXT };
    let file = File::open(path).map_err(io("open"))?;
    let len = file.metadata().map_err(io("read"))?.len();
    if len > MAX_TEXT {
        return Err(too_large(len));
    }
    // A pipe or a device says no length, and a file can grow meanwhile: what is read is bounded too.
    let mut bytes = Vec::with_capacity(len as usize);
    file.take(MAX_TEXT + 1).read_to_end(&mut bytes).map_err(io("read"))?;
    match bytes.len() as u64 {
        found if found > MAX_TEXT => Err(too_large(found)),
        _ => Ok(bytes),
    }
}
