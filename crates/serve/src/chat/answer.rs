//! An answer, whole or as a stream.

use std::sync::Arc;

use foehn_generate::Event;
use serde_json::{Value, json};

use super::choice::{Choice, Delta};
use super::request::ChatRequest;
use crate::api_error::ApiResult;
use crate::app::App;
use crate::generation::Generation;
use crate::sse;
use crate::tools::Call;
use crate::usage::{Head, Usage};

/// An answer in the making.
pub(super) struct Answer {
    app: Arc<App>,
    head: Head,
    usage: Usage,
    has_logprobs: bool,
    /// Whether a stream ends with the usage.
    include_usage: bool,
    choices: Vec<Choice>,
}

/// A choice of an answer that is sent whole.
#[derive(Default)]
struct Whole {
    content: String,
    logprobs: Vec<Value>,
    calls: Vec<Call>,
    finish: Option<&'static str>,
}

impl Answer {
    pub fn new(app: Arc<App>, head: Head, asked: &ChatRequest, usage: Usage) -> Self {
        let has_tools = !asked.tools.is_empty();
        let choices = (0..asked.settings.n).map(|_| Choice::new(has_tools)).collect();
        let include_usage = asked.settings.include_usage;
        Self { app, head, usage, has_logprobs: asked.logprobs.is_some(), include_usage, choices }
    }

    /// What an event adds, counted.
    fn take(&mut self, index: usize, event: Event) -> Delta {
        let Some(choice) = self.choices.get_mut(index) else { return Delta::default() };
        let delta = choice.take(event, &self.app.tokenizer);
        self.usage.completion += delta.tokens;
        if index == 0 {
            self.usage.cached += delta.reused;
        }
        delta
    }

    pub async fn whole(mut self, mut generation: Generation) -> ApiResult<Value> {
        let mut wholes: Vec<Whole> = self.choices.iter().map(|_| Whole::default()).collect();
        while let Some(event) = generation.next().await {
            let (index, event) = event?;
            let delta = self.take(index, event);
            let Some(whole) = wholes.get_mut(index) else { continue };
            whole.content += &delta.content;
            whole.logprobs.extend(delta.logprobs);
            whole.calls.extend(delta.calls);
            whole.finish = delta.finish.or(whole.finish);
        }
        let choices = (0..).zip(wholes).map(|(index, whole)| self.choice(index, whole)).collect();
        Ok(self.head.answer(choices, Some(self.usage.json())))
    }

    fn choice(&self, index: usize, whole: Whole) -> Value {
        let Whole { content, logprobs, calls, finish } = whole;
        let content = if content.is_empty() && !calls.is_empty() { Value::Null } else { content.into() };
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if let (false, Some(message)) = (calls.is_empty(), message.as_object_mut()) {
            message.insert("tool_calls".to_owned(), calls.iter().map(Call::json).collect());
        }
        json!({"index": index, "message": message, "logprobs": self.logprobs(logprobs), "finish_reason": finish})
    }

    fn logprobs(&self, content: Vec<Value>) -> Value {
        if self.has_logprobs { json!({"content": content, "refusal": null}) } else { Value::Null }
    }

    /// The chunks for what an event added.
    fn push(&self, text: &mut String, index: usize, delta: Delta) {
        let Delta { content, logprobs, calls, finish, .. } = delta;
        let logprobs = (!logprobs.is_empty()).then(|| self.logprobs(logprobs));
        if !content.is_empty() || logprobs.is_some() {
            sse::push(text, &self.chunk(index, json!({"content": content}), logprobs, None));
        }
        if !calls.is_empty() {
            let calls: Vec<Value> = (0..).zip(&calls).map(|(at, call)| numbered(at, call)).collect();
            sse::push(text, &self.chunk(index, json!({"tool_calls": calls}), None, None));
        }
        if finish.is_some() {
            sse::push(text, &self.chunk(index, json!({}), None, finish));
        }
    }

    fn chunk(&self, index: usize, delta: Value, logprobs: Option<Value>, finish: Option<&'static str>) -> Value {
        let choice = json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish});
        self.head.answer(vec![choice], self.include_usage.then_some(Value::Null))
    }
}

impl sse::Writer for Answer {
    fn begin(&mut self, text: &mut String) {
        for index in 0..self.choices.len() {
            sse::push(text, &self.chunk(index, json!({"role": "assistant", "content": ""}), None, None));
        }
    }

    fn event(&mut self, index: usize, event: Event, text: &mut String) {
        let delta = self.take(index, event);
        self.push(text, index, delta);
    }

    fn end(&mut self, text: &mut String) {
        if self.include_usage {
            sse::push(text, &self.head.answer(Vec::new(), Some(self.usage.json())));
        }
    }
}

fn numbered(at: usize, call: &Call) -> Value {
    let mut value = call.json();
    if let Some(value) = value.as_object_mut() {
        value.insert("index".to_owned(), at.into());
    }
    value
}
