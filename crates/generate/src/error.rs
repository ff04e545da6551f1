//! Errors of text generation.

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of its range.
    #[error("the generation setting `{field}` is {found}, expected {expected}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// Its value.
        found: String,
        /// The accepted values.
        expected: &'static str,
    },
    /// A `generation_config.json` cannot be used.
    #[error("{}: {why}", path.display(), why = foehn_files::printable(why))]
    GenerationConfig {
        /// The file.
        path: std::path::PathBuf,
        /// The reason.
        why: String,
    },
    /// A prompt has no token to continue.
    #[error("prompt {sequence} is empty, give it a token to continue from")]
    EmptyPrompt {
        /// The prompt's place in the batch, from 0.
        sequence: usize,
    },
    /// A prompt has more tokens than fit in the model's context or the cache.
    #[error("prompt {sequence} has {tokens} tokens, the context holds {context}: shorten it")]
    PromptTooLong {
        /// The prompt's place in the batch, from 0.
        sequence: usize,
        /// The prompt's length.
        tokens: usize,
        /// The largest number of tokens that fits.
        context: usize,
    },
    /// A prompt has a token for which the model has no embedding.
    #[error("prompt {sequence} holds token {id}, the model has {vocab_size}: do tokenizer and model belong together?")]
    UnknownToken {
        /// The prompt's place in the batch, from 0.
        sequence: usize,
        /// The token.
        id: u32,
        /// The number of rows of the model's embedding.
        vocab_size: usize,
    },
    /// The cache has another number of sequences, or already holds all of a prompt.
    #[error("a cache with {cached:?} of {capacity} tokens can't be continued by prompts of {prompts:?} tokens")]
    CacheMismatch {
        /// The cache's lengths.
        cached: Vec<usize>,
        /// The largest number of tokens per sequence of the cache.
        capacity: usize,
        /// The prompts' lengths.
        prompts: Vec<usize>,
    },
    /// The model computed a logit that is NaN or infinite.
    #[error(
        "the logit of token {id} is {value} after {length} tokens of sequence {sequence}: the weights or the adapter are broken"
    )]
    NonFiniteLogit {
        /// The sequence's place in the batch, from 0.
        sequence: usize,
        /// The number of tokens of prompt and output before the prediction.
        length: usize,
        /// The token.
        id: u32,
        /// Its logit.
        value: f32,
    },
    /// A request asks for a model that the engine does not have.
    #[error("there is no model named {}", foehn_files::printable(name))]
    UnknownModel {
        /// The name.
        name: String,
    },
    /// There is a model of this name already.
    #[error("there is a model named {} already", foehn_files::printable(name))]
    ModelName {
        /// The name.
        name: String,
    },
    /// A model cannot join an engine, because its weights are others than the engine's.
    #[error(
        "the model {} has weights of its own: an engine serves clones of one model, with or without an adapter",
        foehn_files::printable(name)
    )]
    AnotherBase {
        /// The model's name.
        name: String,
    },
    /// As many requests are waiting as an engine lets wait.
    #[error("{waiting} requests are waiting already, try again later")]
    QueueFull {
        /// The number of waiting requests.
        waiting: usize,
    },
    /// A request's constraint allows no token.
    #[error("the constraint on the output cannot be met: {}", foehn_files::printable(why))]
    Constraint {
        /// The reason.
        why: String,
    },
    /// A conversation could not be rendered.
    #[error("the conversation could not be made a prompt")]
    Template {
        /// The template's error.
        #[from]
        source: foehn_tokens::Error,
    },
}
