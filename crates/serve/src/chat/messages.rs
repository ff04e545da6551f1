//! Messages of a request become messages of a template.

use foehn_record::{Conversation, FunctionCall, Message, Role, ToolCall, ToolKind};
use serde_json::Value;

use crate::ModelInfo;
use crate::api_error::{ApiError, ApiResult};
use crate::app::App;
use crate::fields::{Fields, wrong};

/// The most messages and tools of a conversation.
const MAX_MESSAGES: usize = 4096;
const MAX_TOOLS: usize = 128;

/// The prompt's tokens. Whatever the messages and tools say is text: the template alone writes control tokens.
pub(crate) fn render(app: &App, model: &ModelInfo, messages: &[Message], tools: &[Value]) -> ApiResult<Vec<u32>> {
    let prompt = model.template.prompt(&app.tokenizer, Conversation { messages, tools });
    prompt.map_err(|error| {
        let about = if matches!(error, foehn_tokens::Error::Tool { .. }) { "tools" } else { "messages" };
        ApiError::invalid(about, crate::api_error::chain(&error))
    })
}

/// Takes `messages` and `tools` out of a request.
pub(crate) fn conversation(fields: &mut Fields) -> ApiResult<(Vec<Message>, Vec<Value>)> {
    let values = fields.list("messages")?.ok_or_else(|| fields.missing("messages"))?;
    if values.is_empty() || values.len() > MAX_MESSAGES {
        let message = format!("`messages` has {} entries, expected 1 to {MAX_MESSAGES}", values.len());
        return Err(ApiError::invalid("messages", message));
    }
    let place = |index: usize| format!("messages[{index}]");
    let messages = values.into_iter().enumerate().map(|(index, value)| message(&place(index), value));
    let messages = messages.collect::<ApiResult<_>>()?;
    let tools = fields.list("tools")?.unwrap_or_default();
    if tools.len() > MAX_TOOLS {
        return Err(ApiError::invalid("tools", format!("{} tools are more than {MAX_TOOLS}", tools.len())));
    }
    for (index, tool) in tools.iter().enumerate() {
        check_tool(&format!("tools[{index}]"), tool.clone())?;
    }
    Ok((messages, tools))
}

fn check_tool(place: &str, tool: Value) -> ApiResult<()> {
    let mut tool = Fields::new(place, tool)?;
    function_type(&mut tool)?;
    let path = tool.path("function");
    let function = tool.take("function").ok_or_else(|| tool.missing("function"))?;
    tool.finish(&[])?;
    Fields::new(&path, function)?.required_text("name").map(drop)
}

fn function_type(fields: &mut Fields) -> ApiResult<()> {
    match fields.required_text("type")?.as_str() {
        "function" => Ok(()),
        other => {
            let path = fields.path("type");
            Err(ApiError::invalid(&path, format!("`{path}` is {other}, expected function")))
        }
    }
}

fn message(place: &str, value: Value) -> ApiResult<Message> {
    let mut fields = Fields::new(place, value)?;
    let role = match fields.required_text("role")?.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => {
            let path = fields.path("role");
            let message = format!("`{path}` is {other}, expected system, developer, user, assistant or tool");
            return Err(ApiError::invalid(&path, message));
        }
    };
    let mut message = Message::new(role, content(&mut fields)?.unwrap_or_default());
    if role == Role::Assistant {
        message.reasoning_content = fields.text("reasoning_content")?;
        message.tool_calls = calls(&mut fields)?;
    }
    if role == Role::Tool {
        message.tool_call_id = Some(fields.required_text("tool_call_id")?);
        message.name = fields.text("name")?;
    }
    // What answers of OpenAI's clients carry, when they are sent back.
    fields.finish(&["annotations"])?;
    Ok(message)
}

/// A text, or a list of parts that are texts.
fn content(fields: &mut Fields) -> ApiResult<Option<String>> {
    let path = fields.path("content");
    match fields.take("content") {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Array(parts)) => {
            let mut joined = String::new();
            for (index, part) in parts.into_iter().enumerate() {
                let mut part = Fields::new(&format!("{path}[{index}]"), part)?;
                let kind = part.required_text("type")?;
                if kind != "text" {
                    let path = part.path("type");
                    return Err(ApiError::invalid(&path, format!("`{path}` is {kind}, only text is supported")));
                }
                joined.push_str(&part.required_text("text")?);
                part.finish(&[])?;
            }
            Ok(Some(joined))
        }
        Some(other) => Err(wrong(&path, &other, "a string or a list of parts")),
    }
}

fn calls(fields: &mut Fields) -> ApiResult<Vec<ToolCall>> {
    let path = fields.path("tool_calls");
    let values = fields.list("tool_calls")?.unwrap_or_default();
    let read = |(index, value): (usize, Value)| {
        let mut call = Fields::new(&format!("{path}[{index}]"), value)?;
        let id = Some(call.required_text("id")?);
        function_type(&mut call)?;
        let path = call.path("function");
        let function = call.take("function").ok_or_else(|| call.missing("function"))?;
        call.finish(&["index"])?;
        let mut function = Fields::new(&path, function)?;
        let (name, arguments) = (function.required_text("name")?, function.required_text("arguments")?);
        function.finish(&[])?;
        Ok(ToolCall { id, kind: ToolKind::Function, function: FunctionCall { name, arguments } })
    };
    values.into_iter().enumerate().map(read).collect()
}
