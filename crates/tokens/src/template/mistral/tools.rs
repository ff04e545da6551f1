//! Tools, their calls and results, and reasoning in Mistral's templates.
//!
//! Source: `mistral-common` 1.13.1, `tokens/tokenizers/instruct.py` and `protocol/instruct/tool_calls.py`.

use foehn_record::{Conversation, Message, Role};
use serde_json::Value;

use super::super::calls::arguments;
use super::super::json::{Json, quote};
use super::MistralVersion;
use crate::{Error, Result, Tokenizer};

/// The ids so far.
pub(super) struct Writer<'a> {
    pub version: MistralVersion,
    pub tokenizer: &'a Tokenizer,
    pub ids: Vec<u32>,
}

impl Writer<'_> {
    pub fn text(&mut self, text: &str) -> Result<()> {
        self.ids.extend(self.tokenizer.encode_text(text)?);
        Ok(())
    }

    pub fn bracketed(&mut self, brackets: Option<(u32, u32)>, text: &str) -> Result<()> {
        self.ids.extend(brackets.map(|(begin, _)| begin));
        self.text(text)?;
        self.ids.extend(brackets.map(|(_, end)| end));
        Ok(())
    }

    /// The definitions of the tools, before a user turn.
    pub fn tools(&mut self, tools: &[Value]) -> Result<()> {
        if tools.is_empty() {
            return Ok(());
        }
        let tools = tools.iter().enumerate().map(|(index, tool)| definition(index, tool)).collect::<Result<_>>()?;
        self.control("[AVAILABLE_TOOLS]")?;
        self.text(&Json::List(tools).dump())?;
        self.control("[/AVAILABLE_TOOLS]")
    }

    /// An assistant turn without its end. The calls of a conversation's last message need no ids; in V11, only a single
    /// call does not.
    pub fn answer(&mut self, index: usize, message: &Message, is_last: bool) -> Result<()> {
        if let Some(reasoning) = &message.reasoning_content {
            self.control("[THINK]")?;
            self.text(reasoning)?;
            self.control("[/THINK]")?;
        }
        if !message.content.is_empty() {
            self.text(&message.content)?;
        }
        if message.tool_calls.is_empty() {
            return Ok(());
        }
        let mut list = String::new();
        let is_single = message.tool_calls.len() == 1;
        for call in &message.tool_calls {
            let id = match &call.id {
                Some(id) if self.has_ids() => Some(checked_id(index, id)?),
                None if self.has_ids() && !(is_last && (is_single || self.version < MistralVersion::V11)) => {
                    return Err(bad_id(index));
                }
                _ => None,
            };
            let (name, arguments) = (&call.function.name, arguments(index, call)?.dump());
            if self.version >= MistralVersion::V11 {
                self.control("[TOOL_CALLS]")?;
                self.text(name)?;
                if let Some(id) = id {
                    self.control("[CALL_ID]")?;
                    self.text(id)?;
                }
                self.control("[ARGS]")?;
                self.text(&arguments)?;
                continue;
            }
            list.push_str(if list.is_empty() { "[{\"name\": " } else { ", {\"name\": " });
            quote(name, &mut list);
            list.push_str(", \"arguments\": ");
            list.push_str(&arguments);
            if let Some(id) = id {
                list.push_str(", \"id\": ");
                quote(id, &mut list);
            }
            list.push('}');
        }
        if !list.is_empty() {
            self.control("[TOOL_CALLS]")?;
            self.text(&(list + "]"))?;
        }
        Ok(())
    }

    /// The result of a call.
    pub fn result(&mut self, index: usize, message: &Message) -> Result<()> {
        let id = message.tool_call_id.as_deref().filter(|_| self.has_ids());
        let id = match id {
            Some(id) => checked_id(index, id)?,
            None if self.has_ids() => return Err(bad_id(index)),
            None => "",
        };
        self.control("[TOOL_RESULTS]")?;
        match self.version {
            MistralVersion::V1 | MistralVersion::V2 => {
                let name = message.name.clone().map_or(Json::Scalar("null".to_owned()), Json::Text);
                let entries = [("name", name), ("content", content(&message.content))];
                self.text(&Json::List(vec![object(entries)]).dump())?;
            }
            MistralVersion::V3 => {
                let entries = [("content", content(&message.content)), ("call_id", Json::Text(id.to_owned()))];
                self.text(&object(entries).dump())?;
            }
            MistralVersion::V7 | MistralVersion::V11 => {
                self.text(id)?;
                self.control("[TOOL_CONTENT]")?;
                self.text(&message.content)?;
            }
            MistralVersion::V13 => self.text(&message.content)?,
        }
        self.control("[/TOOL_RESULTS]")
    }

    /// Whether calls and results are rendered with ids.
    fn has_ids(&self) -> bool {
        matches!(self.version, MistralVersion::V3 | MistralVersion::V7 | MistralVersion::V11)
    }

    fn control(&mut self, name: &'static str) -> Result<()> {
        let missing = Error::MissingControl { template: self.version.name(), name };
        self.ids.push(self.tokenizer.control(name).ok_or(missing)?);
        Ok(())
    }
}

impl MistralVersion {
    /// The error for a part of a conversation that only later versions have.
    pub(super) fn cannot(self, part: &'static str, message: Option<usize>, first: Self) -> Error {
        let other = match first {
            Self::V13 => "mistral-v13".to_owned(),
            first => format!("{} or a later version", first.name()),
        };
        Error::Inexpressible { template: self.name(), part, message, other }
    }
}

/// Refuses what a version has no form for.
pub(super) fn check_parts(version: MistralVersion, conversation: Conversation<'_>) -> Result<()> {
    let Conversation { messages, tools } = conversation;
    if version == MistralVersion::V1 && !tools.is_empty() {
        return Err(version.cannot("tools", None, MistralVersion::V2));
    }
    let last_user = messages.iter().rposition(|message| message.role == Role::User);
    for (index, message) in messages.iter().enumerate() {
        let calls = !message.tool_calls.is_empty();
        let previous = index.checked_sub(1).and_then(|previous| messages.get(previous));
        let is_second = message.role == Role::Tool && previous.is_some_and(|previous| previous.role == Role::Tool);
        let found = match message.role {
            Role::Tool if version == MistralVersion::V1 => Some(("the result of a tool", MistralVersion::V2)),
            _ if version == MistralVersion::V1 && calls => Some(("the call of a tool", MistralVersion::V2)),
            _ if version < MistralVersion::V13 && message.reasoning_content.is_some() => {
                Some(("reasoning", MistralVersion::V13))
            }
            _ if version < MistralVersion::V7 && calls && !message.content.is_empty() => {
                Some(("a text beside the call of a tool", MistralVersion::V7))
            }
            _ if version == MistralVersion::V2 && is_second && Some(index) > last_user => {
                Some(("a second result for the calls of one turn", MistralVersion::V3))
            }
            _ => None,
        };
        if let Some((part, first)) = found {
            return Err(version.cannot(part, Some(index), first));
        }
    }
    Ok(())
}

/// A tool with the fields that `mistral-common` renders, in its order.
fn definition(index: usize, tool: &Value) -> Result<Json> {
    let refused = |reason: String| Error::Tool { index, reason };
    let fields = |value: &Value, place: &str, known: &[&str]| match value.as_object() {
        None => Err(refused(format!("{place} is not an object"))),
        Some(map) => match map.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(refused(format!("Mistral's templates have no place for {place}'s field {key}"))),
            None => Ok(()),
        },
    };
    fields(tool, "it", &["type", "function"])?;
    if tool.get("type").is_some_and(|kind| kind != "function") {
        return Err(refused("its type is not function".to_owned()));
    }
    let function = tool.get("function").ok_or_else(|| refused("it has no function".to_owned()))?;
    fields(function, "function", &["name", "description", "parameters", "strict"])?;
    let text = |key: &str| function.get(key).filter(|value| !value.is_null());
    let name = text("name").and_then(Value::as_str).ok_or_else(|| refused("function has no name".to_owned()))?;
    let description = match text("description") {
        None => String::new(),
        Some(Value::String(description)) => description.clone(),
        Some(_) => return Err(refused("function's description is not a text".to_owned())),
    };
    let parameters = match text("parameters") {
        None => Json::Map(Vec::new()),
        Some(parameters) if parameters.is_object() => Json::of(parameters),
        Some(_) => return Err(refused("function's parameters are not an object".to_owned())),
    };
    let entries =
        [("name", Json::Text(name.to_owned())), ("description", Json::Text(description)), ("parameters", parameters)];
    Ok(object([("type", Json::Text("function".to_owned())), ("function", object(entries))]))
}

/// A result as JSON: what it is, if it is JSON, and otherwise a string. An empty one is an empty object.
fn content(text: &str) -> Json {
    if text.is_empty() {
        return Json::Map(Vec::new());
    }
    Json::parse(text).unwrap_or_else(|| Json::Text(text.to_owned()))
}

fn object<const N: usize>(entries: [(&str, Json); N]) -> Json {
    Json::Map(entries.map(|(key, value)| (key.to_owned(), value)).into())
}

/// An id of the form that Mistral's models are trained with.
fn checked_id(index: usize, id: &str) -> Result<&str> {
    match id.len() == 9 && id.bytes().all(|letter| letter.is_ascii_alphanumeric()) {
        true => Ok(id),
        false => Err(bad_id(index)),
    }
}

fn bad_id(index: usize) -> Error {
    let reason = "its call of a tool needs an id of nine letters and digits in this template, and so does the result";
    Error::ToolCall { index, reason: reason.to_owned() }
}
