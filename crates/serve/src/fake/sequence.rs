//! A sequence of the fake engine.

use foehn_generate::{Error, Event, Request, StopMatcher, StopReason, TokenLogprob};
use foehn_tokens::{TextStream, Tokenizer};

pub(super) struct Sequence {
    pub id: u64,
    pub request: Request,
    pub script: Option<Vec<u32>>,
    /// What follows the script, if not a stop token.
    pub endless: Option<u32>,
    pub written: usize,
    pub text: TextStream,
    pub stops: StopMatcher,
}

impl Sequence {
    /// Writes a token; whether it was the last one.
    pub fn write(&mut self, tokenizer: &Tokenizer, context: usize, on_event: &mut dyn FnMut(u64, Event)) -> bool {
        let eos = tokenizer.eos_ids().first().copied().unwrap_or_default();
        let id = match &self.script {
            Some(script) => script.get(self.written).copied().or(self.endless).unwrap_or(eos),
            None => match self.random(tokenizer) {
                Ok(id) => id,
                Err(why) => {
                    on_event(self.id, Event::Failed(Error::Constraint { why }));
                    return true;
                }
            },
        };
        self.written += 1;
        let (mut text, found) = self.stops.push(&self.text.push(tokenizer, id));
        let logprob = self.request.logprobs.map(|top| logprob(id, top));
        let stop = if tokenizer.eos_ids().contains(&id) {
            Some(StopReason::Eos)
        } else if found {
            Some(StopReason::StopString)
        } else if self.written >= self.request.config.max_new_tokens {
            Some(StopReason::MaxTokens)
        } else {
            (self.request.prompt.len() + self.written >= context).then_some(StopReason::ContextFull)
        };
        on_event(self.id, Event::Token { id, text: std::mem::take(&mut text), logprob });
        let Some(stop) = stop else { return false };
        if !found {
            text = self.stops.push(&self.text.finish()).0 + &self.stops.finish();
        }
        on_event(self.id, Event::Finished { text, stop });
        true
    }

    /// The best of random logits. What closes JSON becomes likelier from token to token, so that it ends.
    fn random(&mut self, tokenizer: &Tokenizer) -> Result<u32, String> {
        let sampling = &self.request.config.sampling;
        let mut state = sampling.seed ^ sampling.stream.wrapping_mul(0x9e37_79b9) ^ ((self.written as u64) << 40);
        let size = u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
        let mut logits: Vec<f32> = (0..size).map(|_| noise(&mut state)).collect();
        let hurry = if self.request.constraint.is_some() { self.written as f32 / 16.0 } else { 0.0 };
        for (id, logit) in (0..).zip(&mut logits) {
            let closes = matches!(tokenizer.token_text(id), Some("\"" | "}" | "]" | "\"}" | "\"]"));
            if closes || tokenizer.eos_ids().contains(&id) {
                *logit += hurry;
            }
        }
        if let Some(constraint) = &mut self.request.constraint {
            constraint.mask(&mut logits)?;
        }
        let best = (0..size).zip(logits).max_by(|(_, one), (_, other)| one.total_cmp(other));
        let id = best.map(|(id, _)| id).unwrap_or_default();
        if let Some(constraint) = &mut self.request.constraint {
            constraint.accept(id)?;
        }
        Ok(id)
    }

    pub fn prompt_logprobs(&self) -> Vec<TokenLogprob> {
        let ids = self.request.prompt.iter().skip(1).filter(|_| self.request.prompt_logprobs);
        ids.map(|id| logprob(*id, self.request.logprobs.unwrap_or(0))).collect()
    }
}

/// A token is always the most probable one, with a probability that depends on it.
fn logprob(id: u32, top: usize) -> TokenLogprob {
    let logprob = -0.125 - (id % 8) as f32 / 64.0;
    let others = (1..).map(|rank: u32| (id.saturating_sub(rank), logprob - rank as f32));
    TokenLogprob { id, logprob, top: std::iter::once((id, logprob)).chain(others).take(top).collect() }
}

/// SplitMix64, as a number from 0 to 1.
fn noise(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1 << 24) as f32
}
