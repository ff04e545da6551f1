//! How files are read where they do not say it themselves.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use super::encoding::Encoding;
use super::map::FieldMap;
use crate::error::Error;

/// How [`read_with`](crate::read_with) reads files. By default everything is found from the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadConfig {
    /// The encoding of text files that have no byte-order mark.
    pub encoding: Option<Encoding>,
    /// The character between the columns of a table.
    pub delimiter: Option<Delimiter>,
    /// The columns or keys that become the fields of a record.
    pub map: FieldMap,
}

/// The character between the columns of a table: any ASCII character but a letter, a digit, a quotation mark and a line
/// break. It is parsed from the character itself, from `\t`, or from `tab`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Delimiter(u8);

/// How one file was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReadAs {
    /// The file, as the caller wrote it.
    pub file: String,
    /// The encoding.
    pub encoding: Encoding,
    /// The character between the columns, for a table in a text file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<Delimiter>,
}

impl Delimiter {
    pub(super) const COMMA: Self = Self(b',');
    pub(super) const TAB: Self = Self(b'\t');
    /// The characters that are looked for in a file, the most usual first.
    pub(super) const USUAL: [Self; 4] = [Self::COMMA, Self(b';'), Self::TAB, Self(b'|')];

    pub(super) fn new(byte: u8) -> Option<Self> {
        let is_taken = byte.is_ascii_alphanumeric() || matches!(byte, b'"' | b'\r' | b'\n' | 0);
        (byte.is_ascii() && !is_taken).then_some(Self(byte))
    }

    /// The character as a byte.
    pub fn byte(self) -> u8 {
        self.0
    }
}

impl FromStr for Delimiter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = match text.as_bytes() {
            b"\\t" | b"tab" => Some(Self::TAB),
            [byte] => Self::new(*byte),
            _ => None,
        };
        found.ok_or_else(|| Error::Delimiter { found: text.to_owned() })
    }
}

impl fmt::Display for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::TAB { f.write_str("tab") } else { write!(f, "{}", char::from(self.0)) }
    }
}

impl fmt::Debug for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Delimiter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Delimiter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl ReadAs {
    /// Whether a reader would expect something else: another encoding than UTF-8, or another delimiter than a comma.
    pub(crate) fn is_unusual(&self) -> bool {
        self.encoding != Encoding::UTF_8 || self.delimiter.is_some_and(|delimiter| delimiter != Delimiter::COMMA)
    }
}

impl fmt::Display for ReadAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} read as {}", foehn_files::printable(&self.file), self.encoding)?;
        self.delimiter.map_or(Ok(()), |delimiter| match delimiter {
            Delimiter::TAB => f.write_str(", columns divided by tabs"),
            other => write!(f, ", columns divided by `{other}`"),
        })
    }
}
