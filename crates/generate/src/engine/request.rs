//! What an engine is asked, and what it answers.

use std::fmt;

use crate::{Error, GenerateConfig, StopReason};

/// A request of an engine, by the order in which requests were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(crate) u64);

/// A prompt to continue.
#[derive(Debug)]
pub struct Request {
    /// The name of the model: the base, or an adapter on it.
    pub model: String,
    /// The prompt's tokens.
    pub prompt: Vec<u32>,
    /// How it is continued. [`GenerateConfig::exact`] has to be the engine's.
    pub config: GenerateConfig,
    /// Gives each new token its log-probability, and those of this number of most probable tokens. They are the
    /// model's own: before penalties, temperature and constraint.
    pub logprobs: Option<usize>,
    /// Gives the tokens of the prompt their log-probabilities too, with the number of [`logprobs`](Self::logprobs).
    pub prompt_logprobs: bool,
    /// Decides which tokens may come next.
    pub constraint: Option<Box<dyn Constraint>>,
}

impl Request {
    /// Continues a prompt of a model, with nothing else asked.
    pub fn new(model: impl Into<String>, prompt: Vec<u32>, config: GenerateConfig) -> Self {
        Self { model: model.into(), prompt, config, logprobs: None, prompt_logprobs: false, constraint: None }
    }
}

/// Decides which tokens may come next: a grammar, for example.
pub trait Constraint: fmt::Debug + Send {
    /// Sets the logits of all tokens that must not come next to `-∞`, stop tokens included. At least one must remain.
    ///
    /// # Errors
    /// The reason for which no token is possible. The request ends with [`Error::Constraint`].
    fn mask(&mut self, logits: &mut [f32]) -> Result<(), String>;

    /// Takes the token that was chosen, a stop token included.
    ///
    /// # Errors
    /// The reason for which the token was not expected. The request ends with [`Error::Constraint`].
    fn accept(&mut self, id: u32) -> Result<(), String>;
}

/// A token with its log-probability.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// Its natural logarithm of probability.
    pub logprob: f32,
    /// The most probable tokens at its place, the most probable first.
    pub top: Vec<(u32, f32)>,
}

/// What happened to a request.
#[derive(Debug)]
pub enum Event {
    /// Its prompt was read, and its first token is chosen next.
    Started {
        /// The number of the prompt's tokens that were not computed again.
        reused: usize,
        /// If asked for, the log-probabilities of the prompt's tokens from the second one on.
        logprobs: Vec<TokenLogprob>,
    },
    /// A token was chosen.
    Token {
        /// The token.
        id: u32,
        /// The text that has become certain with it. It is empty within a character, and where it may be the beginning
        /// of a stop string.
        text: String,
        /// If asked for, its log-probability.
        logprob: Option<TokenLogprob>,
    },
    /// The request has ended. Nothing follows.
    Finished {
        /// The rest of the text.
        text: String,
        /// Why it ended.
        stop: StopReason,
    },
    /// The request has failed. Nothing follows.
    Failed(Error),
}
