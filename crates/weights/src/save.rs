//! Writes safetensors atomically. The same tensors always give the same bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use foehn_files::Draft;
use half::{bf16, f16};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::safetensors::{MAX_HEADER, METADATA};
use crate::{Error, Result};

/// The number of values that are checked and written at once.
const WRITTEN: usize = 4096;

/// The float types that can be written. `f32` values are rounded to the nearest value, ties to even.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FloatType {
    /// IEEE 754 half precision.
    F16,
    /// bfloat16.
    BF16,
    /// IEEE 754 single precision.
    F32,
}

/// The name, shape and storage type of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name, unique in its file.
    pub name: String,
    /// Row-major, outermost dimension first.
    pub shape: Vec<usize>,
    /// The type in which the values are stored.
    pub dtype: FloatType,
}

/// A tensor to be saved.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor<'a> {
    /// Name, shape and type.
    pub spec: TensorSpec,
    /// The values, row-major; their number is the product of the shape.
    pub data: Cow<'a, [f32]>,
}

impl<'a> Tensor<'a> {
    /// A tensor that is stored as `f32`.
    pub fn f32(name: impl Into<String>, shape: Vec<usize>, data: impl Into<Cow<'a, [f32]>>) -> Self {
        Self { spec: TensorSpec { name: name.into(), shape, dtype: FloatType::F32 }, data: data.into() }
    }
}

/// Writes `tensors` and `metadata` to `path`, atomically: after a crash or with a full disk, an old file is still
/// unchanged. Tensors are ordered by type, widest first, then by name, as in the reference implementation.
///
/// # Errors
/// [`Error::Io`] (for example a full disk; no partial file is left), [`Error::Duplicate`], [`Error::ReservedName`],
/// [`Error::ShapeMismatch`], and [`Error::Unsaveable`] for a value that is not finite, or not finite in the stored
/// type.
pub fn save_safetensors(path: &Path, tensors: &[Tensor<'_>], metadata: &BTreeMap<String, String>) -> Result<()> {
    let by_name: BTreeMap<&str, &Tensor<'_>> =
        tensors.iter().map(|tensor| (tensor.spec.name.as_str(), tensor)).collect();
    let specs: Vec<TensorSpec> = tensors.iter().map(|tensor| tensor.spec.clone()).collect();
    save_safetensors_with(path, &specs, metadata, |spec| match by_name.get(spec.name.as_str()) {
        Some(tensor) => Ok(Cow::Borrowed(&*tensor.data)),
        None => Err(Error::NoSuchTensor { path: path.to_owned(), name: spec.name.clone() }),
    })
}

/// As [`save_safetensors`], for a model that does not fit in memory. `values` is called for one tensor after another,
/// in the order of the file, so that it can free each one before it makes the next.
///
/// # Errors
/// Those of [`save_safetensors`], and the errors of `values`; no partial file is left.
pub fn save_safetensors_with<'a, E: From<Error>>(
    path: &Path,
    specs: &[TensorSpec],
    metadata: &BTreeMap<String, String>,
    mut values: impl FnMut(&TensorSpec) -> Result<Cow<'a, [f32]>, E>,
) -> Result<(), E> {
    let mut specs: Vec<&TensorSpec> = specs.iter().collect();
    specs.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
    let header = header(path, &specs, metadata)?;
    atomically(path, |writer| {
        let io = |source| Error::Io { action: "write", path: path.to_owned(), source };
        writer.write_all(&header).map_err(io)?;
        for spec in &specs {
            let values = values(spec)?;
            if spec.elements() != Some(values.len()) {
                let (name, shape, found) = (spec.name.clone(), spec.shape.clone(), values.len());
                return Err(Error::ShapeMismatch { path: path.to_owned(), name, shape, found }.into());
            }
            let broken = write_values(writer, spec.dtype, &values).map_err(io)?;
            if let Some(index) = broken {
                let (path, name, dtype) = (path.to_owned(), spec.name.clone(), spec.dtype.name());
                return Err(Error::Unsaveable { path, name, index, value: values[index], dtype }.into());
            }
        }
        Ok(())
    })
}

/// Writes a file atomically.
fn atomically<E: From<Error>>(path: &Path, write: impl FnOnce(&mut Draft) -> Result<(), E>) -> Result<(), E> {
    let io = |action| move |source| Error::Io { action, path: path.to_owned(), source };
    let mut draft = Draft::new(path).map_err(io("create"))?;
    write(&mut draft)?;
    draft.finish().map_err(io("finish"))?;
    Ok(())
}

/// Writes values up to the first one that is not finite in the stored type, and returns the index of that one.
fn write_values(writer: &mut impl Write, dtype: FloatType, values: &[f32]) -> io::Result<Option<usize>> {
    let mut buffer = Vec::with_capacity(4 * WRITTEN);
    for (piece, values) in values.chunks(WRITTEN).enumerate() {
        if let Some(at) = values.iter().position(|&value| !dtype.is_finite(value)) {
            return Ok(Some(piece * WRITTEN + at));
        }
        buffer.clear();
        match dtype {
            FloatType::F32 => values.iter().for_each(|value| buffer.extend_from_slice(&value.to_le_bytes())),
            FloatType::F16 => values.iter().for_each(|&value| buffer.extend(f16::from_f32(value).to_le_bytes())),
            FloatType::BF16 => values.iter().for_each(|&value| buffer.extend(bf16::from_f32(value).to_le_bytes())),
        }
        writer.write_all(&buffer)?;
    }
    Ok(None)
}

/// The length and the JSON. The JSON is padded with spaces so that the data is aligned to eight bytes.
fn header(path: &Path, specs: &[&TensorSpec], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::Duplicate { path: path.to_owned(), name: pair[0].to_owned() });
    }
    if names.binary_search(&METADATA).is_ok() {
        return Err(Error::ReservedName { path: path.to_owned(), name: METADATA.to_owned() });
    }
    let mut entries = Vec::with_capacity(specs.len());
    let mut begin = 0;
    for spec in specs {
        let length = spec.elements().and_then(|elements| elements.checked_mul(spec.dtype.bytes()));
        let end = length.and_then(|length| length.checked_add(begin)).ok_or_else(|| Error::ShapeOverflow {
            path: path.to_owned(),
            name: spec.name.clone(),
            shape: spec.shape.iter().map(|&size| size as u64).collect(),
        })?;
        entries.push((
            &*spec.name,
            Described { dtype: spec.dtype.name(), shape: &spec.shape, data_offsets: (begin, end) },
        ));
        begin = end;
    }
    let mut json = serde_json::to_vec(&HeaderJson { metadata, entries })
        .map_err(|source| Error::Json { path: path.to_owned(), source })?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let length = json.len() as u64;
    if length > MAX_HEADER {
        return Err(Error::HeaderTooLarge { path: path.to_owned(), found: length, limit: MAX_HEADER });
    }
    Ok([&length.to_le_bytes()[..], &json].concat())
}

impl TensorSpec {
    fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size))
    }
}

impl FloatType {
    fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
        }
    }

    /// Whether a value is finite after it is rounded to this type.
    fn is_finite(self, value: f32) -> bool {
        match self {
            Self::F16 => f16::from_f32(value).is_finite(),
            Self::BF16 => bf16::from_f32(value).is_finite(),
            Self::F32 => value.is_finite(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::F32 => "F32",
        }
    }
}

/// The header in the order in which it is written. The order of `serde_json`'s own maps depends on its features.
struct HeaderJson<'a> {
    metadata: &'a BTreeMap<String, String>,
    entries: Vec<(&'a str, Described<'a>)>,
}

#[derive(Serialize)]
struct Described<'a> {
    dtype: &'static str,
    shape: &'a [usize],
    data_offsets: (usize, usize),
}

impl Serialize for HeaderJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA, self.metadata)?;
        }
        for (name, entry) in &self.entries {
            map.serialize_entry(name, entry)?;
        }
        map.end()
    }
}
