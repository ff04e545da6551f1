//! A request that is being answered.

use super::request::{Constraint, Event, Request, RequestId, TokenLogprob};
use crate::decode::{Limits, check_finite};
use crate::generate::Writer;
use crate::{Error, Sampler, StopReason};
use foehn_tokens::Tokenizer;

#[derive(Debug)]
pub struct Running {
    pub id: RequestId,
    /// Prompt and output.
    ids: Vec<u32>,
    /// The prompt's length.
    prompt: usize,
    /// The number of the prompt's tokens that were in the cache.
    reused: usize,
    max_new_tokens: usize,
    /// The most tokens of output for which the context has room.
    room: usize,
    sampler: Sampler,
    writer: Writer,
    logprobs: Option<usize>,
    /// If they are wanted, the log-probabilities of the prompt's tokens so far.
    prompt_logprobs: Option<Vec<TokenLogprob>>,
    constraint: Option<Box<dyn Constraint>>,
    is_over: bool,
    /// Whether its keys and values are of no use: its logits were not finite.
    is_broken: bool,
}

impl Running {
    pub fn new(id: RequestId, request: Request, reused: usize, room: usize) -> Self {
        let Request { prompt, config, logprobs, prompt_logprobs, constraint, .. } = request;
        Self {
            id,
            prompt: prompt.len(),
            ids: prompt,
            reused,
            max_new_tokens: config.max_new_tokens,
            room,
            sampler: Sampler::new(&config.sampling, 0),
            writer: Writer::new(&config.stop),
            logprobs,
            prompt_logprobs: prompt_logprobs.then(Vec::new),
            constraint,
            is_over: false,
            is_broken: false,
        }
    }

    /// All tokens so far.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    pub fn prompt(&self) -> &[u32] {
        &self.ids[..self.prompt]
    }

    pub fn is_over(&self) -> bool {
        self.is_over
    }

    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// Whether the log-probabilities of the prompt are wanted.
    pub fn wants_prompt(&self) -> bool {
        self.prompt_logprobs.is_some()
    }

    /// The token that was chosen and is not in the cache yet.
    pub fn pending(&self) -> Option<u32> {
        if self.is_over || self.ids.len() == self.prompt { None } else { self.ids.last().copied() }
    }

    /// The prompt's tokens that are not among the `held` ones of the cache.
    pub fn unread(&self, held: usize) -> &[u32] {
        if self.is_over { &[] } else { self.prompt().get(held..).unwrap_or_default() }
    }

    /// Takes the logits after each of the next tokens of the prompt.
    pub fn take_prompt(&mut self, logits: &[f32], vocab_size: usize) {
        let Some(known) = &mut self.prompt_logprobs else { return };
        for logits in logits.chunks_exact(vocab_size) {
            // The first token has no log-probability; the last row is about the first token of the output.
            if let Some(&id) = self.ids[..self.prompt].get(known.len() + 1) {
                known.push(token_logprob(logits, id, self.logprobs.unwrap_or(0)));
            }
        }
    }

    /// Chooses the next token from the logits after the last one, and overwrites them.
    pub fn choose(
        &mut self,
        logits: &mut [f32],
        tokenizer: &Tokenizer,
        eos_ids: &[u32],
        on_event: &mut dyn FnMut(RequestId, Event),
    ) {
        if self.ids.len() == self.prompt {
            let logprobs = self.prompt_logprobs.take().unwrap_or_default();
            on_event(self.id, Event::Started { reused: self.reused, logprobs });
        }
        let limits = Limits { max_new_tokens: self.max_new_tokens, eos_ids };
        if let Some(stop) = limits.reached(self.ids.len() - self.prompt, self.room) {
            self.is_over = true;
            on_event(self.id, Event::Finished { text: String::new(), stop });
            return;
        }
        match self.next(logits, tokenizer, limits) {
            Err(error) => {
                self.is_over = true;
                self.is_broken = matches!(error, Error::NonFiniteLogit { .. });
                on_event(self.id, Event::Failed(error));
            }
            Ok((id, logprob, text, stop)) => {
                on_event(self.id, Event::Token { id, text, logprob });
                if let Some(stop) = stop {
                    self.is_over = true;
                    let (text, stop) = self.writer.end(stop);
                    on_event(self.id, Event::Finished { text, stop });
                }
            }
        }
    }

    #[allow(clippy::type_complexity)] // The token, its log-probability, the text that is certain with it, and the end.
    fn next(
        &mut self,
        logits: &mut [f32],
        tokenizer: &Tokenizer,
        limits: Limits<'_>,
    ) -> Result<(u32, Option<TokenLogprob>, String, Option<StopReason>), Error> {
        check_finite(logits, 0, self.ids.len())?;
        let unlikely = self.logprobs.map(|top| (logits.to_vec(), top));
        let refused = |why| Error::Constraint { why };
        if let Some(constraint) = &mut self.constraint {
            constraint.mask(logits).map_err(refused)?;
        }
        let id = self.sampler.next(logits, &self.ids);
        if let Some(constraint) = &mut self.constraint {
            constraint.accept(id).map_err(refused)?;
        }
        self.ids.push(id);
        self.room -= 1;
        let logprob = unlikely.map(|(logits, top)| token_logprob(&logits, id, top));
        if limits.eos_ids.contains(&id) {
            return Ok((id, logprob, String::new(), Some(StopReason::Eos)));
        }
        let (text, stopped) = self.writer.push(tokenizer, id);
        let stop = match stopped {
            true => Some(StopReason::StopString),
            false => limits.reached(self.ids.len() - self.prompt, self.room),
        };
        Ok((id, logprob, text, stop))
    }
}

/// A token's log-probability, and those of the `top` most probable ones. Among equal ones, lower ids come first.
fn token_logprob(logits: &[f32], id: u32, top: usize) -> TokenLogprob {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    let logprob = |logit: f32| (f64::from(logit - largest) - sum.ln()) as f32;
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let by_logit = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let top = top.min(order.len());
    if top > 0 {
        order.select_nth_unstable_by(top - 1, by_logit);
    }
    order.truncate(top);
    order.sort_unstable_by(by_logit);
    TokenLogprob {
        id,
        logprob: logprob(logits[id as usize]),
        top: order.into_iter().map(|id| (id, logprob(logits[id as usize]))).collect(),
    }
}
