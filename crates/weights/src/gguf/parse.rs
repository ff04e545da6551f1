//! Reading a GGUF header.
//!
//! Magic, version, the counts of tensors and of key-values; the key-values; the tensors' names, dimensions, types and
//! offsets; then, aligned, the data (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>). A count in the file is
//! never trusted with an allocation: it must fit into the bytes that are left.

use std::collections::BTreeMap;
use std::ops::Range;
use std::str;
use std::sync::Arc;

use super::{Gguf, Kind, Value};
use crate::map::MappedFile;
use crate::weights::Entry;
use crate::{DType, Error, Result, TensorInfo};

/// The first four bytes of every GGUF file.
pub(crate) const MAGIC: &[u8] = b"GGUF";
const DEFAULT_ALIGNMENT: u32 = 32;
/// GGML's `GGML_MAX_DIMS`.
const MAX_DIMS: u32 = 4;
/// Arrays of arrays are allowed; a file can't use them to exhaust the stack.
const MAX_NESTING: u32 = 4;
/// Smallest key-value: an empty key, a type, one byte.
const MIN_PAIR: u64 = 8 + 4 + 1;
/// Smallest tensor description: an empty name, no dimension, a type, an offset.
const MIN_TENSOR: u64 = 8 + 4 + 4 + 8;

/// Reads and checks the header of a file that starts with [`MAGIC`].
pub(crate) fn open(file: Arc<MappedFile>) -> Result<(BTreeMap<String, Entry>, Gguf)> {
    let mut reader = Reader { file: &file, at: MAGIC.len() };
    let version = reader.u32("the version")?;
    if !(2..=3).contains(&version) {
        return Err(Error::GgufVersion { path: file.path().to_owned(), found: version });
    }
    let tensor_count = reader.count("a tensor count of", MIN_TENSOR)?;
    let pair_count = reader.count("a key count of", MIN_PAIR)?;
    let mut values = BTreeMap::new();
    for _ in 0..pair_count {
        let key = reader.string("a key")?;
        let value = reader.value(&key)?;
        if values.insert(key.clone(), value).is_some() {
            return Err(Error::Duplicate { path: file.path().to_owned(), name: key });
        }
    }
    let mut tensors = Vec::new();
    for _ in 0..tensor_count {
        tensors.push(reader.tensor()?);
    }
    let header_end = reader.at as u64;
    let gguf = Gguf { file: file.clone(), version, values };
    if let Some(parts) = gguf.get_u32("split.count")?.filter(|&parts| parts > 1) {
        return Err(Error::GgufSplit { path: file.path().to_owned(), parts });
    }
    let alignment = gguf.get_u32("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() {
        return Err(gguf.wrong("general.alignment", "a power of two", alignment.to_string()));
    }
    Ok((place(&file, tensors, header_end, u64::from(alignment))?, gguf))
}

/// A tensor's description, with its offset from the start of the data.
struct Described {
    name: String,
    info: TensorInfo,
    offset: u64,
    length: u64,
}

/// Checks that every tensor is aligned, within the file, and apart from the others.
fn place(
    file: &MappedFile,
    mut tensors: Vec<Described>,
    header_end: u64,
    alignment: u64,
) -> Result<BTreeMap<String, Entry>> {
    let data = header_end.next_multiple_of(alignment);
    tensors.sort_by_key(|tensor| (tensor.offset, tensor.length));
    let mut placed = BTreeMap::new();
    let mut free = 0;
    for Described { name, info, offset, length } in tensors {
        let path = || file.path().to_owned();
        let begin = data.saturating_add(offset);
        let end = begin.saturating_add(length);
        if end > file.len() {
            let available = file.len().saturating_sub(begin);
            let what = format!("tensor {name:?}");
            return Err(Error::Truncated { path: path(), what, offset: begin, needed: length, available });
        }
        // The file holds the tensor, so that none of these sums can overflow.
        if offset < free || offset % alignment != 0 {
            let expected = free.max(offset).next_multiple_of(alignment);
            return Err(Error::TensorOffset { path: path(), name, expected, found: offset });
        }
        free = offset + length;
        if placed.insert(name.clone(), Entry { info, range: begin as usize..end as usize }).is_some() {
            return Err(Error::Duplicate { path: path(), name });
        }
    }
    Ok(placed)
}

struct Reader<'a> {
    file: &'a MappedFile,
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, key: &str) -> Result<Value> {
        let kind = self.kind()?;
        Ok(match kind {
            Kind::U8 => Value::Unsigned(u64::from(self.u8(key)?)),
            Kind::U16 => Value::Unsigned(u64::from(u16::from_le_bytes(self.array(key)?))),
            Kind::U32 => Value::Unsigned(u64::from(self.u32(key)?)),
            Kind::U64 => Value::Unsigned(self.u64(key)?),
            Kind::I8 => Value::Signed(i64::from(self.u8(key)?.cast_signed())),
            Kind::I16 => Value::Signed(i64::from(i16::from_le_bytes(self.array(key)?))),
            Kind::I32 => Value::Signed(i64::from(i32::from_le_bytes(self.array(key)?))),
            Kind::I64 => Value::Signed(i64::from_le_bytes(self.array(key)?)),
            Kind::F32 => Value::F32(f32::from_le_bytes(self.array(key)?)),
            Kind::F64 => Value::F64(f64::from_le_bytes(self.array(key)?)),
            Kind::Bool => Value::Bool(self.u8(key)? != 0),
            Kind::Str => Value::Str(self.string_range(key)?),
            Kind::Array => {
                let (kind, count) = self.array_head(key)?;
                let start = self.at;
                self.skip_elements(key, kind, count, 1)?;
                Value::Array { kind, count, range: start..self.at }
            }
        })
    }

    fn array_head(&mut self, key: &str) -> Result<(Kind, usize)> {
        let kind = self.kind()?;
        // An element takes at least its fixed size: for strings the length before it, for arrays a type and a count.
        let smallest = kind.size().unwrap_or(if kind == Kind::Str { 8 } else { 12 });
        let count = self.count_of(key, "an array length of", smallest as u64)?;
        Ok((kind, count))
    }

    fn skip_elements(&mut self, key: &str, kind: Kind, count: usize, depth: u32) -> Result<()> {
        if let Some(size) = kind.size() {
            // The count has been checked against the bytes that are left.
            self.take(count * size, key)?;
            return Ok(());
        }
        if depth > MAX_NESTING {
            return Err(self.bad("arrays nested to the depth", u64::from(depth)));
        }
        for _ in 0..count {
            if kind == Kind::Str {
                self.string_range(key)?;
            } else {
                let (kind, count) = self.array_head(key)?;
                self.skip_elements(key, kind, count, depth + 1)?;
            }
        }
        Ok(())
    }

    fn tensor(&mut self) -> Result<Described> {
        let name = self.string("a tensor's name")?;
        let dims = self.u32(&name)?;
        if dims > MAX_DIMS {
            return Err(self.bad("a tensor with this many dimensions:", u64::from(dims)));
        }
        let mut shape = Vec::with_capacity(dims as usize);
        for _ in 0..dims {
            shape.push(self.u64(&name)?);
        }
        // The file writes the dimension that varies fastest first.
        shape.reverse();
        let id = self.u32(&name)?;
        let offset = self.u64(&name)?;
        let path = || self.file.path().to_owned();
        let Some(dtype) = DType::from_ggml(id) else {
            return Err(Error::UnknownDType { path: path(), name, dtype: format!("GGML type {id}") });
        };
        let row = shape.last().copied().unwrap_or(1);
        let block = dtype.block();
        if !row.is_multiple_of(block.elements as u64) {
            let elements = row as usize;
            return Err(Error::BlockSize { path: path(), name, dtype, elements, block: block.elements });
        }
        let length = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size));
        let length = length.and_then(|elements| (elements / block.elements as u64).checked_mul(block.bytes as u64));
        let sizes: Result<Vec<usize>, _> = shape.iter().map(|&size| usize::try_from(size)).collect();
        match (length, sizes) {
            (Some(length), Ok(shape)) => Ok(Described { name, info: TensorInfo { shape, dtype }, offset, length }),
            _ => Err(Error::ShapeOverflow { path: path(), name, shape }),
        }
    }

    fn kind(&mut self) -> Result<Kind> {
        let id = self.u32("a value's type")?;
        Kind::from_id(id).ok_or_else(|| self.bad("the value type", u64::from(id)))
    }

    fn string(&mut self, what: &str) -> Result<String> {
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

    fn string_range(&mut self, what: &str) -> Result<Range<usize>> {
        let length = self.count_of(what, "a string length of", 1)?;
        let start = self.at;
        self.take(length, what)?;
        Ok(start..self.at)
    }

    fn count(&mut self, what: &'static str, smallest: u64) -> Result<usize> {
        self.count_of(what, what, smallest)
    }

    /// A 64-bit count of things that take at least `smallest` bytes each and so must fit into the rest of the file.
    fn count_of(&mut self, what: &str, field: &'static str, smallest: u64) -> Result<usize> {
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

    fn u8(&mut self, what: &str) -> Result<u8> {
        self.array(what).map(|[byte]: [u8; 1]| byte)
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, what)?);
        Ok(bytes)
    }

    fn take(&mut self, length: usize, what: &str) -> Result<&'a [u8]> {
        let bytes = self.file.slice(self.at..self.at.saturating_add(length), || what.to_owned())?;
        self.at += length;
        Ok(bytes)
    }

    fn bad(&self, what: &'static str, found: u64) -> Error {
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

    /// Bytes of a value, `None` for the two kinds of varying length.
    fn size(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Str | Self::Array => None,
        }
    }
}
