//! Continuations, whole or as a stream.

use std::sync::Arc;

use foehn_generate::Event;
use serde_json::{Value, json};

use super::choice::{Choice, Delta, Entry, legacy};
use super::request::CompletionRequest;
use crate::api_error::ApiResult;
use crate::app::App;
use crate::generation::Generation;
use crate::sse;
use crate::usage::{Head, Usage};

/// An answer in the making.
pub(super) struct Answer {
    app: Arc<App>,
    head: Head,
    usage: Usage,
    has_logprobs: bool,
    include_usage: bool,
    /// The choices of each prompt.
    n: usize,
    choices: Vec<Choice>,
}

impl Answer {
    pub fn new(app: Arc<App>, head: Head, asked: CompletionRequest) -> Self {
        let CompletionRequest { settings, prompts, echo, logprobs, nothing_new } = asked;
        let n = settings.n;
        let choice = |prompt| Choice::new(prompt, echo, logprobs.is_some(), nothing_new);
        let choices = prompts.iter().flat_map(|prompt| (0..n).map(move |_| choice(prompt))).collect();
        let usage = Usage { prompt: prompts.iter().map(|prompt| prompt.ids.len()).sum(), ..Usage::default() };
        let include_usage = settings.include_usage;
        Self { app, head, usage, has_logprobs: logprobs.is_some(), include_usage, n, choices }
    }

    fn take(&mut self, index: usize, event: Event) -> Delta {
        let Some(choice) = self.choices.get_mut(index) else { return Delta::default() };
        let delta = choice.take(event, &self.app.tokenizer);
        self.usage.completion += delta.tokens;
        // A prompt counts once, however many choices it has.
        if index.is_multiple_of(self.n) {
            self.usage.cached += delta.reused;
        }
        delta
    }

    pub async fn whole(mut self, mut generation: Generation) -> ApiResult<Value> {
        let mut wholes: Vec<Delta> = self.choices.iter().map(|_| Delta::default()).collect();
        while let Some(event) = generation.next().await {
            let (index, event) = event?;
            let delta = self.take(index, event);
            let Some(whole) = wholes.get_mut(index) else { continue };
            whole.text += &delta.text;
            whole.entries.extend(delta.entries);
            whole.finish = delta.finish.or(whole.finish);
        }
        let choices = (0..).zip(&wholes);
        let choices = choices.map(|(index, whole)| self.choice(index, &whole.text, &whole.entries, whole.finish));
        Ok(self.head.answer(choices.collect(), Some(self.usage.json())))
    }

    fn choice(&self, index: usize, text: &str, entries: &[Entry], finish: Option<&'static str>) -> Value {
        let logprobs = self.has_logprobs.then(|| legacy(entries, &self.app.tokenizer));
        json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish})
    }
}

impl sse::Writer for Answer {
    fn begin(&mut self, _text: &mut String) {}

    fn event(&mut self, index: usize, event: Event, text: &mut String) {
        let delta = self.take(index, event);
        if !delta.text.is_empty() || !delta.entries.is_empty() || delta.finish.is_some() {
            let choice = self.choice(index, &delta.text, &delta.entries, delta.finish);
            sse::push(text, &self.head.answer(vec![choice], self.include_usage.then_some(Value::Null)));
        }
    }

    fn end(&mut self, text: &mut String) {
        if self.include_usage {
            sse::push(text, &self.head.answer(Vec::new(), Some(self.usage.json())));
        }
    }
}
