//! A conversation that keeps its KV cache between turns.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use foehn_mistral::{KvCache, Mistral};
use foehn_record::{Message, Role};
use foehn_tokens::{ChatTemplate, Tokenizer};

use crate::generate::stream_cached;
use crate::{GenerateConfig, Generation, Result};

/// How a conversation goes.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionConfig {
    /// How answers are generated.
    pub generate: GenerateConfig,
    /// The most tokens of the whole conversation, where the model has room for as many.
    pub context: usize,
    /// When the conversation has no room for another answer, leaves out its oldest turns (the system prompt stays).
    /// Otherwise such a question is an error.
    pub forget: bool,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self { generate: GenerateConfig::default(), context: 4096, forget: false }
    }
}

/// A chat: the turns so far, and the keys and values of their tokens.
///
/// Each turn is rendered anew by the template that training used. What its ids share with those in the cache, from the
/// start, is not computed again. So a template that moves the system prompt, or an answer that was cut at a stop string,
/// costs time and nothing else.
///
/// The session owns what it needs, so a server can keep it between requests. Clones of a model share their weights.
#[derive(Debug)]
pub struct Session {
    model: Mistral,
    tokenizer: Arc<Tokenizer>,
    template: Arc<ChatTemplate>,
    config: SessionConfig,
    messages: Vec<Message>,
    /// Questions that were answered, those that are forgotten included.
    turns: u64,
    forgotten: usize,
    cache: KvCache,
    /// The ids of the tokens in the cache.
    cached_ids: Vec<u32>,
    reused: usize,
}

impl Session {
    /// A conversation that starts with `messages`: a system prompt, earlier turns, or nothing.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting).
    pub fn new(
        model: Mistral,
        tokenizer: Arc<Tokenizer>,
        template: Arc<ChatTemplate>,
        config: SessionConfig,
        messages: Vec<Message>,
    ) -> Result<Self> {
        config.generate.check()?;
        let capacity = config.context.min(model.config().max_position_embeddings);
        let cache = KvCache::new(model.config(), 1, capacity, &model.device());
        let turns = messages.iter().filter(|message| message.role == Role::User).count() as u64;
        let (cached_ids, forgotten, reused) = (Vec::new(), 0, 0);
        Ok(Self { model, tokenizer, template, config, messages, turns, forgotten, cache, cached_ids, reused })
    }

    /// The turns so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The number of tokens of the last prompt that were already in the cache.
    pub fn reused(&self) -> usize {
        self.reused
    }

    /// How many messages have been left out since the conversation outgrew its room.
    pub fn forgotten(&self) -> usize {
        self.forgotten
    }

    /// Sends a message and streams the answer to `on_text`, which can cancel it.
    ///
    /// The answer joins the conversation, one that was broken off as far as it went. One without any text cannot (no
    /// template renders an empty turn): the question then is taken back too, as it is after an error. Turn `n` of a
    /// session, from 0, draws from the seed's stream `n · 2³²` (plus
    /// [`SamplingConfig::stream`](crate::SamplingConfig::stream)), which no sequence of a batch comes near.
    ///
    /// # Errors
    /// [`Error::Template`](crate::Error::Template) if the template refuses the conversation,
    /// [`Error::PromptTooLong`](crate::Error::PromptTooLong) if it no longer fits in the context, and
    /// [`Error::NonFiniteLogit`](crate::Error::NonFiniteLogit).
    pub fn say(&mut self, text: &str, on_text: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<Generation> {
        let mut messages = self.messages.clone();
        messages.push(Message::user(text));
        let before = messages.len();
        let prompt = self.prompt(&mut messages)?;
        let forgotten = before - messages.len();
        let generation = self.answer(prompt, on_text)?;
        let answer = generation.text.trim();
        if !answer.is_empty() {
            messages.push(Message::assistant(answer));
            self.messages = messages;
            self.turns += 1;
            self.forgotten += forgotten;
        }
        Ok(generation)
    }

    /// The prompt for the last message. Where turns may be forgotten, the oldest go until there is room for an answer.
    fn prompt(&self, messages: &mut Vec<Message>) -> Result<Vec<u32>> {
        let mut prompt = self.template.prompt(&self.tokenizer, &*messages)?;
        let room = self.cache.capacity();
        let answer = self.config.generate.max_new_tokens.min(room / 2);
        while self.config.forget && prompt.len() + answer > room {
            let Some(turn) = oldest_turn(messages) else { break };
            messages.drain(turn);
            prompt = self.template.prompt(&self.tokenizer, &*messages)?;
        }
        Ok(prompt)
    }

    fn answer(&mut self, prompt: Vec<u32>, on_text: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<Generation> {
        self.keep_prefix(&prompt);
        let mut config = self.config.generate.clone();
        config.sampling.stream = config.sampling.stream.wrapping_add(self.turns << 32);
        let mut to_text = |_, piece: &str| on_text(piece);
        let prompts = std::slice::from_ref(&prompt);
        let generated = stream_cached(&self.model, &self.tokenizer, &mut self.cache, prompts, &config, &mut to_text);
        let Some(generation) = generated.inspect_err(|_| self.cache.truncate(&[self.reused]))?.pop() else {
            unreachable!("one prompt gives one generation");
        };
        // No pass has computed the last token of the output, so the cache lacks it.
        self.cached_ids = [prompt, generation.output_ids.clone()].concat();
        self.cached_ids.truncate(self.cache.lengths().first().copied().unwrap_or(0));
        Ok(generation)
    }

    /// Truncates the cache to the beginning that it shares with the prompt. At least one token of the prompt is left to
    /// compute.
    fn keep_prefix(&mut self, prompt: &[u32]) {
        let common = self.cached_ids.iter().zip(prompt).take_while(|(cached, new)| cached == new).count();
        self.reused = common.min(prompt.len().saturating_sub(1));
        self.cached_ids.truncate(self.reused);
        self.cache.truncate(&[self.reused]);
    }
}

/// The first question and what follows it, up to the second question; `None` where there is only one.
fn oldest_turn(messages: &[Message]) -> Option<Range<usize>> {
    let mut questions = messages.iter().enumerate().filter(|(_, message)| message.role == Role::User);
    let ((first, _), (second, _)) = (questions.next()?, questions.next()?);
    Some(first..second)
}
