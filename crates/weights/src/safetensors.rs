//! The header of a safetensors file.
//!
//! A file has the length of the header in eight bytes, the header in JSON, and then the bytes of the tensors without
//! gaps (<https://github.com/huggingface/safetensors#format>). The checks are as strict as those of the reference
//! implementation, but every error names the tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::map::MappedFile;
use crate::weights::{Entry, Header};
use crate::{DType, Error, Result, TensorInfo};

/// The key of the text metadata in a header.
pub(crate) const METADATA: &str = "__metadata__";
/// The reference implementation's `MAX_HEADER_SIZE`.
pub(crate) const MAX_HEADER: u64 = 100_000_000;
const LENGTH_BYTES: usize = 8;

/// Reads and checks the header: no overlap, no gap, nothing beyond the end of the file.
pub(crate) fn read_header(file: &MappedFile) -> Result<Header> {
    let (json, data_start) = header_bytes(file)?;
    let raw: RawHeader =
        serde_json::from_slice(json).map_err(|source| Error::Json { path: file.path().to_owned(), source })?;
    let mut tensors = raw.tensors;
    refuse_duplicates(file, &tensors)?;
    tensors.sort_by(|(a, left), (b, right)| (left.data_offsets, a).cmp(&(right.data_offsets, b)));
    let mut header = Header { tensors: BTreeMap::new(), metadata: raw.metadata };
    let mut next = 0;
    for (name, raw) in tensors {
        let (begin, end) = raw.data_offsets;
        let (info, length) = check(file, &name, raw)?;
        if begin != next {
            return Err(Error::TensorOffset { path: file.path().to_owned(), name, expected: next, found: begin });
        }
        let found = end.saturating_sub(begin);
        if end < begin || found != length {
            return Err(Error::TensorLength { path: file.path().to_owned(), name, expected: length, found });
        }
        next = end;
        let range = place(file, &name, data_start, begin, end)?;
        header.tensors.insert(name, Entry { info, range });
    }
    let found = file.len() - data_start as u64;
    if found != next {
        return Err(Error::DataLength { path: file.path().to_owned(), expected: next, found });
    }
    Ok(header)
}

/// The JSON, and the offset of the data.
fn header_bytes(file: &MappedFile) -> Result<(&[u8], usize)> {
    let prefix = file.slice(0..LENGTH_BYTES, || "the header's length".to_owned())?;
    let length = prefix.iter().rev().fold(0, |length, byte| length << 8 | u64::from(*byte));
    if length > MAX_HEADER {
        return Err(Error::HeaderTooLarge { path: file.path().to_owned(), found: length, limit: MAX_HEADER });
    }
    let end = LENGTH_BYTES + length as usize;
    Ok((file.slice(LENGTH_BYTES..end, || "the header".to_owned())?, end))
}

fn refuse_duplicates(file: &MappedFile, tensors: &[(String, RawTensor)]) -> Result<()> {
    let mut seen = BTreeSet::new();
    match tensors.iter().find(|(name, _)| !seen.insert(name)) {
        Some((name, _)) => Err(Error::Duplicate { path: file.path().to_owned(), name: name.clone() }),
        None => Ok(()),
    }
}

/// The info of a tensor, and the number of bytes that it must have.
fn check(file: &MappedFile, name: &str, raw: RawTensor) -> Result<(TensorInfo, u64)> {
    let path = || file.path().to_owned();
    let Some(dtype) = DType::from_safetensors(&raw.dtype) else {
        return Err(Error::UnknownDType { path: path(), name: name.to_owned(), dtype: raw.dtype });
    };
    let overflow = || Error::ShapeOverflow { path: path(), name: name.to_owned(), shape: raw.shape.clone() };
    let shape: Vec<usize> =
        raw.shape.iter().map(|&size| usize::try_from(size)).collect::<Result<_, _>>().map_err(|_| overflow())?;
    let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size)).ok_or_else(overflow)?;
    let block = dtype.block();
    if elements % block.elements != 0 {
        return Err(Error::BlockSize { path: path(), name: name.to_owned(), dtype, elements, block: block.elements });
    }
    let length = (elements / block.elements).checked_mul(block.bytes).ok_or_else(overflow)?;
    Ok((TensorInfo { shape, dtype }, length as u64))
}

/// The tensor's range in the file.
fn place(file: &MappedFile, name: &str, data: usize, begin: u64, end: u64) -> Result<Range<usize>> {
    let at = |offset: u64| (data as u64).checked_add(offset).filter(|&offset| offset <= file.len());
    match (at(begin), at(end)) {
        (Some(begin), Some(end)) => Ok(begin as usize..end as usize),
        _ => Err(Error::Truncated {
            path: file.path().to_owned(),
            what: format!("tensor {name:?}"),
            offset: (data as u64).saturating_add(begin),
            needed: end - begin,
            available: file.len().saturating_sub((data as u64).saturating_add(begin)),
        }),
    }
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The header as it is in the file. It is a list, so that a duplicate name can be detected.
struct RawHeader {
    tensors: Vec<(String, RawTensor)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tensor names to dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut header = RawHeader { tensors: Vec::new(), metadata: BTreeMap::new() };
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                header.metadata = map.next_value::<Option<_>>()?.unwrap_or_default();
            } else {
                header.tensors.push((name, map.next_value()?));
            }
        }
        Ok(header)
    }
}
