//! [`Weights`]: named tensors of a file or of several files.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::map::MappedFile;
use crate::{DType, Error, Gguf, Result, blocks, dequant, gguf, index, safetensors, scale};

/// The name that Mistral gives its own checkpoints.
const NATIVE: &str = "consolidated.safetensors";

/// The number of blocks that are dequantised before they are checked.
const PIECE: usize = 4096;

/// The number of bytes that are compared at once.
const COMPARED: usize = 1 << 20;

/// A tensor's shape and storage type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Row-major, outermost dimension first: a linear layer is `[out, in]`. GGUF stores dimensions in reverse order;
    /// they are reversed here.
    pub shape: Vec<usize>,
    /// The storage type of the elements.
    pub dtype: DType,
}

/// The range of a tensor in its file. The range has been checked against the file's length.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub info: TensorInfo,
    pub range: Range<usize>,
}

/// The contents of one file's header.
#[derive(Debug, Default)]
pub(crate) struct Header {
    pub tensors: BTreeMap<String, Entry>,
    pub metadata: BTreeMap<String, String>,
}

/// An opened model file or folder: all headers are read and checked, and no tensor is read yet.
///
/// It is `Send` and `Sync`: tensors can be loaded from several threads at once.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    files: Vec<Arc<MappedFile>>,
    tensors: BTreeMap<String, (usize, Entry)>,
    metadata: BTreeMap<String, String>,
    gguf: Option<Gguf>,
}

impl Weights {
    /// Opens a `.safetensors` file, a GGUF file (recognised by its first four bytes), or a folder.
    ///
    /// In a folder, `model.safetensors.index.json` is used if it exists, otherwise `model.safetensors`, otherwise
    /// `consolidated.safetensors`. Only one of them: Mistral's folders have the weights twice. A tensor that is in a
    /// shard but not in the index is included, as in transformers.
    ///
    /// # Errors
    /// An [`Error`] that names the file and the place, for a problem with a header, a shard or the index.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            return Self::open_folder(path);
        }
        let file = Arc::new(MappedFile::open(path)?);
        if file.bytes().starts_with(gguf::MAGIC) {
            let (tensors, gguf) = gguf::open(file.clone())?;
            let header = Header { tensors, metadata: BTreeMap::new() };
            return Ok(Self::single(path, file, header, Some(gguf)));
        }
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            return Err(Error::UnknownFormat { path: path.to_owned() });
        }
        let header = safetensors::read_header(&file)?;
        Ok(Self::single(path, file, header, None))
    }

    /// The names of all tensors, in byte order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape and type of a tensor; `None` if there is no such tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(_, entry)| &entry.info)
    }

    /// The values of a tensor, dequantised if necessary, and its shape (see [`TensorInfo::shape`]).
    ///
    /// Quantised blocks give exactly the same numbers as in the Python package `gguf`. Eight-bit floats
    /// ([`DType::F8E4M3`]) are multiplied by their scale, as PyTorch multiplies them in single precision.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`]; [`Error::BrokenBlock`] and [`Error::NotFinite`] for values that are not finite;
    /// [`Error::NotFloat`] for a type that cannot be converted to `f32`; [`Error::MissingScale`] and
    /// [`Error::ScaleShape`] for eight-bit floats without the scale that they need.
    pub fn load_f32(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>)> {
        let (file, entry) = self.entry(name)?;
        let TensorInfo { shape, dtype } = &entry.info;
        if let DType::Other(_) = dtype {
            return Err(Error::NotFloat { path: file.path().to_owned(), name: name.to_owned(), dtype: *dtype });
        }
        let scales = match dtype {
            DType::F8E4M3 => Some(self.scales_of(name, shape)?),
            _ => None,
        };
        let bytes = self.read_blocks(name)?;
        let block = dtype.block();
        let mut values = vec![0.0; bytes.len() / block.bytes * block.elements];
        // In pieces, so that the values are still in the cache when they are checked.
        let pieces = bytes.chunks(PIECE * block.bytes).zip(values.chunks_mut(PIECE * block.elements));
        for (piece, (bytes, values)) in pieces.enumerate() {
            dequant::dequantize(*dtype, bytes, values);
            if let Some(scales) = &scales {
                scales.multiply(piece * PIECE * block.elements, values);
            }
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let (path, index, value) = (file.path().to_owned(), piece * PIECE * block.elements + at, values[at]);
                return Err(Error::NotFinite { path, name: name.to_owned(), index, value });
            }
        }
        Ok((values, shape.clone()))
    }

    /// The bytes of a tensor as they are in the file: little-endian, row-major, quantised blocks unchanged. They are
    /// not copied, and they may be unaligned.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`].
    pub fn bytes(&self, name: &str) -> Result<&[u8]> {
        let (file, entry) = self.entry(name)?;
        file.slice(entry.range.clone(), || format!("tensor {name:?}"))
    }

    /// The tensor of eight-bit floats ([`DType::F8E4M3`]) that this one belongs to, if there is one: it is that tensor's
    /// scale, or the scale of the activations that it meets, which only a product of eight-bit activations uses.
    pub fn scaled_by(&self, name: &str) -> Option<&str> {
        let of = name.strip_suffix(scale::SUFFIX).map(str::to_owned);
        let of = of.or_else(|| Some(name.strip_suffix(scale::OF_ACTIVATIONS)?.to_owned() + ".weight"))?;
        let (name, (_, entry)) = self.tensors.get_key_value(&of)?;
        (entry.info.dtype == DType::F8E4M3).then_some(name.as_str())
    }

    fn scales_of(&self, name: &str, shape: &[usize]) -> Result<scale::Scales> {
        let scale = format!("{name}{}", scale::SUFFIX);
        if self.info(&scale).is_none() {
            return Err(Error::MissingScale { path: self.path.clone(), name: name.to_owned(), scale });
        }
        if self.info(&scale).is_some_and(|info| info.dtype == DType::F8E4M3) {
            let (file, entry) = self.entry(&scale)?;
            return Err(Error::NotFloat { path: file.path().to_owned(), name: scale, dtype: entry.info.dtype });
        }
        let (values, found) = self.load_f32(&scale)?;
        scale::Scales::new(values, &found, shape).ok_or_else(|| Error::ScaleShape {
            path: self.path.clone(),
            scale,
            found,
            shape: shape.to_vec(),
        })
    }

    /// Whether two tensors have the same shape, type and bytes, and for eight-bit floats the same scale. The comparison
    /// stops at the first difference.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn same(&self, a: &str, b: &str) -> Result<bool> {
        let ((a_file, a_entry), (b_file, b_entry)) = (self.entry(a)?, self.entry(b)?);
        if a_entry.info != b_entry.info || a_entry.range.len() != b_entry.range.len() {
            return Ok(false);
        }
        if a_entry.info.dtype == DType::F8E4M3 && a != b {
            let [a, b] = [a, b].map(|name| self.load_f32(&format!("{name}{}", scale::SUFFIX)));
            if a? != b? {
                return Ok(false);
            }
        }
        let (a_starts, b_starts) = (a_entry.range.clone(), b_entry.range.clone());
        for (from, other) in a_starts.step_by(COMPARED).zip(b_starts.step_by(COMPARED)) {
            let piece = |file: &MappedFile, from: usize, end: usize, name: &str| {
                file.read(from..end.min(from + COMPARED), || format!("tensor {name:?}"))
            };
            if piece(a_file, from, a_entry.range.end, a)? != piece(b_file, other, b_entry.range.end, b)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A copy of a tensor's bytes, as from [`bytes`](Self::bytes). Here the pages of the file do not count as the
    /// process's memory; use this to read all of a large model once.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`], or [`Error::Io`] if reading fails.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let (file, entry) = self.entry(name)?;
        file.read(entry.range.clone(), || format!("tensor {name:?}"))
    }

    /// As [`read`](Self::read), and checks the scales of quantised blocks.
    ///
    /// # Errors
    /// As [`read`](Self::read), and [`Error::BrokenBlock`] for a scale that is infinite or NaN.
    pub fn read_blocks(&self, name: &str) -> Result<Vec<u8>> {
        let bytes = self.read(name)?;
        let (file, entry) = self.entry(name)?;
        match blocks::broken(entry.info.dtype, &bytes) {
            None => Ok(bytes),
            Some(block) => {
                let (path, dtype) = (file.path().to_owned(), entry.info.dtype);
                Err(Error::BrokenBlock { path, name: name.to_owned(), dtype, block })
            }
        }
    }

    /// The text metadata of a safetensors header (`__metadata__`), combined for all shards. Empty for a GGUF file,
    /// whose metadata is in [`Weights::gguf`].
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The metadata of a GGUF file; `None` for safetensors.
    pub fn gguf(&self) -> Option<&Gguf> {
        self.gguf.as_ref()
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open_folder(folder: &Path) -> Result<Self> {
        let index = folder.join(index::INDEX);
        if index.is_file() {
            return Self::open_shards(folder, &index);
        }
        let files = [index::SINGLE, NATIVE].map(|name| folder.join(name));
        let Some(single) = files.into_iter().find(|path| path.is_file()) else {
            return Err(Error::NoWeights { path: folder.to_owned() });
        };
        let file = Arc::new(MappedFile::open(&single)?);
        let header = safetensors::read_header(&file)?;
        Ok(Self::single(folder, file, header, None))
    }

    fn open_shards(folder: &Path, index: &Path) -> Result<Self> {
        let mut weights = Self::empty(folder);
        let shards = index::read(index)?;
        let indexed: BTreeSet<&String> = shards.values().flatten().collect();
        for (shard, names) in &shards {
            let path = folder.join(shard);
            if !path.is_file() {
                return Err(Error::MissingShard { path: index.to_owned(), shard: path });
            }
            let file = MappedFile::open(&path)?;
            let mut header = safetensors::read_header(&file)?;
            for name in names {
                let Some(entry) = header.tensors.remove(name) else {
                    return Err(Error::NotInShard { path: index.to_owned(), shard: path, name: name.clone() });
                };
                weights.tensors.insert(name.clone(), (weights.files.len(), entry));
            }
            for (name, entry) in header.tensors {
                let elsewhere = indexed.contains(&name) || weights.tensors.contains_key(&name);
                if elsewhere {
                    return Err(Error::ElsewhereInIndex { path: index.to_owned(), shard: path, name });
                }
                weights.tensors.insert(name, (weights.files.len(), entry));
            }
            weights.metadata.append(&mut header.metadata);
            weights.files.push(Arc::new(file));
        }
        Ok(weights)
    }

    fn single(path: &Path, file: Arc<MappedFile>, header: Header, gguf: Option<Gguf>) -> Self {
        let mut weights = Self::empty(path);
        weights.files.push(file);
        weights.tensors = header.tensors.into_iter().map(|(name, entry)| (name, (0, entry))).collect();
        weights.metadata = header.metadata;
        weights.gguf = gguf;
        weights
    }

    fn empty(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            metadata: BTreeMap::new(),
            gguf: None,
        }
    }

    fn entry(&self, name: &str) -> Result<(&MappedFile, &Entry)> {
        let found = self.tensors.get(name).and_then(|(file, entry)| Some((self.files.get(*file)?.as_ref(), entry)));
        found.ok_or_else(|| Error::NoSuchTensor { path: self.path.clone(), name: name.to_owned() })
    }
}
