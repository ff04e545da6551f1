//! How many tokens a request took, and what is the same in every answer.

use std::time::{SystemTime, UNIX_EPOCH};

use foehn_generate::StopReason;
use serde_json::{Value, json};

/// The tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub prompt: usize,
    pub cached: usize,
    pub completion: usize,
}

impl Usage {
    pub fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        })
    }
}

/// What every answer and every piece of a stream says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub id: String,
    pub object: &'static str,
    pub created: u64,
    pub model: String,
}

impl Head {
    /// An answer with these choices. `usage` is left out where it is `None`.
    pub fn answer(&self, choices: Vec<Value>, usage: Option<Value>) -> Value {
        let mut answer = json!({
            "id": self.id,
            "object": self.object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": concat!("foehn-", env!("CARGO_PKG_VERSION")),
            "choices": choices,
        });
        if let (Some(usage), Some(answer)) = (usage, answer.as_object_mut()) {
            answer.insert("usage".to_owned(), usage);
        }
        answer
    }
}

/// Seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// The `finish_reason`.
pub(crate) fn finish_reason(stop: StopReason) -> &'static str {
    match stop {
        StopReason::Eos | StopReason::StopString | StopReason::Cancelled => "stop",
        StopReason::MaxTokens | StopReason::ContextFull => "length",
    }
}

/// A log-probability as JSON has it: without infinities, for which OpenAI writes -9999.
pub(crate) fn logprob(value: f32) -> f32 {
    if value.is_finite() { value } else { -9999.0 }
}
