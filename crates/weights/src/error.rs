//! Errors of tensor files.

use std::io;
use std::path::PathBuf;

use foehn_files::printable;

use crate::DType;

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A tensor file cannot be read or written. Offsets and lengths are in bytes; offsets count from the start of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system returned an error.
    #[error("cannot {action} {}: {source}", path.display(), source = printable(source))]
    Io {
        /// What was being done: `open`, `map`, `write`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A quantised block has a scale that is not finite.
    #[error(
        "block {block} of tensor {name:?} ({dtype}) in {path} has a scale that is infinite or not a number: the file is damaged"
    )]
    BrokenBlock {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its storage type.
        dtype: DType,
        /// The block's index in the tensor, from 0.
        block: usize,
    },
    /// An element of a stored tensor is not finite.
    #[error(
        "element {index} of tensor {name:?} in {} is {value}: the file is damaged, fetch or make it again",
        path.display()
    )]
    NotFinite {
        /// The file, or the folder of a model in several files.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The element's index in the tensor, from 0.
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
        /// The element's index in the tensor, from 0.
        index: usize,
        /// The element.
        value: f32,
        /// The type in which it was to be stored.
        dtype: &'static str,
    },
    /// The folder has no model file with a name that this crate reads.
    #[error("no weights in {}: it has neither model.safetensors.index.json nor model.safetensors", path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// The file has neither the extension `.safetensors` nor GGUF's first four bytes.
    #[error("{} is neither a .safetensors nor a GGUF file: convert it first", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file ends before the end of something that its header describes.
    #[error(
        "{} is cut short: {what} at byte {offset} needs {needed} bytes and {available} are left; fetch the file again",
        path.display(), what = printable(what))]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What was being read.
        what: String,
        /// Where it begins.
        offset: u64,
        /// The bytes that are needed.
        needed: u64,
        /// The bytes that are available.
        available: u64,
    },
    /// A safetensors header is longer than the format allows.
    #[error(
        "the header of {} claims {found} bytes, more than the format's {limit}: not a safetensors file",
        path.display()
    )]
    HeaderTooLarge {
        /// The file.
        path: PathBuf,
        /// The length that the header states.
        found: u64,
        /// The largest length that the format allows.
        limit: u64,
    },
    /// A safetensors header or an index is not the JSON that the format requires.
    #[error("the JSON of {} is broken: {source}", path.display(), source = printable(source))]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's error, with line and column within the JSON.
        source: serde_json::Error,
    },
    /// Two tensors or two metadata keys have the same name.
    #[error("{} names {name:?} twice", path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// The storage type is not known.
    #[error(
        "tensor {name:?} of {} is stored as {dtype}, which is not read here: take a file of F16, BF16, Q8_0 or a K type \
         like Q4_K, or convert this one",
        path.display(), dtype = printable(dtype))]
    UnknownDType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The type in the file.
        dtype: String,
    },
    /// The storage type cannot be converted to `f32`.
    #[error("tensor {name:?} of {} is stored as {dtype}, which has no f32 form here: convert the file to a float type", path.display())]
    NotFloat {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: DType,
    },
    /// A tensor of eight-bit floats lacks the tensor with its scale, without which its numbers mean nothing.
    #[error(
        "tensor {name:?} of {} is stored as F8_E4M3 and its scale {scale:?} is missing: fetch or make the file again",
        path.display()
    )]
    MissingScale {
        /// The opened file or folder.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The name of its scale.
        scale: String,
    },
    /// The scale of a tensor of eight-bit floats is neither one number nor one for each block of a matrix.
    #[error(
        "the scale {scale:?} of {} has the shape {found:?}: for a tensor of shape {shape:?} it must be one number, or one \
         for each block of a matrix, with blocks whose sides are powers of two",
        path.display()
    )]
    ScaleShape {
        /// The opened file or folder.
        path: PathBuf,
        /// The scale's name.
        scale: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape of the tensor that it scales.
        shape: Vec<usize>,
    },
    /// The size of a shape does not fit in an integer.
    #[error("tensor {name:?} of {} claims the impossible shape {shape:?}", path.display())]
    ShapeOverflow {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The shape in the file.
        shape: Vec<u64>,
    },
    /// A row is not a whole number of blocks.
    #[error(
        "tensor {name:?} of {}: {elements} elements are not a whole number of {dtype} blocks of {block}",
        path.display()
    )]
    BlockSize {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: DType,
        /// The number of elements in a row.
        elements: usize,
        /// The number of elements in a block.
        block: usize,
    },
    /// The number of a tensor's bytes does not match its shape and type.
    #[error("tensor {name:?} of {} has {found} bytes where its shape needs {expected}", path.display())]
    TensorLength {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The number of bytes that shape and type need.
        expected: u64,
        /// The number of bytes in the header.
        found: u64,
    },
    /// A tensor overlaps another one, leaves a gap where the format forbids one, or is not aligned.
    #[error("tensor {name:?} of {} starts at byte {found} of the data; {expected} was expected", path.display())]
    TensorOffset {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The required offset, counted from the start of the data.
        expected: u64,
        /// The offset in the header.
        found: u64,
    },
    /// There are bytes after the last tensor, where the format forbids them.
    #[error("{} has {found} bytes of data where its header describes {expected}", path.display())]
    DataLength {
        /// The file.
        path: PathBuf,
        /// The number of bytes that the header describes.
        expected: u64,
        /// The number of bytes in the file.
        found: u64,
    },
    /// The index names a shard that is not a plain file name, so it could be outside the folder.
    #[error("{} places {name:?} in {shard:?}, which is not a plain file name", path.display())]
    ShardName {
        /// The index.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The name in the index.
        shard: String,
    },
    /// A shard of the index is missing.
    #[error("{} names the shard {}, which is missing: fetch it", path.display(), printable(shard.display()))]
    MissingShard {
        /// The index.
        path: PathBuf,
        /// The shard.
        shard: PathBuf,
    },
    /// The index names a shard for a tensor, but the shard does not have that tensor.
    #[error("{} places tensor {name:?} in {}, which has no such tensor", path.display(), printable(shard.display()))]
    NotInShard {
        /// The index.
        path: PathBuf,
        /// The shard.
        shard: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A shard has a tensor that the index assigns to another shard.
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
    /// A text file is larger than the limit.
    #[error("{} has {found} bytes; files of its kind have {limit} at most, so it is not read", path.display())]
    TextTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The largest size that is read.
        limit: u64,
    },
    /// The version of the GGUF file is not supported.
    #[error("{} is GGUF version {found}; versions 2 and 3 (little-endian) are read: convert it again", path.display())]
    GgufVersion {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
    },
    /// The GGUF file is one part of several.
    #[error("{} is one of {parts} parts: join them with `llama-gguf-split --merge` first", path.display())]
    GgufSplit {
        /// The file.
        path: PathBuf,
        /// The number of parts.
        parts: u32,
    },
    /// A GGUF count, alignment, type number or nesting is not allowed by the format.
    #[error("{} has {what} {found} at byte {offset}, which GGUF does not allow", path.display())]
    GgufValue {
        /// The file.
        path: PathBuf,
        /// Which field.
        what: &'static str,
        /// The value in the file.
        found: u64,
        /// Its offset.
        offset: u64,
    },
    /// A GGUF string is not UTF-8.
    #[error("{}: {what} at byte {offset} is not UTF-8", path.display(), what = printable(what))]
    GgufUtf8 {
        /// The file.
        path: PathBuf,
        /// Which string.
        what: String,
        /// Its offset.
        offset: u64,
        /// The decoder's error.
        source: std::str::Utf8Error,
    },
    /// A tensor's name is too long for llama.cpp, which reads GGUF files.
    #[error("cannot write {}: the tensor name {name:?} is longer than {limit} bytes", path.display())]
    LongName {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// The most bytes of a name.
        limit: usize,
    },
    /// A metadata value does not have the requested type.
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
        /// The requested type.
        expected: &'static str,
        /// The type in the file. For a number out of range, also the value.
        found: String,
    },
    /// There is no tensor with this name.
    #[error("{} has no tensor {name:?}", path.display())]
    NoSuchTensor {
        /// The opened file or folder.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A tensor to be saved has another number of values than its shape.
    #[error("tensor {name:?} for {} has {found} values; its shape {shape:?} needs another number", path.display())]
    ShapeMismatch {
        /// The file to be written.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The number of values.
        found: usize,
    },
    /// A tensor to be saved has a type that the file's format does not have, that cannot be made, or whose blocks do not fit
    /// its rows.
    #[error(
        "tensor {name:?}, with rows of {row}, cannot be stored as {dtype} in {}: choose another type",
        path.display()
    )]
    NotInFormat {
        /// The file to be written.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The length of its rows.
        row: usize,
        /// The type.
        dtype: &'static str,
    },
    /// A tensor to be saved has the name that safetensors reserves for metadata.
    #[error("no tensor of {} can be named {name:?}: safetensors keeps that name for metadata", path.display())]
    ReservedName {
        /// The file to be written.
        path: PathBuf,
        /// The name.
        name: String,
    },
}
