//! What all templates need of the calls of tools: a checked conversation.

use foehn_record::{Message, Role, ToolCall};

use super::json::Json;
use crate::{Error, Result};

/// The arguments of a call in the message with this index. An empty text is an empty object.
pub(super) fn arguments(index: usize, call: &ToolCall) -> Result<Json> {
    let text = &call.function.arguments;
    if text.trim().is_empty() {
        return Ok(Json::Map(Vec::new()));
    }
    Json::parse(text).filter(|json| matches!(json, Json::Map(_))).ok_or_else(|| {
        let reason = format!("the arguments of its call of {} are not a JSON object", call.function.name);
        Error::ToolCall { index, reason }
    })
}

/// Checks that only the assistant calls tools and reasons, and that a result follows a call.
pub(super) fn check(messages: &[Message]) -> Result<()> {
    let mut called = false;
    for (index, message) in messages.iter().enumerate() {
        let role = message.role;
        let assists = !message.tool_calls.is_empty() || message.reasoning_content.is_some();
        let results = message.tool_call_id.is_some() || message.name.is_some();
        let rule = match role {
            Role::Tool if !called => Some("a tool's result follows the call of the tool"),
            _ if assists && role != Role::Assistant => Some("only the assistant calls tools and reasons"),
            _ if results && role != Role::Tool => Some("only a tool's result has the id and the name of a call"),
            _ => None,
        };
        if let Some(rule) = rule {
            return Err(Error::RoleOrder { index, role, rule });
        }
        for call in &message.tool_calls {
            arguments(index, call)?;
        }
        called = if role == Role::Tool { called } else { !message.tool_calls.is_empty() };
    }
    Ok(())
}
