//! Reading a GGUF header.
//!
//! A file has the magic number, the version, and the counts of tensors and key-value pairs; then the pairs; then the
//! tensors' names, dimensions, types and offsets; then, aligned, the data
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>). Before memory is allocated for a count, the count is
//! checked: its items must fit in the rest of the file.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::reader::Reader;
use super::{Gguf, Kind, Value};
use crate::map::MappedFile;
use crate::weights::Entry;
use crate::{DType, Error, Result, TensorInfo};

/// The first four bytes of every GGUF file.
pub(crate) const MAGIC: &[u8] = b"GGUF";
pub(super) const DEFAULT_ALIGNMENT: u32 = 32;
/// GGML's `GGML_MAX_DIMS`.
pub(super) const MAX_DIMS: u32 = 4;
/// Arrays of arrays are allowed. The limit keeps a file from overflowing the stack.
const MAX_NESTING: u32 = 4;
/// The size of the smallest key-value pair: an empty key, a type, one byte.
const MIN_PAIR: u64 = 8 + 4 + 1;
/// The size of the smallest tensor description: an empty name, no dimension, a type, an offset.
const MIN_TENSOR: u64 = 8 + 4 + 4 + 8;

/// Reads and checks the header of a file that starts with [`MAGIC`].
pub(crate) fn open(file: Arc<MappedFile>) -> Result<(BTreeMap<String, Entry>, Gguf)> {
    let mut reader = Reader { file: &file, at: MAGIC.len() };
    let version = reader.u32("the version")?;
    if !(2..=3).contains(&version) {
        return Err(Error::GgufVersion { path: file.path().to_owned(), found: version });
    }
    let tensor_count = reader.count_of("the list of tensors", "a tensor count of", MIN_TENSOR)?;
    let pair_count = reader.count_of("the list of keys", "a key count of", MIN_PAIR)?;
    let (mut values, mut places) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..pair_count {
        let key = reader.string("a key")?;
        let start = reader.at;
        let value = reader.value(&key)?;
        places.insert(key.clone(), start..reader.at);
        if values.insert(key.clone(), value).is_some() {
            return Err(Error::Duplicate { path: file.path().to_owned(), name: key });
        }
    }
    let mut tensors = Vec::new();
    for _ in 0..tensor_count {
        tensors.push(reader.tensor()?);
    }
    let header_end = reader.at as u64;
    let gguf = Gguf { file: file.clone(), version, values, places };
    if let Some(parts) = gguf.get_u32("split.count")?.filter(|&parts| parts > 1) {
        return Err(Error::GgufSplit { path: file.path().to_owned(), parts });
    }
    let alignment = gguf.get_u32("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() {
        return Err(gguf.wrong("general.alignment", "a power of two", alignment.to_string()));
    }
    Ok((place(&file, tensors, header_end, u64::from(alignment))?, gguf))
}

/// The description of a tensor; its offset counts from the start of the data.
struct Described {
    name: String,
    info: TensorInfo,
    offset: u64,
    length: u64,
}

/// Checks that every tensor is aligned, lies within the file, and does not overlap another.
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
        // The tensor lies within the file, so none of these sums can overflow.
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

impl Reader<'_> {
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
        // The smallest size of an element: a fixed size, or for strings the length field, for arrays the type and the
        // count.
        let smallest = kind.size().unwrap_or(if kind == Kind::Str { 8 } else { 12 });
        let count = self.count_of(key, "an array length of", smallest as u64)?;
        Ok((kind, count))
    }

    fn skip_elements(&mut self, key: &str, kind: Kind, count: usize, depth: u32) -> Result<()> {
        if let Some(size) = kind.size() {
            // The count has been checked against the rest of the file.
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
        // In the file, the dimension that varies fastest comes first.
        shape.reverse();
        let id = self.u32(&name)?;
        let offset = self.u64(&name)?;
        let path = || self.file.path().to_owned();
        let Some(dtype) = DType::from_ggml(id) else {
            return Err(Error::UnknownDType { path: path(), name, dtype: DType::name_of_ggml(id) });
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
}
