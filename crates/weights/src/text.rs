//! Small files beside the weights, read up to a size limit.

use std::path::Path;

use foehn_files::MAX_TEXT;

use crate::{Error, Result};

/// The bytes of a text file beside a model's weights, such as its config or index.
///
/// # Errors
/// [`Error::TextTooLarge`] above [`MAX_TEXT`], and [`Error::Io`].
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    foehn_files::read(path, MAX_TEXT).map_err(|source| {
        let path = path.to_owned();
        match source.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(&foehn_files::TooLarge { found, limit }) => Error::TextTooLarge { path, found, limit },
            None => Error::Io { action: "read", path, source },
        }
    })
}
