//! Everything that can be wrong with a tensor file, with the evidence.

use std::io;
use std::path::PathBuf;

use foehn_files::printable;

use crate::DType;

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A tensor file that can't be read or written. Offsets and lengths are in bytes, offsets from the file's start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display(), source = printable(source))]
    Io {
        /// What was being done: `open`, `map`, `write`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A quantised block has a scale that no number can be made with.
    #[error(
        "block {block} of tensor {name:?} ({dtype}) in {path} has a scale that is infinite or not a number: the file is damaged"
    )]
    BrokenBlock {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// How it is stored.
        dtype: DType,
        /// The block's place in the tensor, from 0.
        block: usize,
    },
    /// An element of a stored tensor is no number to compute with.
    #[error(
        "element {index} of tensor {name:?} in {} is {value}: the file is damaged, fetch or make it again",
        path.display()
    )]
    NotFinite {
        /// The file, or the folder of a model in several.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The element's place in the tensor, from 0.
        index: usize,
        /// The element.
        value: f32,
    },
    /// An element of a tensor to be saved is infinite or not a number, or becomes infinite in the type that is written.
    #[error(
        "element {index} of tensor {name:?} is {value}, which is no finite {dtype}: {} is not written",
        path.display()
    )]
    Unsaveable {
        /// The file to be written.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The element's place in the tensor, from 0.
        index: usize,
        /// The element.
        value: f32,
        /// The type it was to be stored as.
        dtype: &'static str,
    },
    /// The folder holds no model under a name that this crate reads.
    #[error("no weights in {}: it has neither model.safetensors.index.json nor model.safetensors", path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// Neither a `.safetensors` name nor GGUF's first four bytes.
    #[error("{} is neither a .safetensors nor a GGUF file: convert it first", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file ends before something that its header promises.
    #[error(
        "{} is cut short: {what} at byte {offset} needs {needed} bytes and {available} are left; fetch the file again",
        path.display(), what = printable(what))]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What was being read.
        what: String,
        /// Where it starts.
        offset: u64,
        /// The bytes that it needs.
        needed: u64,
        /// The bytes that are there.
        available: u64,
    },
    /// A safetensors header longer than the format allows.
    #[error(
        "the header of {} claims {found} bytes, more than the format's {limit}: not a safetensors file",
        path.display()
    )]
    HeaderTooLarge {
        /// The file.
        path: PathBuf,
        /// The length that the file claims.
        found: u64,
        /// The largest length that is allowed.
        limit: u64,
    },
    /// A safetensors header or an index that isn't the JSON that the format asks for.
    #[error("the JSON of {} is broken: {source}", path.display(), source = printable(source))]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's reason, with line and column within the JSON.
        source: serde_json::Error,
    },
    /// Two tensors, or two metadata keys, of one name.
    #[error("{} names {name:?} twice", path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A storage type that this crate doesn't know.
    #[error(
        "tensor {name:?} of {} is stored as {dtype}, which is not known here: convert the file to a float type or Q8_0",
        path.display(), dtype = printable(dtype))]
    UnknownDType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The type as the file writes it.
        dtype: String,
    },
    /// A storage type that can't be turned into `f32`.
    #[error("tensor {name:?} of {} is stored as {dtype}, which has no f32 form here", path.display())]
    NotFloat {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: DType,
    },
    /// A shape whose size doesn't fit into the machine's integers.
    #[error("tensor {name:?} of {} claims the impossible shape {shape:?}", path.display())]
    ShapeOverflow {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The shape as the file writes it.
        shape: Vec<u64>,
    },
    /// A row that isn't a whole number of blocks.
    #[error(
        "tensor {name:?} of {}: {elements} elements are no whole number of {dtype} blocks of {block}",
        path.display()
    )]
    BlockSize {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: DType,
        /// The elements of a row.
        elements: usize,
        /// The elements of a block.
        block: usize,
    },
    /// A tensor whose bytes aren't as many as its shape and type need.
    #[error("tensor {name:?} of {} has {found} bytes where its shape needs {expected}", path.display())]
    TensorLength {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The bytes that shape and type need.
        expected: u64,
        /// The bytes that the header gives it.
        found: u64,
    },
    /// A tensor that overlaps another one, leaves a hole where the format forbids one, or isn't aligned.
    #[error("tensor {name:?} of {} starts at byte {found} of the data; {expected} was expected", path.display())]
    TensorOffset {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The offset that is allowed, counted from the start of the data.
        expected: u64,
        /// The offset in the header.
        found: u64,
    },
    /// Bytes after the last tensor, where the format forbids them.
    #[error("{} has {found} bytes of data where its header describes {expected}", path.display())]
    DataLength {
        /// The file.
        path: PathBuf,
        /// The bytes that the header describes.
        expected: u64,
        /// The bytes that are there.
        found: u64,
    },
    /// An index that points out of its folder.
    #[error("{} places {name:?} in {shard:?}, which is no plain file name", path.display())]
    ShardName {
        /// The index.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What the index says.
        shard: String,
    },
    /// A shard that the index names and the folder lacks.
    #[error("{} names the shard {}, which is missing: fetch it", path.display(), printable(shard.display()))]
    MissingShard {
        /// The index.
        path: PathBuf,
        /// The shard.
        shard: PathBuf,
    },
    /// A tensor that the index places in a shard that doesn't have it.
    #[error("{} places tensor {name:?} in {}, which has no such tensor", path.display(), printable(shard.display()))]
    NotInShard {
        /// The index.
        path: PathBuf,
        /// The shard.
        shard: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A shard that holds a tensor which the index places in another shard.
    #[error(
        "{} holds tensor {name:?}, which {} places in another shard: fetch the model again",
        printable(shard.display()),
        path.display()
    )]
    ElsewhereInIndex {
        /// The index.
        path: PathBuf,
        /// The shard.
        shard: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A text file that is larger than any of its kind.
    #[error("{} has {found} bytes; files of its kind have {limit} at most, so it is not read", path.display())]
    TextTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The largest size that is read.
        limit: u64,
    },
    /// A GGUF file of a version that this crate doesn't read.
    #[error("{} is GGUF version {found}; versions 2 and 3 (little-endian) are read: convert it again", path.display())]
    GgufVersion {
        /// The file.
        path: PathBuf,
        /// The version as the file writes it.
        found: u32,
    },
    /// A GGUF file that is one part of several.
    #[error("{} is one of {parts} parts: join them with `llama-gguf-split --merge` first", path.display())]
    GgufSplit {
        /// The file.
        path: PathBuf,
        /// How many parts there are.
        parts: u32,
    },
    /// A GGUF count, alignment, type number or nesting that the format doesn't allow.
    #[error("{} has {what} {found} at byte {offset}, which GGUF does not allow", path.display())]
    GgufValue {
        /// The file.
        path: PathBuf,
        /// Which field.
        what: &'static str,
        /// What the file says.
        found: u64,
        /// Where.
        offset: u64,
    },
    /// A GGUF string that isn't UTF-8.
    #[error("{}: {what} at byte {offset} is not UTF-8", path.display(), what = printable(what))]
    GgufUtf8 {
        /// The file.
        path: PathBuf,
        /// Which string.
        what: String,
        /// Where.
        offset: u64,
        /// What the decoder says.
        source: std::str::Utf8Error,
    },
    /// A metadata value of another type than the one asked for.
    #[error(
        "the metadata {key:?} of {} is {found} where {expected} is needed",
        path.display(),
        found = printable(found)
    )]
    MetadataType {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The type that was asked for.
        expected: &'static str,
        /// The type, and for a number out of range the value, in the file.
        found: String,
    },
    /// No tensor of that name.
    #[error("{} has no tensor {name:?}", path.display())]
    NoSuchTensor {
        /// The file or folder that was opened.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A tensor to be saved whose values aren't as many as its shape needs.
    #[error("tensor {name:?} for {} has {found} values; its shape {shape:?} needs another number", path.display())]
    ShapeMismatch {
        /// The file to be written.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The values that were given.
        found: usize,
    },
    /// A tensor to be saved under the name that safetensors keeps for its metadata.
    #[error("no tensor of {} can be named {name:?}: safetensors keeps that name for metadata", path.display())]
    ReservedName {
        /// The file to be written.
        path: PathBuf,
        /// The name.
        name: String,
    },
}
