//! What can go wrong with an adapter.

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
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A JSON file of the adapter does not parse.
    #[error("{path} is not valid JSON of its kind")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// The tensors could not be read or written.
    #[error("cannot use the adapter's tensors")]
    Weights {
        /// What the tensor file's reader said.
        #[from]
        source: foehn_weights::Error,
    },
    /// `adapter_config.json` asks for something that is not computed here.
    #[error("{path} has `{field}` = {found}, which is not supported; expected {expected}")]
    Unsupported {
        /// The config file.
        path: PathBuf,
        /// The field.
        field: String,
        /// Its value.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// A setting is out of its range.
    #[error("the LoRA setting `{field}` is {found}, expected {expected}")]
    Setting {
        /// The field's name in `adapter_config.json`.
        field: &'static str,
        /// Its value.
        found: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// A pattern of `target_modules`, `rank_pattern` or `alpha_pattern` is not a regular expression.
    #[error("`{pattern}` is not a valid regular expression for module names")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What the compiler said.
        #[source]
        source: Box<fancy_regex::Error>,
    },
    /// `target_modules` matches no projection of the model.
    #[error("target_modules {targets} matches no linear layer of the model; its layers are named like `{example}`")]
    NoTarget {
        /// The setting.
        targets: String,
        /// A name that the model has.
        example: String,
    },
    /// The adapter holds a tensor that this model has no place for, or that is no LoRA matrix.
    #[error("the adapter's tensor `{name}` has no place in this model: was the adapter trained on another base?")]
    Foreign {
        /// The tensor's name.
        name: String,
    },
    /// One of a pair of matrices is missing.
    #[error("the adapter has no tensor `{name}`, though it has its partner")]
    Unpaired {
        /// The missing tensor's name.
        name: String,
    },
    /// A matrix has another shape than model and config ask for.
    #[error(
        "the adapter's tensor `{name}` has shape {found:?}, this model and rank ask for {expected:?}: was the adapter trained on another base?"
    )]
    Shape {
        /// The tensor's name.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape that fits.
        expected: Vec<usize>,
    },
    /// The adapter's manifest names another base model, tokenizer or template than the one at hand.
    #[error(
        "the adapter was trained with another {what} (sha256 {expected}), this one has {found}; load it with the {what} it was trained on, or pass --allow-mismatch to go on all the same"
    )]
    Mismatch {
        /// `base`, `tokenizer` or `template`.
        what: &'static str,
        /// The hash in the manifest.
        expected: String,
        /// The hash of what is at hand.
        found: String,
    },
}
