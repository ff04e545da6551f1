//! A request for continuations.

use foehn_generate::Request;
use serde_json::Value;

use crate::api_error::{ApiError, ApiResult};
use crate::app::App;
use crate::chat::MAX_TOKENS;
use crate::fields::{Fields, wrong};
use crate::grammar::Json;
use crate::settings::{MAX_LOGPROBS, Settings, WITHOUT_EFFECT};
use crate::text::plain_prompt;

/// What OpenAI's interface generates where a request doesn't say.
const DEFAULT_MAX_TOKENS: usize = 16;

/// What a request asks for.
#[derive(Debug)]
pub(super) struct CompletionRequest {
    pub settings: Settings,
    pub prompts: Vec<Prompt>,
    pub echo: bool,
    pub logprobs: Option<usize>,
    /// Only the prompt is of interest.
    pub nothing_new: bool,
}

/// A prompt, as it was given and as tokens.
#[derive(Debug)]
pub(super) struct Prompt {
    pub text: Option<String>,
    pub ids: Vec<u32>,
}

impl CompletionRequest {
    pub fn take(app: &App, mut fields: Fields) -> ApiResult<Self> {
        let mut settings = Settings::take(app, &mut fields)?;
        let prompts = fields.take("prompt").ok_or_else(|| fields.missing("prompt"))?;
        let prompts = prompts_of(prompts)?;
        let echo = fields.boolean("echo")?;
        let logprobs = fields.within("logprobs", 0, MAX_LOGPROBS)?;
        let max_tokens = fields.within("max_tokens", 0, MAX_TOKENS)?.unwrap_or(DEFAULT_MAX_TOKENS);
        let nothing_new = max_tokens == 0;
        if nothing_new && !echo {
            return Err(ApiError::invalid("max_tokens", "`max_tokens` of 0 needs `echo` to be true"));
        }
        settings.max_tokens = Some(max_tokens);
        fields.neutral("best_of", |value| value.as_u64() == Some(1))?;
        fields.neutral("suffix", |value| value.as_str() == Some(""))?;
        fields.finish(&WITHOUT_EFFECT)?;
        Ok(Self { settings, prompts, echo, logprobs, nothing_new })
    }

    /// Encodes the prompts that are texts.
    pub fn prepare(mut self, app: &App) -> ApiResult<(Self, Vec<Request>)> {
        for Prompt { text, ids } in &mut self.prompts {
            if let Some(text) = text {
                *ids = plain_prompt(&app.tokenizer, text)?;
            }
        }
        let ids = self.prompts.iter().map(|prompt| prompt.ids.clone()).collect();
        let of_prompt = self.echo && self.logprobs.is_some();
        let requests = self.settings.requests(app.context, ids, self.logprobs, of_prompt, None::<&Json>)?;
        Ok((self, requests))
    }
}

/// A text, a list of texts, ids, or a list of lists of ids.
fn prompts_of(value: Value) -> ApiResult<Vec<Prompt>> {
    const EXPECTED: &str = "a string, a list of strings, a list of token ids or a list of such lists";
    let refused = |value: &Value| wrong("prompt", value, EXPECTED);
    let of_text = |text: String| Prompt { text: Some(text), ids: Vec::new() };
    let of_ids = |ids| Prompt { text: None, ids };
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids = |values: &[Value]| -> ApiResult<Vec<u32>> {
        values.iter().map(|value| id(value).ok_or_else(|| refused(value))).collect()
    };
    let values = match value {
        Value::String(text) => return Ok(vec![of_text(text)]),
        Value::Array(values) if !values.is_empty() => values,
        other => return Err(refused(&other)),
    };
    if values.iter().all(Value::is_number) {
        return Ok(vec![of_ids(ids(&values)?)]);
    }
    let prompt = |value| match value {
        Value::String(text) => Ok(of_text(text)),
        Value::Array(list) => Ok(of_ids(ids(&list)?)),
        other => Err(refused(&other)),
    };
    values.into_iter().map(prompt).collect()
}
