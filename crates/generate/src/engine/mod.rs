//! Many requests in one batch.

mod request;
mod running;
mod slots;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foehn_mistral::{Decoder, KvCache, Mistral};
use foehn_tokens::Tokenizer;

use crate::generate::eos_ids;
use crate::{Error, GenerateConfig, Result};
pub use request::{Constraint, Event, Request, RequestId, TokenLogprob};
use running::Running;
use slots::{Place, Slots};

/// What an engine may use.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// The most requests that are answered at once.
    pub max_batch: usize,
    /// The most requests that wait.
    pub max_waiting: usize,
    /// The most tokens of prompt and output of a request, where the model has room for as many.
    pub context: usize,
    /// The most tokens whose keys and values are kept, of all requests together. A request is answered when there is
    /// room for its prompt and its longest output.
    pub cache_tokens: usize,
    /// How long the reading of prompts may keep the running requests waiting between two tokens. A longer prompt is
    /// read in pieces.
    pub max_pause: Duration,
    /// Computes in single precision throughout, as [`GenerateConfig::exact`].
    pub exact: bool,
}

impl Default for EngineConfig {
    /// Eight requests at once, 64 waiting; contexts of 4,096 tokens, and room for eight of them; pauses of 100 ms; not
    /// exact.
    fn default() -> Self {
        Self {
            max_batch: 8,
            max_waiting: 64,
            context: 4096,
            cache_tokens: 8 * 4096,
            max_pause: Duration::from_millis(100),
            exact: false,
        }
    }
}

/// What an engine is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineStats {
    /// Requests that are being answered.
    pub running: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Tokens whose keys and values are kept.
    pub cached_tokens: usize,
}

/// Answers many requests in one batch. They join and leave it between passes, and each may ask for another adapter on
/// the one base.
///
/// A pass reads each weight of the base once, for all requests. A prompt's beginning that an earlier or running request
/// of the same model shares is not computed again. Prompts are read in pieces, so the other requests go on.
///
/// A request's answer does not depend on the others, and is the one that [`generate`](crate::generate()) gives, byte for
/// byte. There is one exception, unless [`EngineConfig::exact`] is set: if the prompt contains an answer that the engine
/// itself generated and still keeps, its keys and values are those of decoding, which rounds, and not those of reading
/// a prompt.
#[derive(Debug)]
pub struct Engine {
    decoder: Decoder<'static>,
    /// The models' names, by index.
    names: Vec<Option<String>>,
    tokenizer: Arc<Tokenizer>,
    config: EngineConfig,
    eos_ids: Vec<u32>,
    cache: KvCache,
    slots: Slots,
    waiting: VecDeque<Waiting>,
    /// What is told at the next step.
    news: Vec<(RequestId, Event)>,
    next_id: u64,
    /// The tokens of a prompt that are read in a second, by the last piece.
    reading_rate: f64,
    logits: Vec<f32>,
}

#[derive(Debug)]
struct Waiting {
    id: RequestId,
    model: usize,
    request: Request,
}

/// A piece of a prompt, until its speed is known.
const FIRST_PIECE: usize = 32;

/// The most tokens of a piece, and the number below which pieces are slower than they need to be.
const PIECES: [usize; 2] = [8, 512];

/// The most tokens of a piece after each of which the logits are wanted: they take half a megabyte a token for a large
/// vocabulary.
const EACH: usize = 128;

impl Engine {
    /// An engine of a model without an adapter, which is named `name`.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn new(
        name: impl Into<String>,
        model: Mistral,
        tokenizer: Arc<Tokenizer>,
        config: EngineConfig,
    ) -> Result<Self> {
        let context = config.context.min(model.config().max_position_embeddings);
        let config = EngineConfig { context, ..config };
        config.check()?;
        let eos_ids = eos_ids(&model, &tokenizer);
        let slots = Slots::new(config.max_batch, config.cache_tokens);
        let mut cache = KvCache::new(model.config(), slots.len(), context, &model.device());
        cache.set_exact(config.exact);
        Ok(Self {
            decoder: model.into_decoder(),
            names: vec![Some(name.into())],
            tokenizer,
            config,
            eos_ids,
            cache,
            slots,
            waiting: VecDeque::new(),
            news: Vec::new(),
            next_id: 0,
            reading_rate: 0.0,
            logits: Vec::new(),
        })
    }

    /// The most tokens of prompt and output of a request.
    pub fn context(&self) -> usize {
        self.config.context
    }

    /// The names of the models, that of the base first.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.names.iter().flatten().map(String::as_str)
    }

    /// What the engine is busy with.
    pub fn stats(&self) -> EngineStats {
        EngineStats {
            running: self.slots.running(),
            waiting: self.waiting.len(),
            cached_tokens: self.cache.lengths().iter().sum(),
        }
    }

    /// Whether nothing is left to do.
    pub fn is_idle(&self) -> bool {
        self.slots.running() == 0 && self.waiting.is_empty() && self.news.is_empty()
    }

    /// Adds a model: a clone of the engine's, with an adapter attached.
    ///
    /// # Errors
    /// [`Error::ModelName`] if there is one of this name, [`Error::AnotherBase`] if its weights are others than the
    /// engine's.
    pub fn add_model(&mut self, name: impl Into<String>, model: Mistral) -> Result<()> {
        let name = name.into();
        if self.models().any(|other| other == name) {
            return Err(Error::ModelName { name });
        }
        let Some(index) = self.decoder.add(model) else {
            return Err(Error::AnotherBase { name });
        };
        self.names.resize(self.names.len().max(index + 1), None);
        self.names[index] = Some(name);
        Ok(())
    }

    /// Removes a model with an adapter, and says whether there was one of this name; the base stays. Its requests end with
    /// [`Error::UnknownModel`].
    pub fn remove_model(&mut self, name: &str) -> bool {
        let Some(model) = self.model(name).filter(|model| *model > 0) else { return false };
        let (ending, staying) = std::mem::take(&mut self.waiting).into_iter().partition(|one| one.model == model);
        self.waiting = staying;
        let running = self.slots.forget(model, &mut self.cache);
        for id in VecDeque::into_iter(ending).map(|one: Waiting| one.id).chain(running) {
            self.news.push((id, Event::Failed(Error::UnknownModel { name: name.to_owned() })));
        }
        self.decoder.remove(model);
        self.names[model] = None;
        true
    }

    /// Adds a request. What happens to it is told by [`step`](Self::step).
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::Setting`], [`Error::EmptyPrompt`], [`Error::PromptTooLong`],
    /// [`Error::UnknownToken`] and [`Error::QueueFull`].
    pub fn add(&mut self, request: Request) -> Result<RequestId> {
        let Some(model) = self.model(&request.model) else {
            return Err(Error::UnknownModel { name: request.model });
        };
        self.check(&request)?;
        if self.waiting.len() >= self.config.max_waiting {
            return Err(Error::QueueFull { waiting: self.waiting.len() });
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.waiting.push_back(Waiting { id, model, request });
        Ok(id)
    }

    /// Ends a request, of which nothing is told any more.
    pub fn cancel(&mut self, id: RequestId) {
        self.waiting.retain(|waiting| waiting.id != id);
        self.news.retain(|(other, _)| *other != id);
        self.slots.cancel(id, &mut self.cache);
    }

    /// Lets waiting requests join, reads a piece of the prompts, and computes one token of each running request.
    /// `on_event` gets what happened.
    pub fn step(&mut self, on_event: &mut dyn FnMut(RequestId, Event)) {
        self.news.drain(..).for_each(|(id, event)| on_event(id, event));
        self.admit();
        self.decode(on_event);
        self.read(on_event);
        self.slots.rest(&mut self.cache);
    }

    fn model(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|other| other.as_deref() == Some(name))
    }

    fn check(&self, request: &Request) -> Result<()> {
        let Request { prompt, config, prompt_logprobs, .. } = request;
        // Whoever asks for the prompt's log-probabilities may want nothing else.
        let least = usize::from(*prompt_logprobs && config.max_new_tokens == 0);
        GenerateConfig { max_new_tokens: config.max_new_tokens + least, ..config.clone() }.check()?;
        if config.exact != self.config.exact {
            let expected = if self.config.exact { "true, as the engine's" } else { "false, as the engine's" };
            return Err(Error::Setting { field: "exact", found: config.exact.to_string(), expected });
        }
        crate::decode::check_prompt(prompt, 0, self.config.context, self.decoder.model().config().vocab_size)
    }

    /// Gives the waiting requests places in the batch, in order, as long as there is room.
    fn admit(&mut self) {
        while self.slots.running() < self.config.max_batch {
            let Some(Waiting { model, request, .. }) = self.waiting.front() else { return };
            let longest = request.prompt.len().saturating_add(request.config.max_new_tokens).min(self.config.context);
            let Some(place) = self.slots.place(&request.prompt, *model, longest, &self.cache) else { return };
            let Some(Waiting { id, model, request }) = self.waiting.pop_front() else { return };
            let Place { slot, reused } =
                self.slots.take(place, model, longest, request.prompt_logprobs, &mut self.cache);
            let room = self.config.context - request.prompt.len();
            self.slots.begin(slot, Running::new(id, request, reused, room));
        }
    }

    /// Computes the next token of each request whose prompt was read.
    fn decode(&mut self, on_event: &mut dyn FnMut(RequestId, Event)) {
        let (mut input_ids, mut new) = (Vec::new(), vec![0; self.slots.len()]);
        for (slot, running) in self.slots.each_running() {
            if let Some(id) = running.pending() {
                input_ids.push(id);
                new[slot] = 1;
            }
        }
        if !input_ids.is_empty() {
            self.decoder.next_logits(&input_ids, &new, &mut self.cache, &mut self.logits);
            self.choose(&new, on_event);
        }
    }

    /// Reads a piece of the prompts that were not read yet.
    fn read(&mut self, on_event: &mut dyn FnMut(RequestId, Event)) {
        let mut budget = self.piece();
        let mut new = vec![0; self.slots.len()];
        let (mut input_ids, mut each) = (Vec::new(), None);
        for slot in self.slots.in_order() {
            let Some(running) = self.slots.running_at(slot) else { continue };
            let held = self.cache.lengths()[slot];
            let unread = running.unread(held);
            // The log-probabilities of a prompt need a pass of its own.
            if unread.is_empty() || each.is_some() || (running.wants_prompt() && !input_ids.is_empty()) {
                continue;
            }
            let most = if running.wants_prompt() { EACH.min(budget) } else { budget };
            let count = unread.len().min(most);
            input_ids.extend(&unread[..count]);
            (new[slot], budget) = (count, budget - count);
            if running.wants_prompt() {
                each = Some(slot);
            }
            if budget == 0 {
                break;
            }
        }
        if input_ids.is_empty() {
            return;
        }
        // The batch's order is that of the slots.
        input_ids.clear();
        for (slot, &count) in new.iter().enumerate().filter(|(_, count)| **count > 0) {
            let held = self.cache.lengths()[slot];
            let unread = self.slots.running_at(slot).map(|running| &running.unread(held)[..count]);
            input_ids.extend(unread.unwrap_or_default());
        }
        let start = Instant::now();
        match each {
            Some(slot) => {
                self.decoder.each_logits(&input_ids, &new, &mut self.cache, &mut self.logits);
                let vocab_size = self.decoder.model().config().vocab_size;
                if let Some(running) = self.slots.running_at_mut(slot) {
                    running.take_prompt(&self.logits, vocab_size);
                }
                let last = self.logits.len() - vocab_size;
                self.logits.drain(..last);
            }
            None => self.decoder.prompt_logits(&input_ids, &new, &mut self.cache, &mut self.logits),
        }
        self.reading_rate = input_ids.len() as f64 / start.elapsed().as_secs_f64().max(1e-6);
        self.choose(&new, on_event);
    }

    /// The number of tokens to read before the others go on.
    fn piece(&self) -> usize {
        let [least, most] = PIECES;
        let is_alone = self.slots.each_running().all(|(_, running)| running.pending().is_none());
        match self.reading_rate {
            _ if is_alone => most,
            0.0 => FIRST_PIECE,
            rate => ((rate * self.config.max_pause.as_secs_f64()) as usize).clamp(least, most),
        }
    }

    /// Chooses the next token of each request with new tokens, if its prompt was read.
    fn choose(&mut self, new: &[usize], on_event: &mut dyn FnMut(RequestId, Event)) {
        let rows = self.logits.chunks_exact_mut(self.decoder.model().config().vocab_size);
        let active = new.iter().enumerate().filter(|(_, count)| **count > 0);
        for ((slot, _), logits) in active.zip(rows) {
            let held = self.cache.lengths()[slot];
            let Some(running) = self.slots.running_at_mut(slot) else { continue };
            if running.unread(held).is_empty() {
                running.choose(logits, &self.tokenizer, &self.eos_ids, on_event);
            }
        }
    }
}

impl EngineConfig {
    fn check(&self) -> Result<()> {
        let rules = [
            ("max_batch", self.max_batch, "at least 1", self.max_batch > 0),
            ("context", self.context, "at least 2", self.context > 1),
            ("cache_tokens", self.cache_tokens, "at least a context", self.cache_tokens >= self.context),
        ];
        match rules.into_iter().find(|(.., holds)| !holds) {
            None => Ok(()),
            Some((field, found, expected, _)) => Err(Error::Setting { field, found: found.to_string(), expected }),
        }
    }
}
