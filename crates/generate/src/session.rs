//! A conversation that remembers what it has computed.

use std::ops::ControlFlow;
use std::sync::Arc;

use foehn_mistral::{KvCache, Mistral};
use foehn_record::{Message, Role};
use foehn_tokens::{ChatTemplate, Tokenizer};

use crate::generate::stream_cached;
use crate::{GenerateConfig, Generation, Result};

/// A chat: the turns so far, and the keys and values of their tokens.
///
/// Each turn is rendered anew by the template that training used, and what its ids share with those in the cache, from
/// the start, is not computed again. So a template that moves the system prompt, or an answer that was cut at a stop
/// string, costs time and nothing else.
///
/// It owns what it needs, so that a server can keep it from one request to the next: a model's clone shares its weights.
#[derive(Debug)]
pub struct Session {
    model: Mistral,
    tokenizer: Arc<Tokenizer>,
    template: Arc<ChatTemplate>,
    config: GenerateConfig,
    messages: Vec<Message>,
    cache: KvCache,
    /// The ids whose keys and values the cache holds.
    cached_ids: Vec<u32>,
    reused: usize,
}

impl Session {
    /// A conversation that begins with `messages`: a system prompt, earlier turns, or nothing.
    ///
    /// The cache is made at once for `context` tokens, or `max_position_embeddings` where that is less.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting).
    pub fn new(
        model: Mistral,
        tokenizer: Arc<Tokenizer>,
        template: Arc<ChatTemplate>,
        config: GenerateConfig,
        context: usize,
        messages: Vec<Message>,
    ) -> Result<Self> {
        config.check()?;
        let capacity = context.min(model.config().max_position_embeddings);
        let cache = KvCache::new(model.config(), 1, capacity, &model.device());
        Ok(Self { model, tokenizer, template, config, messages, cache, cached_ids: Vec::new(), reused: 0 })
    }

    /// The turns so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// How many tokens of the last prompt were in the cache already.
    pub fn reused(&self) -> usize {
        self.reused
    }

    /// Asks, and streams the answer to `on_text`, which can break it off.
    ///
    /// The answer joins the conversation, one that was broken off as far as it went. One without any text can't (no
    /// template renders an empty turn): the question then is taken back too, as it is after an error. Turn `n` of a session, from 0, draws from the seed's stream `n · 2³²` (and [`SamplingConfig::stream`](crate::SamplingConfig::stream)
    /// more), which no sequence of a batch comes near.
    ///
    /// # Errors
    /// [`Error::Template`](crate::Error::Template) where the template refuses the conversation,
    /// [`Error::PromptTooLong`](crate::Error::PromptTooLong) where it has outgrown the context, and
    /// [`Error::NonFiniteLogit`](crate::Error::NonFiniteLogit).
    pub fn say(&mut self, text: &str, on_text: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<Generation> {
        self.messages.push(Message::new(Role::User, text));
        let answered = self.answer(on_text);
        match &answered {
            Ok(generation) if !generation.text.trim().is_empty() => {
                self.messages.push(Message::new(Role::Assistant, generation.text.trim()));
            }
            _ => {
                self.messages.pop();
            }
        }
        answered
    }

    fn answer(&mut self, on_text: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<Generation> {
        let prompt = self.template.prompt(&self.tokenizer, &self.messages)?;
        self.keep_prefix(&prompt);
        let mut config = self.config.clone();
        let turn = self.messages.iter().filter(|message| message.role == Role::User).count() as u64 - 1;
        config.sampling.stream = config.sampling.stream.wrapping_add(turn << 32);
        let mut to_text = |_, piece: &str| on_text(piece);
        let prompts = std::slice::from_ref(&prompt);
        let generated = stream_cached(&self.model, &self.tokenizer, &mut self.cache, prompts, &config, &mut to_text);
        let Some(generation) = generated.inspect_err(|_| self.cache.truncate(&[self.reused]))?.pop() else {
            unreachable!("one prompt gives one generation");
        };
        // Of the output, the cache lacks what no pass was fed: its last token.
        self.cached_ids = [prompt, generation.output_ids.clone()].concat();
        self.cached_ids.truncate(self.cache.lengths().first().copied().unwrap_or(0));
        Ok(generation)
    }

    /// Cuts the cache to what it shares with a prompt, of which one token at least is left to compute.
    fn keep_prefix(&mut self, prompt: &[u32]) {
        let common = self.cached_ids.iter().zip(prompt).take_while(|(cached, new)| cached == new).count();
        self.reused = common.min(prompt.len().saturating_sub(1));
        self.cached_ids.truncate(self.reused);
        self.cache.truncate(&[self.reused]);
    }
}
