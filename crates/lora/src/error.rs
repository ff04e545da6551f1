//! Errors of adapters.

use std::path::PathBuf;

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
    /// `adapter_config.json` has a value that is not supported.
    #[error("{path} has `{}` = {}, which is not supported; expected {expected}", plain(field), plain(found))]
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
    #[error("the LoRA setting `{field}` is {}, expected {expected}", plain(found))]
    Setting {
        /// The field's name in `adapter_config.json`.
        field: &'static str,
        /// Its value.
        found: String,
        /// The accepted values.
        expected: &'static str,
    },
    /// A pattern of `target_modules`, `rank_pattern` or `alpha_pattern` is not a regular expression.
    #[error("`{}` is not a valid regular expression for module names", plain(pattern))]
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
        plain(targets)
    )]
    NoTarget {
        /// The setting.
        targets: String,
        /// A module name of the model, as an example.
        example: String,
    },
    /// The adapter has a tensor for a module that this model does not have, or a tensor that is not a LoRA matrix.
    #[error("the adapter's tensor `{}` does not fit this model: was the adapter trained on another base?", plain(name))]
    Foreign {
        /// The tensor's name.
        name: String,
    },
    /// The adapter changes the embedding or the head, or its config asks for that.
    #[error("the adapter changes `{}`: adapters of the embedding and the head are not supported", plain(name))]
    UnsupportedLayer {
        /// The tensor, or the entry of `target_modules`.
        name: String,
    },
    /// An entry of `target_modules`, `rank_pattern` or `alpha_pattern` matches nothing.
    #[error(
        "the entry `{}` of {field} matches none of the layers to which it could apply; these are named like `{example}`: correct or remove it",
        plain(entry)
    )]
    Unmatched {
        /// The setting.
        field: &'static str,
        /// The entry.
        entry: String,
        /// A module name of the model, as an example.
        example: String,
    },
    /// The config targets a layer for which the adapter has no matrices.
    #[error("the adapter has no tensor `{}`, though its target_modules ask for one", plain(name))]
    Missing {
        /// The missing tensor's name.
        name: String,
    },
    /// The adapter has matrices for a layer that its config does not target.
    #[error("the adapter's tensor `{}` is for a layer that its target_modules leave out", plain(name))]
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
    #[error("the adapter's tensor `{}` holds {value} at index {index}: the adapter is ruined", plain(name))]
    NotFinite {
        /// The tensor's name.
        name: String,
        /// The first such value.
        value: f32,
        /// The value's index, row-major.
        index: usize,
    },
    /// A rank is larger than both sides of the matrix.
    #[error("the rank for `{module}` is {found}, but the longer side of its matrix is {limit}: choose a smaller rank")]
    Rank {
        /// The layer.
        module: String,
        /// The requested rank.
        found: usize,
        /// The longer side.
        limit: usize,
    },
    /// A JSON file is larger than the limit.
    #[error("{path} has {found} bytes, more than the limit of {limit} for such a file")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The largest size that is read.
        limit: u64,
    },
    /// A module has only one of its two matrices.
    #[error("the adapter has no tensor `{}`, but it has the other matrix of the pair", plain(name))]
    Unpaired {
        /// The missing tensor's name.
        name: String,
    },
    /// A matrix does not have the shape that the model and the config imply.
    #[error(
        "the adapter's tensor `{}` has shape {found:?}, this model and rank ask for {expected:?}: was the adapter trained on another base?",
        plain(name)
    )]
    Shape {
        /// The tensor's name.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The implied shape.
        expected: Vec<usize>,
    },
    /// The adapter's manifest names another base model, tokenizer or template than the one in use.
    #[error(
        "the adapter was trained with another {what} (sha256 {}), this one has {found}; load it with the {what} it was trained on, or allow the mismatch to go on all the same",
        plain(expected)
    )]
    Mismatch {
        /// `base`, `tokenizer` or `template`.
        what: &'static str,
        /// The hash in the manifest.
        expected: String,
        /// The hash of the one in use.
        found: String,
    },
}

/// Escapes characters of a file's text that control a terminal or change the direction of text.
pub(crate) fn plain(text: &str) -> String {
    let steers = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if steers(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}
