//! Writes GGUF files atomically.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use super::GgufValue;
use super::parse::{DEFAULT_ALIGNMENT, MAGIC, MAX_DIMS};
use super::value::string;
use crate::save::{atomically, write_tensor};
use crate::{Error, Result, Tensor, TensorData, TensorSpec};

/// The key for another alignment of tensors than 32 bytes.
const ALIGNMENT: &str = "general.alignment";
/// The longest name that llama.cpp reads, in bytes (`GGML_MAX_NAME`, less the zero at its end).
const MAX_NAME: usize = 63;
/// The version of the format that is written.
const VERSION: u32 = 3;

/// Writes a GGUF file, atomically: after a crash or with a full disk, an old file is still unchanged. Metadata and tensors
/// stand in the given order. `values` is called for one tensor after another, so that it can free each one before it makes
/// the next. Block types are quantised here.
///
/// # Errors
/// [`Error::Io`] (for example a full disk; no partial file is left), [`Error::Duplicate`], [`Error::LongName`],
/// [`Error::MetadataType`] for an
/// alignment other than 32 bytes, [`Error::ShapeMismatch`],
/// [`Error::NotInFormat`] for a type that GGUF does not have, that cannot be made, or whose blocks do not fit the rows;
/// [`Error::Unsaveable`] for a value that is not finite, or not finite in the stored type; and the errors of `values`.
pub fn save_gguf_with<'a, E: From<Error>>(
    path: &Path,
    metadata: &[(String, GgufValue)],
    specs: &[TensorSpec],
    mut values: impl FnMut(&TensorSpec) -> Result<TensorData<'a>, E>,
) -> Result<(), E> {
    let (header, lengths) = header(path, metadata, specs)?;
    atomically(path, |writer| {
        let io = |source| Error::Io { action: "write", path: path.to_owned(), source };
        writer.write_all(&header).map_err(io)?;
        for (spec, length) in specs.iter().zip(lengths) {
            write_tensor(writer, path, spec, values(spec)?)?;
            writer.write_all(&vec![0; padding(length)]).map_err(io)?;
        }
        Ok(())
    })
}

/// As [`save_gguf_with`], of tensors in memory.
///
/// # Errors
/// As [`save_gguf_with`].
pub fn save_gguf(path: &Path, metadata: &[(String, GgufValue)], tensors: &[Tensor<'_>]) -> Result<()> {
    let specs: Vec<TensorSpec> = tensors.iter().map(|tensor| tensor.spec.clone()).collect();
    let mut next = tensors.iter();
    save_gguf_with(path, metadata, &specs, |spec| match next.next() {
        Some(tensor) => Ok(TensorData::Values(std::borrow::Cow::Borrowed(&*tensor.data))),
        None => Err(Error::NoSuchTensor { path: path.to_owned(), name: spec.name.clone() }),
    })
}

/// All before the data, and the length of each tensor.
fn header(path: &Path, metadata: &[(String, GgufValue)], specs: &[TensorSpec]) -> Result<(Vec<u8>, Vec<usize>)> {
    fn repeated<'a>(mut names: impl Iterator<Item = &'a String>) -> Option<&'a String> {
        let mut known = BTreeSet::new();
        names.find(|name| !known.insert(*name))
    }
    let twice = repeated(metadata.iter().map(|(key, _)| key)).or_else(|| repeated(specs.iter().map(|spec| &spec.name)));
    if let Some(name) = twice {
        return Err(Error::Duplicate { path: path.to_owned(), name: name.clone() });
    }
    if metadata.iter().any(|(key, value)| key == ALIGNMENT && *value != GgufValue::from(DEFAULT_ALIGNMENT)) {
        let (key, expected) = (ALIGNMENT.to_owned(), "32, as tensors are aligned here");
        return Err(Error::MetadataType { path: path.to_owned(), key, expected, found: "another value".to_owned() });
    }
    let mut header = [MAGIC, &VERSION.to_le_bytes()].concat();
    header.extend((specs.len() as u64).to_le_bytes());
    header.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        header.extend(string(key));
        header.extend(&value.0);
    }
    let (mut offset, mut lengths) = (0u64, Vec::with_capacity(specs.len()));
    for spec in specs {
        if spec.name.len() > MAX_NAME {
            return Err(Error::LongName { path: path.to_owned(), name: spec.name.clone(), limit: MAX_NAME });
        }
        let not_in_format = || spec.not_in_format(path);
        let id = spec.dtype.to_ggml().ok_or_else(not_in_format)?;
        let dims = u32::try_from(spec.shape.len()).ok().filter(|dims| (1..=MAX_DIMS).contains(dims));
        header.extend(string(&spec.name));
        header.extend(dims.ok_or_else(not_in_format)?.to_le_bytes());
        // The dimension that varies fastest comes first.
        spec.shape.iter().rev().for_each(|&size| header.extend((size as u64).to_le_bytes()));
        header.extend(id.to_le_bytes());
        header.extend(offset.to_le_bytes());
        let length = spec.bytes(path)?;
        let end = offset.checked_add(length as u64).and_then(|end| end.checked_add(padding(length) as u64));
        offset = end.ok_or_else(|| spec.too_large(path))?;
        lengths.push(length);
    }
    header.resize(header.len() + padding(header.len()), 0);
    Ok((header, lengths))
}

/// The number of bytes from a length to the next tensor.
fn padding(length: usize) -> usize {
    length.next_multiple_of(DEFAULT_ALIGNMENT as usize) - length
}
