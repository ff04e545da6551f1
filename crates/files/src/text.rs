//! Small files, read up to a size limit.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// The largest config, tokenizer, template or recipe that is read, in bytes. The largest published ones have a few MB.
pub const MAX_TEXT: u64 = 256 << 20;

/// A file is larger than the limit. This is the inner error of an [`Error`] of kind [`ErrorKind::FileTooLarge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has {found} bytes or more; files of its kind have {limit} at most, so it is not read")]
pub struct TooLarge {
    /// The size of the file, or the number of bytes read if the file does not report its size.
    pub found: u64,
    /// The largest size that is read.
    pub limit: u64,
}

/// Reads a file of at most `limit` bytes; usually the limit is [`MAX_TEXT`].
///
/// # Errors
/// [`TooLarge`] inside an [`Error`], and the system's errors.
pub fn read(path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>> {
    let too_large = |found| Err(Error::new(ErrorKind::FileTooLarge, TooLarge { found, limit }));
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    if len > limit {
        return too_large(len);
    }
    // A pipe or a device reports no length, and a file can grow while it is read. So the reading is limited too.
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        found if found > limit => too_large(found),
        _ => Ok(bytes),
    }
}

/// As [`read`], for text.
///
/// # Errors
/// As [`read`], and [`ErrorKind::InvalidData`] if the file is not UTF-8.
pub fn read_to_string(path: impl AsRef<Path>, limit: u64) -> Result<String> {
    String::from_utf8(read(path, limit)?).map_err(|error| Error::new(ErrorKind::InvalidData, error.utf8_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(result: Result<String>) -> TooLarge {
        *result.unwrap_err().get_ref().unwrap().downcast_ref().unwrap()
    }

    #[test]
    fn the_limit_holds_whatever_the_file_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_to_string(&path, 5).unwrap(), "12345");
        assert_eq!(found(read_to_string(&path, 4)), TooLarge { found: 5, limit: 4 });
        if cfg!(unix) {
            assert_eq!(found(read_to_string("/dev/zero", 1000)), TooLarge { found: 1001, limit: 1000 });
        }
        std::fs::write(&path, [0xff]).unwrap();
        assert_eq!(read_to_string(&path, 5).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
