//! Typed access to a GGUF file's metadata.

mod parse;
mod reader;
mod value;
mod write;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::str;
use std::sync::Arc;

use crate::map::MappedFile;
use crate::{Error, Result};

pub(crate) use parse::{MAGIC, open};
pub use value::GgufValue;
pub use write::{save_gguf, save_gguf_with};

/// The key-value pairs of a GGUF file: the model's configuration under `llama.*`, its tokenizer under `tokenizer.*`.
///
/// Strings and arrays stay in the file until they are read. Every getter returns `None` for an absent key, and an error
/// for a value of another type or out of range, so that a default is never used by mistake.
#[derive(Debug)]
pub struct Gguf {
    file: Arc<MappedFile>,
    version: u32,
    values: BTreeMap<String, Value>,
    /// The bytes of each value, its type before it.
    places: BTreeMap<String, Range<usize>>,
}

/// A value, or its range in the file. Ranges have been checked against the file's length.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Unsigned(u64),
    Signed(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Str(Range<usize>),
    Array { kind: Kind, count: usize, range: Range<usize> },
}

/// GGUF's value types, with their numbers in the file (`gguf_metadata_value_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Kind {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    Str = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl Gguf {
    /// The version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// All keys, in byte order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// A string, such as `general.architecture` or `tokenizer.chat_template`.
    ///
    /// # Errors
    /// [`Error::MetadataType`], or [`Error::GgufUtf8`].
    pub fn get_str(&self, key: &str) -> Result<Option<&str>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Str(range)) => self.text(key, range.clone()).map(Some),
            Some(other) => Err(self.wrong(key, "a string", other.describe())),
        }
    }

    /// An integer of any width that fits in 32 unsigned bits, such as `llama.block_count`.
    ///
    /// # Errors
    /// [`Error::MetadataType`].
    pub fn get_u32(&self, key: &str) -> Result<Option<u32>> {
        let (number, value) = match self.values.get(key) {
            None => return Ok(None),
            Some(value @ Value::Unsigned(number)) => (u32::try_from(*number).ok(), value),
            Some(value @ Value::Signed(number)) => (u32::try_from(*number).ok(), value),
            Some(other) => (None, other),
        };
        number.map(Some).ok_or_else(|| self.wrong(key, "an integer of 32 unsigned bits", value.describe()))
    }

    /// A floating-point number, such as `llama.rope.freq_base`. A 64-bit one is rounded.
    ///
    /// # Errors
    /// [`Error::MetadataType`].
    pub fn get_f32(&self, key: &str) -> Result<Option<f32>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::F32(number)) => Ok(Some(*number)),
            Some(Value::F64(number)) => Ok(Some(*number as f32)),
            Some(other) => Err(self.wrong(key, "a floating-point number", other.describe())),
        }
    }

    /// A boolean, such as `tokenizer.ggml.add_bos_token`.
    ///
    /// # Errors
    /// [`Error::MetadataType`].
    pub fn get_bool(&self, key: &str) -> Result<Option<bool>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Bool(truth)) => Ok(Some(*truth)),
            Some(other) => Err(self.wrong(key, "a truth value", other.describe())),
        }
    }

    /// An array of strings, such as `tokenizer.ggml.tokens` or `tokenizer.ggml.merges`. The text is not copied.
    ///
    /// # Errors
    /// [`Error::MetadataType`], or [`Error::GgufUtf8`].
    pub fn get_strings(&self, key: &str) -> Result<Option<Vec<&str>>> {
        let Some((count, range)) = self.array(key, Kind::Str)? else { return Ok(None) };
        let mut strings = Vec::with_capacity(count);
        let mut at = range.start;
        for _ in 0..count {
            let what = || format!("an element of {key:?}");
            let length = self.file.slice(at..at + 8, what)?;
            let length = length.iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte));
            // The lengths were checked when the file was opened, but the file can have changed since.
            let end = (at + 8).saturating_add(length).min(range.end);
            strings.push(self.text(key, at + 8..end)?);
            at = end;
        }
        Ok(Some(strings))
    }

    /// An array of 32-bit floating-point numbers, such as `tokenizer.ggml.scores`.
    ///
    /// # Errors
    /// [`Error::MetadataType`].
    pub fn get_f32s(&self, key: &str) -> Result<Option<Vec<f32>>> {
        Ok(self.numbers(key, Kind::F32)?.map(|bytes| bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
    }

    /// An array of 32-bit integers, such as `tokenizer.ggml.token_type`.
    ///
    /// # Errors
    /// [`Error::MetadataType`].
    pub fn get_i32s(&self, key: &str) -> Result<Option<Vec<i32>>> {
        Ok(self.numbers(key, Kind::I32)?.map(|bytes| bytes.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect()))
    }

    /// A value of any type as it is in the file, to be written into another one.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file has become shorter.
    pub fn value(&self, key: &str) -> Result<Option<GgufValue>> {
        let Some(place) = self.places.get(key) else { return Ok(None) };
        let bytes = self.file.slice(place.clone(), || format!("the value of {key:?}"))?;
        Ok(Some(GgufValue(bytes.to_vec())))
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    fn numbers(&self, key: &str, kind: Kind) -> Result<Option<&[[u8; 4]]>> {
        let Some((_, range)) = self.array(key, kind)? else { return Ok(None) };
        Ok(Some(self.file.slice(range, || format!("the array {key:?}"))?.as_chunks().0))
    }

    fn array(&self, key: &str, wanted: Kind) -> Result<Option<(usize, Range<usize>)>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Array { kind, count, range }) if *kind == wanted => Ok(Some((*count, range.clone()))),
            Some(other) => Err(self.wrong(key, wanted.array_name(), other.describe())),
        }
    }

    fn text(&self, key: &str, range: Range<usize>) -> Result<&str> {
        let what = || format!("the value of {key:?}");
        let offset = range.start as u64;
        str::from_utf8(self.file.slice(range, what)?).map_err(|source| Error::GgufUtf8 {
            path: self.path().to_owned(),
            what: what(),
            offset,
            source,
        })
    }

    fn wrong(&self, key: &str, expected: &'static str, found: String) -> Error {
        Error::MetadataType { path: self.path().to_owned(), key: key.to_owned(), expected, found }
    }
}

impl Value {
    fn describe(&self) -> String {
        match self {
            Self::Unsigned(number) => format!("the integer {number}"),
            Self::Signed(number) => format!("the integer {number}"),
            Self::F32(number) => format!("the number {number}"),
            Self::F64(number) => format!("the number {number}"),
            Self::Bool(truth) => format!("the truth value {truth}"),
            Self::Str(_) => "a string".to_owned(),
            Self::Array { kind, .. } => kind.array_name().to_owned(),
        }
    }
}

impl Kind {
    fn array_name(self) -> &'static str {
        match self {
            Self::Str => "an array of strings",
            Self::F32 => "an array of 32-bit floats",
            Self::I32 => "an array of 32-bit integers",
            Self::Bool => "an array of truth values",
            Self::Array => "an array of arrays",
            _ => "an array of other numbers",
        }
    }
}
