//! Reads one turn of a conversation, and refuses keys with content that text cannot express.

use serde_json::{Map, Value};

use super::Fault;
use super::shape::wrong_kind;
use foehn_record::{Message, Role};

/// Keys of turns and records that no template here can render. Without their content, the text would teach something
/// else.
const UNSUPPORTED: [(&str, &str); 22] = [
    ("tool_calls", "tool calls"),
    ("function_call", "a function call"),
    ("tool_call_id", "what a tool answered"),
    ("tool_responses", "what tools answered"),
    ("tool_results", "what tools answered"),
    ("tools", "tools"),
    ("functions", "functions"),
    ("reasoning_content", "reasoning"),
    ("reasoning_details", "reasoning"),
    ("reasoning", "reasoning"),
    ("thinking", "reasoning"),
    ("refusal", "a refusal beside the text"),
    ("image", "an image"),
    ("images", "images"),
    ("image_url", "an image"),
    ("audio", "sound"),
    ("audios", "sound"),
    ("input_audio", "sound"),
    ("video", "a film"),
    ("videos", "films"),
    ("file", "a file"),
    ("files", "files"),
];

/// The keys among them that can be beside a record's conversation. All other keys are metadata, and stay in the clean
/// file.
const OF_RECORD: [&str; 8] = ["tools", "functions", "image", "images", "audio", "audios", "video", "videos"];

/// Refuses a record whose conversation needs content beside it.
pub(super) fn check_record(object: &Map<String, Value>) -> Result<(), Fault> {
    OF_RECORD.iter().try_for_each(|key| refuse(object.get(*key), key, (*key).to_owned()))
}

/// Reads one `{role, content, weight?}` or `{from, value, weight?}`. Keys that do not concern the text are left out.
pub(super) fn turn(value: Value, field: &str, message: usize, left_out: &mut Vec<String>) -> Result<Message, Fault> {
    let path = |key: &str| format!("{field}[{message}].{key}");
    let mut turn = match value {
        Value::Object(turn) => turn,
        other => return Err(wrong_kind(&format!("{field}[{message}]"), "an object", &other)),
    };
    for (key, _) in UNSUPPORTED {
        refuse(turn.get(key), key, path(key))?;
    }
    let (role_key, content_key) = match field {
        "conversations" => (("from", "role"), ("value", "content")),
        _ => (("role", "from"), ("content", "value")),
    };
    let mut either = |first: &str, second: &str| {
        let key = if turn.contains_key(first) || !turn.contains_key(second) { first } else { second };
        turn.shift_remove(key).ok_or_else(|| Fault::MissingField { field: path(key) }).map(|value| (value, path(key)))
    };
    let role = match either(role_key.0, role_key.1)? {
        (Value::String(role), _) => role,
        (other, path) => return Err(wrong_kind(&path, "text", &other)),
    };
    let (content, content_path) = either(content_key.0, content_key.1)?;
    let content = text_of(content, &content_path)?;
    let role = match role.trim().to_ascii_lowercase().as_str() {
        "system" | "developer" => Role::System,
        "user" | "human" => Role::User,
        "assistant" | "gpt" => Role::Assistant,
        _ => return Err(Fault::UnknownRole { message, role }),
    };
    let weight = match turn.shift_remove("weight") {
        None | Some(Value::Null) => None,
        Some(value) => match value.as_f64() {
            Some(0.0) => Some(0),
            Some(1.0) => Some(1),
            _ => return Err(Fault::Weight { message, found: value.to_string() }),
        },
    };
    let rest = turn.iter().filter(|(_, value)| !is_nothing(value)).map(|(key, _)| format!("{field}[].{key}"));
    left_out.extend(rest);
    Ok(Message { weight, ..Message::new(role, content) })
}

/// A text, or a list of text parts, which are joined as templates do: with nothing between them.
fn text_of(content: Value, path: &str) -> Result<String, Fault> {
    let parts = match content {
        Value::String(text) => return Ok(text),
        Value::Array(parts) if !parts.is_empty() => parts,
        other => return Err(wrong_kind(path, "text", &other)),
    };
    let mut text = String::new();
    for (at, part) in (1..).zip(parts) {
        let path = format!("{path}[{at}]");
        match part {
            Value::String(part) => text.push_str(&part),
            Value::Object(part) => text.push_str(part_text(&part, &path)?),
            other => return Err(wrong_kind(&path, "text", &other)),
        }
    }
    Ok(text)
}

fn part_text<'a>(part: &'a Map<String, Value>, path: &str) -> Result<&'a str, Fault> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
    if !matches!(kind, "text" | "input_text" | "output_text") {
        let known = UNSUPPORTED.iter().find(|(key, _)| *key == kind);
        let what = known.map_or("a part that is no text", |(_, what)| what);
        return Err(Fault::Unsupported { field: format!("{path} of the type {kind}"), what });
    }
    match part.get("text") {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong_kind(&format!("{path}.text"), "text", other)),
        None => Err(Fault::MissingField { field: format!("{path}.text") }),
    }
}

fn refuse(value: Option<&Value>, key: &str, field: String) -> Result<(), Fault> {
    let what = UNSUPPORTED.iter().find(|(known, _)| *known == key).map_or("more than text", |(_, what)| what);
    match value.filter(|value| !is_nothing(value)) {
        Some(_) => Err(Fault::Unsupported { field, what }),
        None => Ok(()),
    }
}

/// Whether a value means "nothing": null, false, an empty value, or the text of one of these.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => matches!(text.trim(), "" | "[]" | "{}" | "null"),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(entries) => entries.values().all(Value::is_null),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &str, left_out: &[&str]) {
        let value = serde_json::from_str(json).expect("the test's own JSON");
        let mut left = Vec::new();
        let found = match turn(value, "messages", 2, &mut left) {
            Ok(message) => format!("{:?}: {}", message.role, message.content),
            Err(fault) => fault.to_string(),
        };
        assert_eq!(
            (found.as_str(), left),
            (expected, left_out.iter().map(|key| (*key).to_owned()).collect()),
            "{json}"
        );
    }

    #[test]
    fn text_parts_are_joined_and_a_developer_is_the_system() {
        check(r#"{"role":"developer","content":"Be brief."}"#, "System: Be brief.", &[]);
        check(
            r#"{"role":"user","content":[{"type":"text","text":"a "},{"type":"text","text":"b"}]}"#,
            "User: a b",
            &[],
        );
        check(r#"{"role":"user","content":["a",{"text":"b"}]}"#, "User: ab", &[]);
        check(
            r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}}]}"#,
            "the field `messages[2].content[2] of the type image_url` holds an image, which can't be trained on here",
            &[],
        );
        check(
            r#"{"role":"user","content":[7]}"#,
            "the field `messages[2].content[1]` should be text, found a number",
            &[],
        );
    }

    #[test]
    fn what_is_not_rendered_is_refused_by_name_or_named_as_left_out() {
        for (key, _) in UNSUPPORTED {
            let json = format!(r#"{{"role":"assistant","content":"a","{key}":[{{"x":1}}]}}"#);
            let fault = turn(serde_json::from_str(&json).expect("JSON"), "messages", 3, &mut Vec::new()).unwrap_err();
            assert!(fault.to_string().starts_with(&format!("the field `messages[3].{key}` holds ")), "{fault}");
            for empty in ["null", "[]", "\"\"", "{}", "\"[]\"", "false"] {
                let json = format!(r#"{{"role":"assistant","content":"a","{key}":{empty}}}"#);
                check(&json, "Assistant: a", &[]);
            }
        }
        check(
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"c"}]}"#,
            "the field `messages[2].tool_calls` holds tool calls, which can't be trained on here",
            &[],
        );
        check(
            r#"{"role":"user","content":"a","name":"Ann","id":null,"ts":5}"#,
            "User: a",
            &["messages[].name", "messages[].ts"],
        );
    }
}
