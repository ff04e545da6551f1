//! A request for an answer.

use foehn_generate::Request;
use foehn_record::Message;
use serde_json::Value;

use super::messages::{conversation, render};
use crate::api_error::{ApiError, ApiResult};
use crate::app::App;
use crate::fields::{Fields, wrong};
use crate::grammar::Json;
use crate::settings::{MAX_LOGPROBS, Settings, WITHOUT_EFFECT};

/// What a request asks for, with the prompt still to render.
#[derive(Debug)]
pub(super) struct ChatRequest {
    pub settings: Settings,
    messages: Vec<Message>,
    pub tools: Vec<Value>,
    pub logprobs: Option<usize>,
    format: Format,
}

/// The form of the answer.
#[derive(Debug)]
enum Format {
    Text,
    JsonObject,
    Schema(Value),
}

impl ChatRequest {
    pub fn take(app: &App, mut fields: Fields) -> ApiResult<Self> {
        let mut settings = Settings::take(app, &mut fields)?;
        let limits =
            [fields.within("max_completion_tokens", 1, MAX_TOKENS)?, fields.within("max_tokens", 1, MAX_TOKENS)?];
        settings.max_tokens = limits.into_iter().flatten().min();
        let (messages, mut tools) = conversation(&mut fields)?;
        if !uses_tools(&mut fields, tools.is_empty())? {
            tools.clear();
        }
        let logprobs = logprobs(&mut fields)?;
        let format = format(&mut fields)?;
        fields.finish(&WITHOUT_EFFECT)?;
        if !tools.is_empty() && !matches!(format, Format::Text) {
            let message = "`response_format` would forbid calls: leave it or `tools` out, or set `tool_choice` to none";
            return Err(ApiError::invalid("response_format", message));
        }
        Ok(Self { settings, messages, tools, logprobs, format })
    }

    /// Renders the prompt: the request without its text, the engine's requests, and the prompt's length.
    pub fn prepare(self, app: &App) -> ApiResult<(Self, Vec<Request>, usize)> {
        let prompt = render(app, &self.settings.model, &self.messages, &self.tools)?;
        let constraint: Option<Json> = match &self.format {
            Format::Text => None,
            Format::JsonObject => Some(app.grammars().json_object()?),
            Format::Schema(schema) => Some(app.grammars().json_schema(schema.clone())?),
        };
        let length = prompt.len();
        let requests = self.settings.requests(app.context, vec![prompt], self.logprobs, false, constraint.as_ref())?;
        Ok((self, requests, length))
    }
}

/// No output is longer than this, so larger numbers are typing errors.
pub(crate) const MAX_TOKENS: usize = u32::MAX as usize;

/// Whether the model may call the tools.
fn uses_tools(fields: &mut Fields, none_given: bool) -> ApiResult<bool> {
    match fields.take("tool_choice") {
        None => Ok(true),
        Some(Value::String(choice)) if choice == "auto" => Ok(true),
        Some(Value::String(choice)) if choice == "none" => Ok(false),
        Some(other) => {
            let hint = if none_given { " (and there are no tools)" } else { "" };
            let message = format!("`tool_choice` is {other}, this server knows \"auto\" and \"none\"{hint}");
            Err(ApiError::invalid("tool_choice", message))
        }
    }
}

/// The number of alternatives of each token; `None` for no log-probabilities.
fn logprobs(fields: &mut Fields) -> ApiResult<Option<usize>> {
    let wanted = fields.boolean("logprobs")?;
    let top = fields.within("top_logprobs", 0, MAX_LOGPROBS)?;
    match (wanted, top) {
        (true, top) => Ok(Some(top.unwrap_or(0))),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => Err(ApiError::invalid("top_logprobs", "`top_logprobs` needs `logprobs` to be true")),
    }
}

fn format(fields: &mut Fields) -> ApiResult<Format> {
    let path = fields.path("response_format");
    let Some(value) = fields.take("response_format") else { return Ok(Format::Text) };
    let mut format = Fields::new(&path, value)?;
    let kind = format.required_text("type")?;
    let found = match kind.as_str() {
        "text" => Format::Text,
        "json_object" => Format::JsonObject,
        "json_schema" => {
            let path = format.path("json_schema");
            let named = format.take("json_schema").ok_or_else(|| format.missing("json_schema"))?;
            let mut named = Fields::new(&path, named)?;
            let schema = named.take("schema").unwrap_or_else(|| serde_json::json!({"type": "object"}));
            // The schema is always kept to.
            named.finish(&["name", "description", "strict"])?;
            Format::Schema(schema)
        }
        _ => {
            let found = Value::String(kind);
            return Err(wrong(&format.path("type"), &found, "text, json_object or json_schema"));
        }
    };
    format.finish(&[])?;
    Ok(found)
}
