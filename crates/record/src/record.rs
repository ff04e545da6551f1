//! A conversation and its metadata.

use serde::{Deserialize, Serialize};

/// Who speaks a [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that precede the conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A tool, with the result of a call.
    Tool,
}

impl Role {
    /// The role's name in files and templates.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// The author of the message.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// Whether an assistant turn is trained on: 1 (the default) or 0, as in mistral-finetune.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u8>,
    /// What the model thinks before it answers, which templates render apart from the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The tools that the model calls with this message. Its content may be empty then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Of a tool's result: the [id](ToolCall::id) of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Of a tool's result: the name of the function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A call of a tool, as in OpenAI's format: `{"id": …, "type": "function", "function": {"name": …, "arguments": "{…}"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ToolCall {
    /// By which the result names the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The only kind of tool that there is.
    #[serde(default, rename = "type")]
    pub kind: ToolKind,
    /// What is called, and with what.
    pub function: FunctionCall,
}

/// The kind of a tool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolKind {
    /// A function.
    #[default]
    Function,
}

/// The name of a function and its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FunctionCall {
    /// The name among the record's [tools](Record::tools).
    pub name: String,
    /// The text of a JSON object.
    pub arguments: String,
}

impl Message {
    /// A message without a weight of its own.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            weight: None,
            reasoning_content: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
        }
    }

    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }

    /// A message of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::Assistant, content)
    }

    /// Instructions that precede the conversation.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(Role::System, content)
    }

    /// Whether the loss covers this message: it is an assistant message, and its weight is not 0.
    pub fn is_trained(&self) -> bool {
        self.role == Role::Assistant && self.weight != Some(0)
    }
}

/// A conversation with its id, its group, and every other field of its line.
///
/// It is written as one JSON object in the order of the fields here: `id`, `messages`, `tools`, `rejected`, the metadata,
/// `group`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The author's name for the record. If given, it is unique in its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The turns, in order.
    pub messages: Vec<Message>,
    /// The tools that the model may call, each as in OpenAI's format: `{"type": "function", "function": {"name": …,
    /// "description": …, "parameters": {…}}}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<serde_json::Value>,
    /// A worse answer than the last message, which is the chosen one. It is only for training on preferences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    /// All other keys of the input object (`task`, `modality`, `source`, …), in their order.
    #[serde(flatten)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// What the record was made from (a scene, a sentence). A split never divides a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl Record {
    /// A conversation without id, group and metadata.
    pub fn new(messages: Vec<Message>) -> Self {
        Self { id: None, messages, tools: Vec::new(), rejected: None, metadata: serde_json::Map::new(), group: None }
    }

    /// A question and its answer.
    pub fn pair(question: impl Into<String>, answer: impl Into<String>) -> Self {
        Self::new(vec![Message::user(question), Message::assistant(answer)])
    }

    /// The text, if the record is plain text: one message of the assistant that answers nothing.
    pub fn plain_text(&self) -> Option<&str> {
        let [only] = self.messages.as_slice() else { return None };
        let is_bare = only.tool_calls.is_empty() && only.reasoning_content.is_none() && self.tools.is_empty();
        (only.role == Role::Assistant && is_bare && self.rejected.is_none()).then_some(only.content.as_str())
    }

    /// The value of a metadata key, if the key exists and its value is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).and_then(serde_json::Value::as_str)
    }
}
