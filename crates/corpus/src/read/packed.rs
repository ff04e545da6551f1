//! Files that are uncompressed, or decompressed while they are read: gzip and Zstandard, recognised by their first
//! bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

const GZIP: &[u8] = b"\x1F\x8B";
const ZSTD: &[u8] = b"\x28\xB5\x2F\xFD";
/// A Zstandard file may begin with a skippable frame (RFC 8878, 3.1.2): one of 16 numbers, then these three bytes.
const ZSTD_SKIPPABLE: &[u8] = b"\x2A\x4D\x18";

const GZIP_NAME: &str = "gzip";
const ZSTD_NAME: &str = "Zstandard";

/// The decompressed bytes of a dataset file.
pub(super) type Input = BufReader<Stream>;

/// A file and its decoder. A compressed file may have several members or frames.
pub(super) enum Stream {
    Plain(BufReader<File>),
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<File>>>),
}

impl Stream {
    pub fn new(file: File) -> io::Result<Self> {
        let mut file = BufReader::with_capacity(1 << 16, file);
        let head = file.fill_buf()?;
        Ok(if head.starts_with(GZIP) {
            Self::Gzip(Box::new(MultiGzDecoder::new(file)))
        } else if head.starts_with(ZSTD) || is_skippable(head) {
            Self::Zstd(Box::new(zstd::Decoder::with_buffer(file)?))
        } else {
            Self::Plain(file)
        })
    }

    /// The compression format of the file.
    pub fn format(&self) -> Option<&'static str> {
        match self {
            Self::Plain(_) => None,
            Self::Gzip(_) => Some(GZIP_NAME),
            Self::Zstd(_) => Some(ZSTD_NAME),
        }
    }

    /// The file itself, or its compression format.
    pub fn into_file(self) -> Result<File, &'static str> {
        match self {
            Self::Plain(file) => Ok(file.into_inner()),
            Self::Gzip(_) => Err(GZIP_NAME),
            Self::Zstd(_) => Err(ZSTD_NAME),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// The extension of a file's name in lower case; for a compressed file, the one before `.gz` or `.zst`.
pub(super) fn extension(path: &Path) -> String {
    let lower = |path: &Path| path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match lower(path).as_str() {
        "gz" | "zst" => path.file_stem().map_or_else(String::new, |inner| lower(Path::new(inner))),
        other => other.to_owned(),
    }
}

fn is_skippable(head: &[u8]) -> bool {
    head.first().is_some_and(|first| first >> 4 == 5) && head[1..].starts_with(ZSTD_SKIPPABLE)
}
