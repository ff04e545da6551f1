//! A conversation as the values of a template's variables, with [marks](super::marks) in its texts.

use foehn_record::{Conversation, Message, Role, ToolCall};
use minijinja::Value;
use minijinja::value::Serde;
use serde::Serialize;

use super::calls::arguments;
use super::json::Json;
use super::marks::Marks;
use crate::{Error, Result, Tokenizer};

/// A text whose place in the output has to be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The message, from 0.
    pub message: usize,
    pub part: Part,
    /// The text that a template is given.
    pub text: String,
}

/// What a [`Place`] is of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Content,
    Reasoning,
    /// The name of the function that is called.
    Name,
    /// A key or a string among the arguments of a call.
    Argument,
}

/// The variables of a template.
#[derive(Debug)]
pub(super) struct Marked {
    pub messages: Vec<Value>,
    /// The tools; nothing if there are none.
    pub tools: Value,
    /// The names of the tools, as the template is given them.
    pub tool_names: Vec<String>,
    /// The number of messages, calls and tools.
    pub count: usize,
    /// The bytes of all texts.
    pub bytes: usize,
}

#[derive(Serialize)]
struct Shown<'a> {
    role: &'a str,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ShownCall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

#[derive(Serialize)]
struct ShownCall {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    r#type: &'static str,
    function: ShownFunction,
}

#[derive(Serialize)]
struct ShownFunction {
    name: String,
    arguments: Json,
}

/// The texts of a conversation whose places have to be known, in the order in which [`mark`] marks them.
pub(super) fn places(messages: &[Message]) -> Result<Vec<Place>> {
    let mut places = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        let mut add = |part, text: &str| places.push(Place { message: index, part, text: text.to_owned() });
        if let Some(reasoning) = &message.reasoning_content {
            add(Part::Reasoning, reasoning);
        }
        if message.role != Role::Assistant || !message.content.is_empty() {
            add(Part::Content, &message.content);
        }
        for call in &message.tool_calls {
            add(Part::Name, &call.function.name);
            arguments(index, call)?.with_texts(&mut |text| {
                add(Part::Argument, text);
                String::new()
            });
        }
    }
    Ok(places)
}

/// The variables of a conversation.
pub(super) fn mark(marks: &Marks, tokenizer: &Tokenizer, conversation: Conversation<'_>) -> Result<Marked> {
    let mut next = 0..;
    let mut fenced = |text: &str| marks.fence(tokenizer, next.next().unwrap_or(usize::MAX), text);
    let mut bytes = 0;
    let mut count = conversation.messages.len() + conversation.tools.len();
    let mut messages = Vec::with_capacity(conversation.messages.len());
    for (index, message) in conversation.messages.iter().enumerate() {
        let reasoning_content = message.reasoning_content.as_deref().map(&mut fenced);
        let content = match message.role {
            Role::Assistant if message.content.is_empty() => String::new(),
            Role::Assistant => fenced(&message.content),
            _ => around_white_space(&message.content, &mut fenced),
        };
        let mut call = |call: &ToolCall| -> Result<ShownCall> {
            let name = fenced(&call.function.name);
            let arguments = arguments(index, call)?.with_texts(&mut fenced);
            let id = call.id.as_deref().map(|id| marks.broken(tokenizer, id));
            Ok(ShownCall { id, r#type: "function", function: ShownFunction { name, arguments } })
        };
        let tool_calls = message.tool_calls.iter().map(&mut call).collect::<Result<Vec<_>>>()?;
        let shown = |text: &Option<String>| text.as_deref().map(|text| marks.guarded(tokenizer, text));
        let (tool_call_id, name) = (message.tool_call_id.as_deref(), shown(&message.name));
        let tool_call_id = tool_call_id.map(|id| marks.broken(tokenizer, id));
        bytes += content.len() + reasoning_content.as_ref().map_or(0, String::len);
        bytes += message
            .tool_calls
            .iter()
            .map(|call| call.function.arguments.len() + call.function.name.len())
            .sum::<usize>();
        count += tool_calls.len();
        let role = message.role.name();
        let shown = Shown { role, content, reasoning_content, tool_calls, tool_call_id, name };
        messages.push(Value::from(Serde(shown)));
    }
    let mut tools = Vec::with_capacity(conversation.tools.len());
    let mut tool_names = Vec::new();
    for (index, tool) in conversation.tools.iter().enumerate() {
        if !tool.is_object() {
            return Err(Error::Tool { index, reason: "it is not an object".to_owned() });
        }
        let name = tool.get("function").unwrap_or(tool).get("name").and_then(serde_json::Value::as_str);
        tool_names.extend(name.map(|name| marks.guarded(tokenizer, name)));
        let tool = Json::of(tool).with_texts(&mut |text| marks.guarded(tokenizer, text));
        bytes += tool.dump().len();
        tools.push(tool);
    }
    let tools = if tools.is_empty() { Value::from(()) } else { Value::from(Serde(tools)) };
    Ok(Marked { messages, tools, tool_names, count, bytes })
}

/// Fences a text inside its outer white space, so that a template's `trim` still works.
fn around_white_space(text: &str, fenced: &mut dyn FnMut(&str) -> String) -> String {
    let inner = text.trim();
    let before = text.len() - text.trim_start().len();
    let (before, after) = match inner.is_empty() {
        true => (text, ""),
        false => (text.get(..before).unwrap_or(""), text.get(before + inner.len()..).unwrap_or("")),
    };
    format!("{before}{}{after}", fenced(inner))
}
