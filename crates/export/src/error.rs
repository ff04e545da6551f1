//! Errors of writing a model.

use std::path::PathBuf;

use foehn_files::printable;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor of the base could not be read, or its network cannot be written in the format.
    #[error(transparent)]
    Model(#[from] foehn_mistral::Error),
    /// The adapter cannot be used.
    #[error(transparent)]
    Adapter(#[from] foehn_lora::Error),
    /// A tensor could not be written.
    #[error(transparent)]
    Weights(#[from] foehn_weights::Error),
    /// The tokenizer or the template cannot be written in the format.
    #[error(transparent)]
    Text(#[from] foehn_tokens::Error),
    /// A type of a GGUF that is none.
    #[error("there is no type `{}` of a GGUF, there are: {known}", printable(found))]
    UnknownMix {
        /// The requested name.
        found: String,
        /// All known names.
        known: String,
    },
    /// The config of the base is not a JSON object.
    #[error("the base's config.json is not a JSON object")]
    Config {
        /// The parser's error.
        #[source]
        source: serde_json::Error,
    },
    /// A file could not be written.
    #[error("cannot write {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}
