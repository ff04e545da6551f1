//! Writes safetensors atomically, in one file or several. The same tensors always give the same bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use foehn_files::Draft;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::safetensors::{MAX_HEADER, METADATA};
use crate::{DType, EncodeError, Error, Result, blocks, dequant, index};

/// The number of values that are converted and written at once, or one row.
const WRITTEN: usize = 1 << 20;

/// The name, shape and storage type of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name, unique in its file.
    pub name: String,
    /// Row-major, outermost dimension first.
    pub shape: Vec<usize>,
    /// The type in which the values are stored.
    pub dtype: DType,
}

/// What is written of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum TensorData<'a> {
    /// Values, row-major, which are rounded to the stored type (floats to the nearest one, ties to even), or quantised.
    Values(Cow<'a, [f32]>),
    /// Bytes that are in the stored type, as they are in a file.
    Stored(Cow<'a, [u8]>),
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
        Self { spec: TensorSpec { name: name.into(), shape, dtype: DType::F32 }, data: data.into() }
    }
}

/// Writes `tensors` and `metadata` to `path`, atomically: after a crash or with a full disk, an old file is still
/// unchanged. Tensors are ordered by type, widest first, then by name, as in the reference implementation.
///
/// # Errors
/// [`Error::Io`] (for example a full disk; no partial file is left), [`Error::Duplicate`], [`Error::ReservedName`],
/// [`Error::ShapeMismatch`], [`Error::NotInFormat`] for a type that safetensors does not have, and [`Error::Unsaveable`]
/// for a value that is not finite, or not finite in the stored type.
pub fn save_safetensors(path: &Path, tensors: &[Tensor<'_>], metadata: &BTreeMap<String, String>) -> Result<()> {
    let by_name: BTreeMap<&str, &Tensor<'_>> =
        tensors.iter().map(|tensor| (tensor.spec.name.as_str(), tensor)).collect();
    let specs: Vec<TensorSpec> = tensors.iter().map(|tensor| tensor.spec.clone()).collect();
    save_safetensors_with(path, &specs, metadata, |spec| match by_name.get(spec.name.as_str()) {
        Some(tensor) => Ok(TensorData::Values(Cow::Borrowed(&*tensor.data))),
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
    mut values: impl FnMut(&TensorSpec) -> Result<TensorData<'a>, E>,
) -> Result<(), E> {
    let mut specs: Vec<&TensorSpec> = specs.iter().collect();
    // Wide types first, so that every tensor is aligned without padding.
    let width = |spec: &TensorSpec| spec.dtype.block_bytes();
    specs.sort_by(|a, b| {
        width(b).cmp(&width(a)).then_with(|| a.dtype.name().cmp(b.dtype.name())).then_with(|| a.name.cmp(&b.name))
    });
    let header = header(path, &specs, metadata)?;
    atomically(path, |writer| {
        writer.write_all(&header).map_err(|source| Error::Io { action: "write", path: path.to_owned(), source })?;
        specs.iter().try_for_each(|spec| write_tensor(writer, path, spec, values(spec)?))
    })
}

/// As [`save_safetensors_with`], into a folder and in files of at most `most` bytes of tensors: `model.safetensors` if one is
/// enough, or else `model-00001-of-00002.safetensors` and so on, with `model.safetensors.index.json`. Tensors are placed as
/// `split_torch_state_dict_into_shards` of huggingface_hub places them: in the order of `specs`, but one that is larger than that
/// has a file of its own.
///
/// The folder should be a new one: shards of an earlier model stay. Its index and its `model.safetensors` are removed first, so
/// that no reader takes a mix of two models.
///
/// # Errors
/// As [`save_safetensors_with`].
pub fn save_sharded<'a, E: From<Error>>(
    folder: &Path,
    specs: &[TensorSpec],
    metadata: &BTreeMap<String, String>,
    most: u64,
    mut values: impl FnMut(&TensorSpec) -> Result<TensorData<'a>, E>,
) -> Result<(), E> {
    let (mut shards, mut open): (Vec<Vec<TensorSpec>>, Vec<TensorSpec>) = (Vec::new(), Vec::new());
    let (mut bytes, mut total, mut parameters) = (0, 0, 0u64);
    for spec in specs {
        let size = spec.bytes(&folder.join(index::SINGLE))? as u64;
        total += size;
        parameters += spec.elements().unwrap_or(0) as u64;
        if size > most {
            shards.push(vec![spec.clone()]);
            continue;
        }
        if bytes + size > most {
            shards.push(std::mem::take(&mut open));
            bytes = 0;
        }
        open.push(spec.clone());
        bytes += size;
    }
    if !open.is_empty() || shards.is_empty() {
        shards.push(open);
    }
    // Without them, a reader of a folder that was left half written finds no model, and not a mix of two.
    let index_path = folder.join(index::INDEX);
    remove(&index_path)?;
    if let [specs] = shards.as_slice() {
        return save_safetensors_with(&folder.join(index::SINGLE), specs, metadata, values);
    }
    remove(&folder.join(index::SINGLE))?;
    let mut weight_map = BTreeMap::new();
    for (at, specs) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", at + 1, shards.len());
        save_safetensors_with(&folder.join(&name), specs, metadata, &mut values)?;
        weight_map.extend(specs.iter().map(|spec| (spec.name.clone(), name.clone())));
    }
    Ok(index::write(&index_path, total, parameters, &weight_map)?)
}

/// Removes a file if it is there.
fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Io { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Writes a file atomically.
pub(crate) fn atomically<E: From<Error>>(
    path: &Path,
    write: impl FnOnce(&mut Draft) -> Result<(), E>,
) -> Result<(), E> {
    let io = |action| move |source| Error::Io { action, path: path.to_owned(), source };
    let mut draft = Draft::new(path).map_err(io("create"))?;
    write(&mut draft)?;
    draft.finish().map_err(io("finish"))?;
    Ok(())
}

/// Writes a tensor, as the spec says.
pub(crate) fn write_tensor<E: From<Error>>(
    writer: &mut impl Write,
    path: &Path,
    spec: &TensorSpec,
    data: TensorData<'_>,
) -> Result<(), E> {
    let io = |source| Error::Io { action: "write", path: path.to_owned(), source };
    let (found, expected) = match &data {
        TensorData::Values(values) => (values.len(), spec.elements()),
        TensorData::Stored(bytes) => (bytes.len(), Some(spec.bytes(path)?)),
    };
    if expected != Some(found) {
        let (name, shape) = (spec.name.clone(), spec.shape.clone());
        return Err(Error::ShapeMismatch { path: path.to_owned(), name, shape, found }.into());
    }
    let values = match data {
        TensorData::Stored(bytes) => {
            check_stored(path, spec, &bytes)?;
            return Ok(writer.write_all(&bytes).map_err(io)?);
        }
        TensorData::Values(values) => values,
    };
    // Whole rows, so that no block is divided.
    let row = spec.shape.last().copied().unwrap_or(1).max(1);
    for (piece, part) in values.chunks((WRITTEN / row).max(1) * row).enumerate() {
        let bytes = spec.dtype.encode(part, row).map_err(|error| match error {
            EncodeError::Value { index, value } => {
                let (path, name, dtype) = (path.to_owned(), spec.name.clone(), spec.dtype.name());
                Error::Unsaveable { path, name, index: piece * (WRITTEN / row).max(1) * row + index, value, dtype }
            }
            _ => spec.not_in_format(path),
        })?;
        writer.write_all(&bytes).map_err(io)?;
    }
    Ok(())
}

/// Refuses stored bytes whose floats, or whose blocks' scales, are not finite.
fn check_stored(path: &Path, spec: &TensorSpec, bytes: &[u8]) -> Result<()> {
    let (name, dtype) = (spec.name.clone(), spec.dtype);
    if let Some(block) = blocks::broken(dtype, bytes) {
        return Err(Error::BrokenBlock { path: path.to_owned(), name, dtype, block });
    }
    let width = dtype.block_bytes();
    if dtype.block_elements() != 1 {
        return Ok(());
    }
    let mut values = Vec::new();
    for (piece, bytes) in bytes.chunks(WRITTEN * width).enumerate() {
        values.resize(bytes.len() / width, 0.0);
        dequant::dequantize(dtype, bytes, &mut values);
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let (path, index, value) = (path.to_owned(), piece * WRITTEN + at, values[at]);
            return Err(Error::NotFinite { path, name, index, value });
        }
    }
    Ok(())
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
    let mut begin = 0usize;
    for spec in specs {
        if spec.dtype.block_elements() != 1 {
            return Err(spec.not_in_format(path));
        }
        let end = begin.checked_add(spec.bytes(path)?).ok_or_else(|| spec.too_large(path))?;
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

    /// The number of bytes in the stored type.
    pub(crate) fn bytes(&self, path: &Path) -> Result<usize> {
        let block = self.dtype.block();
        if !self.shape.last().copied().unwrap_or(1).is_multiple_of(block.elements) {
            return Err(self.not_in_format(path));
        }
        let bytes = self.elements().and_then(|elements| (elements / block.elements).checked_mul(block.bytes));
        bytes.ok_or_else(|| self.too_large(path))
    }

    pub(crate) fn too_large(&self, path: &Path) -> Error {
        let shape = self.shape.iter().map(|&size| size as u64).collect();
        Error::ShapeOverflow { path: path.to_owned(), name: self.name.clone(), shape }
    }

    pub(crate) fn not_in_format(&self, path: &Path) -> Error {
        let row = self.shape.last().copied().unwrap_or(1);
        Error::NotInFormat { path: path.to_owned(), name: self.name.clone(), row, dtype: self.dtype.name() }
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
