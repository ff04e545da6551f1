//! Reads the primitive values of a GGUF header, and never reads beyond the end of the file.

use std::ops::Range;
use std::str;

use super::Kind;
use crate::map::MappedFile;
use crate::{Error, Result};

/// A position in a file. `what` and `key` describe in an error what was being read.
pub(super) struct Reader<'a> {
    pub file: &'a MappedFile,
    pub at: usize,
}

impl<'a> Reader<'a> {
    pub fn kind(&mut self) -> Result<Kind> {
        let id = self.u32("a value's type")?;
        Kind::from_id(id).ok_or_else(|| self.bad("the value type", u64::from(id)))
    }

    pub fn string(&mut self, what: &str) -> Result<String> {
        let range = self.string_range(what)?;
        let offset = range.start as u64;
        let bytes = self.file.slice(range, || what.to_owned())?;
        let text = str::from_utf8(bytes).map_err(|source| Error::GgufUtf8 {
            path: self.file.path().to_owned(),
            what: what.to_owned(),
            offset,
            source,
        })?;
        Ok(text.to_owned())
    }

    pub fn string_range(&mut self, what: &str) -> Result<Range<usize>> {
        let length = self.count_of(what, "a string length of", 1)?;
        let start = self.at;
        self.take(length, what)?;
        Ok(start..self.at)
    }

    /// Reads a 64-bit count. The counted items have at least `smallest` bytes each, and must fit in the rest of the
    /// file.
    pub fn count_of(&mut self, what: &str, field: &'static str, smallest: u64) -> Result<usize> {
        let count = self.u64(what)?;
        let left = self.file.len() - self.at as u64;
        match count.checked_mul(smallest) {
            Some(needed) if needed <= left => Ok(count as usize),
            Some(needed) if needed <= i64::MAX as u64 => Err(Error::Truncated {
                path: self.file.path().to_owned(),
                what: what.to_owned(),
                offset: self.at as u64,
                needed,
                available: left,
            }),
            _ => Err(self.bad(field, count)),
        }
    }

    pub fn u8(&mut self, what: &str) -> Result<u8> {
        self.array(what).map(|[byte]: [u8; 1]| byte)
    }

    pub fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, what)?);
        Ok(bytes)
    }

    pub fn take(&mut self, length: usize, what: &str) -> Result<&'a [u8]> {
        let bytes = self.file.slice(self.at..self.at.saturating_add(length), || what.to_owned())?;
        self.at += length;
        Ok(bytes)
    }

    pub fn bad(&self, what: &'static str, found: u64) -> Error {
        Error::GgufValue { path: self.file.path().to_owned(), what, found, offset: self.at as u64 }
    }
}

impl Kind {
    fn from_id(id: u32) -> Option<Self> {
        const ALL: [Kind; 13] = [
            Kind::U8,
            Kind::I8,
            Kind::U16,
            Kind::I16,
            Kind::U32,
            Kind::I32,
            Kind::F32,
            Kind::Bool,
            Kind::Str,
            Kind::Array,
            Kind::U64,
            Kind::I64,
            Kind::F64,
        ];
        ALL.into_iter().find(|kind| *kind as u32 == id)
    }

    /// The size of a value in bytes; `None` for the two types of variable length.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Str | Self::Array => None,
        }
    }
}
