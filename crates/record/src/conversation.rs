//! What a template renders.

use crate::{Message, Record};

/// The messages of a conversation, and the tools that the model may call in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conversation<'a> {
    /// The turns, in order.
    pub messages: &'a [Message],
    /// The tools, as in [`Record::tools`].
    pub tools: &'a [serde_json::Value],
}

impl<'a> Conversation<'a> {
    /// Other messages with the same tools.
    pub fn with_messages(self, messages: &'a [Message]) -> Self {
        Self { messages, ..self }
    }
}

impl<'a> From<&'a [Message]> for Conversation<'a> {
    fn from(messages: &'a [Message]) -> Self {
        Self { messages, tools: &[] }
    }
}

impl<'a, const N: usize> From<&'a [Message; N]> for Conversation<'a> {
    fn from(messages: &'a [Message; N]) -> Self {
        Self { messages, tools: &[] }
    }
}

impl<'a> From<&'a Vec<Message>> for Conversation<'a> {
    fn from(messages: &'a Vec<Message>) -> Self {
        Self { messages, tools: &[] }
    }
}

impl<'a> From<&'a Record> for Conversation<'a> {
    fn from(record: &'a Record) -> Self {
        Self { messages: &record.messages, tools: &record.tools }
    }
}
