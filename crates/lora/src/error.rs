//! Errors of adapters.

use std::path::PathBuf;

use foehn_files::printable;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the adapter could not be read or written.
    #[error("cannot use the adapter's file {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A JSON file of the adapter cannot be parsed.
    #[error("{path} is not valid JSON of its kind")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's error, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// The tensors could not be read or written.
    #[error("cannot use the adapter's tensors")]
    Weights {
        /// The error of the tensor file's reader.
        #[from]
        source: foehn_weights::Error,
    },
    /// The adapter is a Python pickle: a program that only Python can run, and that may do anything.
    #[error(
        "{path} is a Python pickle, which is not read; load the adapter with PEFT, and save it again with \
         `save_pretrained`, which writes adapter_model.safetensors"
    )]
    Pickle {
        /// The file.
        path: PathBuf,
    },
    /// `adapter_config.json` has a value that is not supported.
    #[error(
        "{path} has `{}` = {}, which is not supported; expected {expected}",
        printable(field),
        printable(found),
        expected = printable(expected)
    )]
    Unsupported {
        /// The config file.
        path: PathBuf,
        /// The field.
        field: String,
        /// Its value.
        found: String,
        /// The accepted values.
        expected: String,
    },
    /// A setting is out of its range.
    #[error("the LoRA setting `{field}` is {}, expected {expected}", printable(found))]
    Setting {
        /// The field's name in `adapter_config.json`.
        field: &'static str,
        /// Its value.
        found: String,
        /// The accepted values.
        expected: &'static str,
    },
    /// A pattern of `target_modules`, `rank_pattern` or `alpha_pattern` is not a regular expression.
    #[error("`{}` is not a valid regular expression for module names", printable(pattern))]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The compiler's error.
        #[source]
        source: Box<fancy_regex::Error>,
    },
    /// `target_modules` matches no projection of the model.
    #[error(
        "target_modules {} matches no linear layer of the model; its layers are named like `{example}`",
        printable(targets), example = printable(example))]
    NoTarget {
        /// The setting.
        targets: String,
        /// A module name of the model, as an example.
        example: String,
    },
    /// The adapter holds a tensor of a kind that is not computed here: DoRA's magnitudes, a bias, an embedding's matrices.
    #[error(
        "the adapter's tensor `{}` is neither a lora_A nor a lora_B of a linear layer: it is not supported",
        printable(name)
    )]
    UnsupportedTensor {
        /// The tensor's name.
        name: String,
    },
    /// The adapter holds matrices that this model has no place for.
    #[error(
        "the adapter's tensor `{}` has no place in this model: was the adapter trained on another base?",
        printable(name)
    )]
    Foreign {
        /// The tensor's name.
        name: String,
    },
    /// The adapter changes the embedding or the head, or its config asks for that.
    #[error("the adapter changes `{}`: adapters of the embedding and the head are not supported", printable(name))]
    UnsupportedLayer {
        /// The tensor, or the entry of `target_modules`.
        name: String,
    },
    /// An entry of `target_modules`, `rank_pattern` or `alpha_pattern` matches nothing.
    #[error(
        "the entry `{}` of {field} matches none of the layers to which it could apply; these are named like `{example}`: correct or remove it",
        printable(entry), example = printable(example))]
    Unmatched {
        /// The setting.
        field: &'static str,
        /// The entry.
        entry: String,
        /// A module name of the model, as an example.
        example: String,
    },
    /// The config targets a layer for which the adapter has no matrices.
    #[error("the adapter has no tensor `{}`, though its target_modules ask for one", printable(name))]
    Missing {
        /// The missing tensor's name.
        name: String,
    },
    /// The adapter has matrices for a layer that its config does not target.
    #[error("the adapter's tensor `{}` is for a layer that its target_modules leave out", printable(name))]
    Untargeted {
        /// The tensor's name.
        name: String,
    },
    /// The adapter has no matrices at all.
    #[error("the adapter in {path} has no tensors")]
    Empty {
        /// The adapter's folder.
        path: PathBuf,
    },
    /// A tensor holds NaN or infinity.
    #[error("the adapter's tensor `{}` holds {value} at index {index}: the adapter is ruined", printable(name))]
    NotFinite {
        /// The tensor's name.
        name: String,
        /// The first such value.
        value: f32,
        /// The value's index, row-major.
        index: usize,
    },
    /// A rank is larger than both sides of the matrix.
    #[error(
        "the rank for `{module}` is {found}, but its matrix has no side of more than {limit}: choose a smaller one",
        module = printable(module)
    )]
    Rank {
        /// The layer.
        module: String,
        /// The requested rank.
        found: usize,
        /// The longer side.
        limit: usize,
    },
    /// One of a pair of matrices is missing.
    #[error("the adapter has no tensor `{}`, though it has its partner", printable(name))]
    Unpaired {
        /// The missing tensor's name.
        name: String,
    },
    /// A matrix does not have the shape that the model and the config imply.
    #[error(
        "the adapter's tensor `{}` has shape {found:?}, this model and rank ask for {expected:?}: was the adapter trained on another base?",
        printable(name)
    )]
    Shape {
        /// The tensor's name.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The implied shape.
        expected: Vec<usize>,
    },
    /// The adapter's network cannot be written in the format.
    #[error("the adapter's network cannot be written in this format")]
    Model {
        /// What the format does not have.
        #[source]
        source: Box<foehn_mistral::Error>,
    },
    /// The adapter's manifest names another base model, tokenizer or template than the one in use.
    #[error(
        "the adapter was trained with another {what} (sha256 {}), this one has {found}; load it with the {what} it was trained on, or allow the mismatch to go on all the same",
        printable(expected), found = printable(found))]
    Mismatch {
        /// `base`, `tokenizer` or `template`.
        what: &'static str,
        /// The hash in the manifest.
        expected: String,
        /// The hash of the one in use.
        found: String,
    },
}
