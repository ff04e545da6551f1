//! What a server asks of an engine.

use std::fmt::Debug;
use std::hash::Hash;

use foehn_generate::{EngineStats, Error, Event, Request};

/// An engine that continues many prompts in one batch: `foehn_generate`'s, or a stand-in for tests.
///
/// It lives in one thread of its own. [`Self::step`] is called as long as it is not [idle](Self::is_idle), and between
/// two steps whatever requests came in are added.
pub trait Batch: Send + 'static {
    /// What [`Self::add_model`] takes.
    type Model: Send + 'static;
    /// What a request is called.
    type Id: Copy + Eq + Hash + Debug + Send + 'static;

    /// Takes a request into the queue.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::QueueFull`], [`Error::EmptyPrompt`], [`Error::PromptTooLong`],
    /// [`Error::Setting`] and [`Error::UnknownToken`]; the request is not taken then.
    fn add(&mut self, request: Request) -> Result<Self::Id, Error>;

    /// One pass. `on_event` is called for whatever happened in it. A stop token has its [`Event::Token`] too, with the
    /// text that it made certain.
    fn step(&mut self, on_event: &mut dyn FnMut(Self::Id, Event));

    /// Ends a request; no event follows. Does nothing where it has ended.
    fn cancel(&mut self, id: Self::Id);

    /// Whether no request is waiting or running.
    fn is_idle(&self) -> bool;

    /// The most tokens of prompt and output of one request.
    fn context(&self) -> usize;

    /// What it is busy with.
    fn stats(&self) -> EngineStats;

    /// Adds a model under a name that is free.
    ///
    /// # Errors
    /// Those of the engine: a model of another base, for example.
    fn add_model(&mut self, name: String, model: Self::Model) -> Result<(), Error>;

    /// Removes a model; `false` if there is none of this name.
    fn remove_model(&mut self, name: &str) -> bool;
}
