//! One choice, while its tokens come in, with log-probabilities in OpenAI's older form.

use foehn_generate::{Event, StopReason, TokenLogprob};
use foehn_tokens::{TextStream, Tokenizer};
use serde_json::{Map, Value, json};

use super::request::Prompt;
use crate::usage::{finish_reason, logprob};
use crate::vocabulary;

/// What an event adds to a choice.
#[derive(Debug, Default)]
pub(super) struct Delta {
    pub text: String,
    pub entries: Vec<Entry>,
    pub finish: Option<&'static str>,
    pub reused: usize,
    pub tokens: usize,
}

/// A token of prompt or output.
#[derive(Debug)]
pub(super) struct Entry {
    id: u32,
    /// `None` for the first token, which nothing predicts.
    logprob: Option<TokenLogprob>,
    /// The number of characters before it.
    offset: usize,
}

/// Reads the events of a choice.
#[derive(Debug)]
pub(super) struct Choice {
    /// The prompt, until it has been repeated.
    echo: Option<(Option<String>, Vec<u32>)>,
    wants_logprobs: bool,
    nothing_new: bool,
    offsets: TextStream,
    offset: usize,
    ended_by_token: bool,
}

impl Choice {
    pub fn new(prompt: &Prompt, echo: bool, wants_logprobs: bool, nothing_new: bool) -> Self {
        let echo = echo.then(|| (prompt.text.clone(), prompt.ids.clone()));
        let offsets = TextStream::new(true);
        Self { echo, wants_logprobs, nothing_new, offsets, offset: 0, ended_by_token: false }
    }

    pub fn take(&mut self, event: Event, tokenizer: &Tokenizer) -> Delta {
        match event {
            Event::Started { reused, logprobs } => Delta { reused, ..self.repeated(logprobs, tokenizer) },
            Event::Finished { .. } if self.nothing_new => Delta { finish: Some("length"), ..Delta::default() },
            Event::Token { .. } if self.nothing_new => Delta::default(),
            Event::Token { id, text, logprob } => {
                self.ended_by_token = tokenizer.eos_ids().contains(&id);
                let entries = self.entry(id, logprob, tokenizer).into_iter().collect();
                Delta { text, entries, tokens: 1, ..Delta::default() }
            }
            Event::Finished { text, stop } => {
                // Who reads log-probabilities counts on one entry for each new token, the stop token included.
                let stop_token =
                    tokenizer.eos_ids().first().filter(|_| stop == StopReason::Eos && !self.ended_by_token);
                let entries = stop_token.and_then(|id| self.entry(*id, None, tokenizer)).into_iter().collect();
                Delta { text, entries, finish: Some(finish_reason(stop)), ..Delta::default() }
            }
            // The generation has turned it into an error of the whole request.
            Event::Failed(_) => Delta::default(),
        }
    }

    /// The prompt, if it is to be repeated.
    fn repeated(&mut self, logprobs: Vec<TokenLogprob>, tokenizer: &Tokenizer) -> Delta {
        let Some((text, ids)) = self.echo.take() else { return Delta::default() };
        let logprobs = std::iter::once(None).chain(logprobs.into_iter().map(Some)).chain(std::iter::repeat(None));
        let entries = ids.iter().zip(logprobs).filter_map(|(id, logprob)| self.entry(*id, logprob, tokenizer));
        let entries = entries.collect();
        let text = text.unwrap_or_else(|| tokenizer.decode(&ids, true));
        Delta { text, entries, ..Delta::default() }
    }

    fn entry(&mut self, id: u32, logprob: Option<TokenLogprob>, tokenizer: &Tokenizer) -> Option<Entry> {
        let offset = self.offset;
        self.offset += self.offsets.push(tokenizer, id).chars().count();
        self.wants_logprobs.then_some(Entry { id, logprob, offset })
    }
}

/// `logprobs` of a choice: four lists of the same length.
pub(super) fn legacy(entries: &[Entry], tokenizer: &Tokenizer) -> Value {
    let tokens: Vec<_> = entries.iter().map(|entry| vocabulary::legacy(tokenizer, entry.id)).collect();
    let values: Vec<_> =
        entries.iter().map(|entry| entry.logprob.as_ref().map(|token| logprob(token.logprob))).collect();
    let top: Vec<_> = entries.iter().map(|entry| entry.logprob.as_ref().map(|token| top(token, tokenizer))).collect();
    let offsets: Vec<_> = entries.iter().map(|entry| entry.offset).collect();
    json!({"tokens": tokens, "token_logprobs": values, "top_logprobs": top, "text_offset": offsets})
}

/// The alternatives, and the token itself. Of two tokens with one text the more probable one is shown.
fn top(token: &TokenLogprob, tokenizer: &Tokenizer) -> Value {
    let mut shown = Map::new();
    for (id, value) in token.top.iter().copied().chain([(token.id, token.logprob)]) {
        shown.entry(vocabulary::legacy(tokenizer, id)).or_insert_with(|| json!(logprob(value)));
    }
    Value::Object(shown)
}
