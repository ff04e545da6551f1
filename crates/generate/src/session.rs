//! A conversation that keeps its KV cache between turns.

use std::ops::ControlFlow;
use std::sync::Arc;

use foehn_mistral::{KvCache, Mistral};
use foehn_record::{Message, Role};
use foehn_tokens::{ChatTemplate, Tokenizer};

use crate::generate::stream_cached;
use crate::{GenerateConfig, Generation, Result};

/// A chat: the turns so far, and the keys and values of their tokens.
///
/// Each turn renders the whole conversation again, with the template of training. The tokens that agree with the cache,
/// from the start, are not computed again. So if a template moves the system prompt, or an answer was cut at a stop
/// string, the only cost is time.
///
/// The session owns what it needs, so a server can keep it between requests. Clones of a model share their weights.
#[derive(Debug)]
pub struct Session {
    model: Mistral,
    tokenizer: Arc<Tokenizer>,
    template: Arc<ChatTemplate>,
    config: GenerateConfig,
    messages: Vec<Message>,
    cache: KvCache,
    /// The ids of the tokens in the cache.
    cached_ids: Vec<u32>,
    reused: usize,
}

impl Session {
    /// A conversation that starts with `messages`: a system prompt, earlier turns, or nothing.
    ///
    /// The cache is allocated for `context` tokens, or for `max_position_embeddings` if that is less.
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

    /// The number of tokens of the last prompt that were already in the cache.
    pub fn reused(&self) -> usize {
        self.reused
    }

    /// Sends a message and streams the answer to `on_text`, which can cancel it.
    ///
    /// The answer is added to the conversation; a cancelled answer is added as far as it was generated. An empty answer
    /// cannot be added, because no template renders an empty turn. In that case, and after an error, the message is
    /// removed again. Turn `n` of a session, counted from 0, draws from the seed's stream `n · 2³²` plus
    /// [`SamplingConfig::stream`](crate::SamplingConfig::stream), so sessions and batches do not share streams.
    ///
    /// # Errors
    /// [`Error::Template`](crate::Error::Template) if the template refuses the conversation,
    /// [`Error::PromptTooLong`](crate::Error::PromptTooLong) if it no longer fits in the context, and
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
        // The last token of the output was not fed to the model, so it is not in the cache.
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
