//! What a message says besides its text: reasoning, and calls of tools.

use std::borrow::Cow;

use serde_json::{Map, Value};

use foehn_record::{Message, Record, ToolCall};

/// Every text of a message that a model reads or writes: the content, the reasoning, the arguments of calls.
pub(crate) fn texts(message: &Message) -> impl Iterator<Item = &str> {
    let arguments = message.tool_calls.iter().map(|call| call.function.arguments.as_str());
    [message.content.as_str()].into_iter().chain(message.reasoning_content.as_deref()).chain(arguments)
}

/// The message as a report shows it: the reasoning, the text, and the calls as in a program.
pub(crate) fn shown(message: &Message) -> Cow<'_, str> {
    if message.reasoning_content.is_none() && message.tool_calls.is_empty() {
        return Cow::Borrowed(&message.content);
    }
    let call = |call: &ToolCall| format!("{}({})", call.function.name, call.function.arguments);
    let lines = message.reasoning_content.iter().map(|reasoning| format!("[reasoning] {reasoning}"));
    let lines = lines.chain((!message.content.is_empty()).then(|| message.content.clone()));
    Cow::Owned(lines.chain(message.tool_calls.iter().map(call)).collect::<Vec<_>>().join("\n"))
}

/// The calls of a message in one form: without ids, spaces and the order of keys. `None` if it calls nothing.
pub(crate) fn calls_form(message: &Message) -> Option<String> {
    let call = |ToolCall { function, .. }: &ToolCall| {
        let arguments = serde_json::from_str(&function.arguments).map_or_else(|_| function.arguments.clone(), ordered);
        format!("{}({arguments})", function.name)
    };
    let calls: Vec<String> = message.tool_calls.iter().map(call).collect();
    (!calls.is_empty()).then(|| calls.join("\n"))
}

/// The tools of a record in one form. `None` if it has none.
pub(crate) fn tools_form(record: &Record) -> Option<String> {
    let tools: Vec<String> = record.tools.iter().cloned().map(ordered).collect();
    (!tools.is_empty()).then(|| tools.join("\n"))
}

/// JSON with the keys of every object in order.
fn ordered(value: Value) -> String {
    fn sorted(value: Value) -> Value {
        match value {
            Value::Array(elements) => elements.into_iter().map(sorted).collect(),
            Value::Object(entries) => {
                let mut entries: Vec<(String, Value)> =
                    entries.into_iter().map(|(key, value)| (key, sorted(value))).collect();
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                Value::Object(Map::from_iter(entries))
            }
            other => other,
        }
    }
    sorted(value).to_string()
}

/// Repairs the texts inside the arguments of a call: every text among the values. `None` if there is nothing to repair.
pub(crate) fn repaired_arguments(arguments: &str, repair: impl Fn(&str) -> Option<String>) -> Option<String> {
    fn visit(value: &mut Value, repair: &impl Fn(&str) -> Option<String>) -> bool {
        match value {
            Value::String(text) => match repair(text).filter(|repaired| repaired != text) {
                Some(repaired) => {
                    *text = repaired;
                    true
                }
                None => false,
            },
            Value::Array(elements) => elements.iter_mut().fold(false, |changed, value| visit(value, repair) | changed),
            Value::Object(entries) => entries.values_mut().fold(false, |changed, value| visit(value, repair) | changed),
            _ => false,
        }
    }
    let mut value = serde_json::from_str(arguments).ok()?;
    visit(&mut value, &repair).then(|| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use foehn_record::{FunctionCall, ToolKind};

    fn calling(id: &str, arguments: &str) -> Message {
        let function = FunctionCall { name: "f".to_owned(), arguments: arguments.to_owned() };
        let call = ToolCall { id: Some(id.to_owned()), kind: ToolKind::Function, function };
        Message { tool_calls: vec![call], ..Message::assistant("") }
    }

    #[test]
    fn calls_that_say_the_same_have_one_form() {
        let form = |id, arguments| calls_form(&calling(id, arguments));
        assert_eq!(form("1", r#"{"a":1,"b":{"x":1,"y":2}}"#), form("2", r#"{ "b": {"y":2, "x":1}, "a": 1 }"#));
        assert_ne!(form("1", r#"{"a":1}"#), form("1", r#"{"a":2}"#));
        assert_eq!(calls_form(&Message::assistant("a")), None);
    }

    #[test]
    fn only_texts_among_the_values_are_repaired() {
        let shout = |text: &str| Some(text.to_uppercase());
        let repaired = repaired_arguments(r#"{"a": ["x", 1.50], "b": {"c": "y\n"}}"#, shout);
        assert_eq!(repaired.as_deref(), Some(r#"{"a":["X",1.5],"b":{"c":"Y\n"}}"#));
        assert_eq!(repaired_arguments(r#"{ "a" : "X" }"#, shout), None);
    }

    #[test]
    fn a_report_shows_the_whole_message() {
        let message = Message {
            reasoning_content: Some("Look it up.".to_owned()),
            content: "One moment.".to_owned(),
            ..calling("1", r#"{"a":1}"#)
        };
        assert_eq!(shown(&message), "[reasoning] Look it up.\nOne moment.\nf({\"a\":1})");
        assert_eq!(texts(&message).collect::<Vec<_>>(), ["One moment.", "Look it up.", "{\"a\":1}"]);
    }
}
