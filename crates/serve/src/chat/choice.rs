//! One choice of an answer, while its tokens come in.

use foehn_generate::{Event, TokenLogprob};
use foehn_tokens::Tokenizer;
use serde_json::{Value, json};

use crate::tools::{Call, MARKERS, Scanner};
use crate::usage::{finish_reason, logprob};
use crate::vocabulary;

/// What an event adds to a choice.
#[derive(Debug, Default)]
pub(super) struct Delta {
    pub content: String,
    pub logprobs: Vec<Value>,
    pub calls: Vec<Call>,
    pub finish: Option<&'static str>,
    /// Of the prompt.
    pub reused: usize,
    /// The number of tokens that were chosen.
    pub tokens: usize,
}

/// Reads the events of a choice.
#[derive(Debug)]
pub(super) struct Choice {
    /// Where the model may call tools.
    scanner: Option<Scanner>,
}

impl Choice {
    pub fn new(has_tools: bool) -> Self {
        Self { scanner: has_tools.then(Scanner::new) }
    }

    pub fn take(&mut self, event: Event, tokenizer: &Tokenizer) -> Delta {
        match event {
            Event::Started { reused, .. } => Delta { reused, ..Delta::default() },
            Event::Token { id, text, logprob } => {
                let mut content = self.said(&text);
                // An event has no text for a control token, and the markers of calls are such in some tokenizers.
                let marker = tokenizer.token_text(id).filter(|name| tokenizer.is_control(id) && MARKERS.contains(name));
                if let Some(marker) = marker.filter(|marker| !text.contains(marker)) {
                    content += &self.said_by_control(marker);
                }
                // What is no text of the answer has no place among its tokens.
                let shown = logprob.filter(|_| !tokenizer.is_control(id));
                let logprobs = shown.iter().map(|token| entry(token, tokenizer)).collect();
                Delta { content, logprobs, tokens: 1, ..Delta::default() }
            }
            Event::Finished { text, stop } => {
                let mut content = self.said(&text);
                let (rest, calls) = self.scanner.as_mut().map(Scanner::finish).unwrap_or_default();
                content += &rest;
                let finish = if calls.is_empty() { finish_reason(stop) } else { "tool_calls" };
                Delta { content, calls, finish: Some(finish), ..Delta::default() }
            }
            // The generation has turned it into an error of the whole request.
            Event::Failed(_) => Delta::default(),
        }
    }

    fn said(&mut self, text: &str) -> String {
        match &mut self.scanner {
            Some(scanner) => scanner.push(text),
            None => text.to_owned(),
        }
    }

    fn said_by_control(&mut self, marker: &str) -> String {
        self.scanner.as_mut().map(|scanner| scanner.push(marker)).unwrap_or_default()
    }
}

/// A token as `logprobs.content` has it.
fn entry(token: &TokenLogprob, tokenizer: &Tokenizer) -> Value {
    let shown = |id: u32, value: f32| json!({"token": vocabulary::text(tokenizer, id), "logprob": logprob(value), "bytes": tokenizer.token_bytes(id)});
    let mut entry = shown(token.id, token.logprob);
    let top: Vec<Value> = token.top.iter().map(|(id, value)| shown(*id, *value)).collect();
    if let Some(entry) = entry.as_object_mut() {
        entry.insert("top_logprobs".to_owned(), top.into());
    }
    entry
}
