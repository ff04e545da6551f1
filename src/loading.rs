//! What can be told of loading, and how it fails.

use std::path::PathBuf;

use foehn_hub::Progress;

/// A model or its adapter cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The model's files are not available.
    #[error(transparent)]
    Hub(#[from] foehn_hub::Error),
    /// A file beside the weights cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// An error of the weights' files.
    #[error(transparent)]
    Weights(#[from] foehn_weights::Error),
    /// An error of the network.
    #[error("cannot load the model in {path}")]
    Model {
        /// The path of the weights.
        path: PathBuf,
        /// The error.
        #[source]
        source: foehn_mistral::Error,
    },
    /// An error of the tokenizer or the template.
    #[error(transparent)]
    Tokens(#[from] foehn_tokens::Error),
    /// The tokenizer has ids for which the network has no embedding.
    #[error(
        "the tokenizer of {path} has {tokens} tokens, the model's vocabulary has {vocab_size}: they do not belong together"
    )]
    Vocabulary {
        /// The tokenizer's file or the GGUF.
        path: PathBuf,
        /// The number of the tokenizer's tokens.
        tokens: usize,
        /// The number of rows of the embedding.
        vocab_size: usize,
    },
    /// The adapter's manifest names a chat template that is not known here.
    #[error("the adapter in {path} was trained with the template {name}, which is not known here", name = foehn_files::printable(name))]
    AdapterTemplate {
        /// The adapter's folder.
        path: PathBuf,
        /// The template.
        name: String,
    },
    /// An error of the adapter.
    #[error("cannot use the adapter in {path}")]
    Adapter {
        /// The adapter's folder.
        path: PathBuf,
        /// The error.
        #[source]
        source: Box<foehn_lora::Error>,
    },
}

/// The progress of loading a model or an adapter.
#[derive(Debug)]
#[non_exhaustive]
pub enum Loading<'a> {
    /// The model's files are being found or fetched.
    Files(Progress<'a>),
    /// The weights are being read and converted to their storage format.
    Weights {
        /// The number of parts that are done.
        done: usize,
        /// The number of all parts.
        total: usize,
    },
    /// A note about an adapter. It is not an error.
    Adapter(AdapterNote),
    /// The checkpoint is being hashed, to record or to check which checkpoint an adapter belongs to.
    Hash {
        /// The number of bytes hashed.
        done: u64,
        /// The number of bytes of all tensors.
        total: u64,
    },
}

/// A note about an adapter that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdapterNote {
    /// It was not checked whether the adapter belongs to the model's `base`, `tokenizer` or `template`: the manifest
    /// does not have the hash, or there is no manifest.
    NotChecked(Vec<&'static str>),
    /// Every B is zero, so the adapter changes nothing.
    ChangesNothing,
    /// The adapter's folder has its own tokenizer, which differs from the model's. The model's is used.
    OtherTokenizer,
    /// The adapter's folder has its own chat template, which differs from the model's. The model's is used.
    OtherTemplate,
}

impl std::fmt::Display for AdapterNote {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotChecked(what) => write!(
                formatter,
                "whether the adapter was trained on this {} was not checked: the adapter has no hash for it",
                what.join(", ")
            ),
            Self::ChangesNothing => formatter.write_str("every B of the adapter is zero: it changes nothing"),
            Self::OtherTokenizer => {
                formatter.write_str("the adapter's folder has another tokenizer; the model's own is used")
            }
            Self::OtherTemplate => {
                formatter.write_str("the adapter's folder has another chat template; the model's own is used")
            }
        }
    }
}
