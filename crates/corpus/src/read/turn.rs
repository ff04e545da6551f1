//! Reads one turn of a conversation, and refuses keys with content that text cannot express.

use serde_json::{Map, Value};

use super::Fault;
use super::shape::wrong_kind;
use super::tools;
use foehn_record::{Message, Role, ToolCall};

/// Keys of turns and records whose content has no place in a [`Message`]. Without it, the text would teach something
/// else.
const UNSUPPORTED: [(&str, &str); 15] = [
    ("tool_responses", "what tools answered"),
    ("tool_results", "what tools answered"),
    ("reasoning_details", "reasoning"),
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
    ("input_image", "an image"),
];

/// The keys among them that can be beside a record's conversation. All other keys are metadata, and stay in the clean
/// file.
const OF_RECORD: [&str; 6] = ["image", "images", "audio", "audios", "video", "videos"];

/// The keys of what the model thinks before it answers: `reasoning_content` as DeepSeek, vLLM and templates name it.
const REASONING: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// Who speaks a turn, and in which form.
#[derive(Clone, Copy, PartialEq)]
enum Speaker {
    Is(Role),
    /// The assistant, and the text is a call as JSON.
    Caller,
}

impl Speaker {
    /// The names of OpenAI, ShareGPT, LLaMA-Factory, ms-swift and Llama 3.
    fn named(role: &str) -> Option<Self> {
        Some(match role.trim().to_ascii_lowercase().as_str() {
            "system" | "developer" => Self::Is(Role::System),
            "user" | "human" => Self::Is(Role::User),
            "assistant" | "gpt" | "chatgpt" | "bing" | "bard" | "model" => Self::Is(Role::Assistant),
            "function_call" | "tool_call" => Self::Caller,
            "tool" | "function" | "observation" | "tool_response" | "ipython" => Self::Is(Role::Tool),
            _ => return None,
        })
    }

    fn role(self) -> Role {
        match self {
            Self::Is(role) => role,
            Self::Caller => Role::Assistant,
        }
    }
}

/// Refuses a record whose conversation needs content beside it.
pub(super) fn check_record(object: &Map<String, Value>) -> Result<(), Fault> {
    OF_RECORD.iter().try_for_each(|key| refuse(object.get(*key), key, (*key).to_owned()))
}

/// Reads one `{role, content, weight?, …}` or `{from, value, weight?, …}`. Keys that do not concern the text are left
/// out.
pub(super) fn turn(value: Value, field: &str, message: usize, left_out: &mut Vec<String>) -> Result<Message, Fault> {
    let path = format!("{field}[{message}]");
    let mut turn = match value {
        Value::Object(turn) => turn,
        other => return Err(wrong_kind(&path, "an object", &other)),
    };
    for (key, _) in UNSUPPORTED {
        refuse(turn.get(key), key, format!("{path}.{key}"))?;
    }
    let (role_keys, content_keys) = match field {
        "conversations" => (["from", "role"], ["value", "content"]),
        _ => (["role", "from"], ["content", "value"]),
    };
    let mut either = |[first, second]: [&'static str; 2]| {
        let key = if turn.contains_key(first) || !turn.contains_key(second) { first } else { second };
        (turn.shift_remove(key), format!("{path}.{key}"))
    };
    let missing = |field: &String| Fault::MissingField { field: field.clone() };
    let role = match either(role_keys) {
        (Some(Value::String(role)), _) => role,
        (Some(other), field) => return Err(wrong_kind(&field, "text", &other)),
        (None, field) => return Err(missing(&field)),
    };
    let (content, content_path) = either(content_keys);
    let speaker = Speaker::named(&role).ok_or(Fault::UnknownRole { message, role })?;
    let mut said = Said { calls: tools::calls(&mut turn, &path, left_out)?, ..Said::default() };
    let beside = reasoning(&mut turn, &path)?;
    match content {
        None | Some(Value::Null) if !said.calls.is_empty() => {}
        Some(content) => said.add(content, &content_path)?,
        None => return Err(missing(&content_path)),
    }
    said.reasoning = match (beside, said.reasoning) {
        (Some(_), Some(_)) => return Err(Fault::Unsupported { field: content_path, what: "reasoning a second time" }),
        (beside, within) => beside.or(within),
    };
    if speaker == Speaker::Caller && said.calls.is_empty() {
        said.calls = tools::calls_in_text(&std::mem::take(&mut said.text), &content_path, left_out)?;
    }
    let weight = weight(&mut turn, message)?;
    let mut message = said.message(speaker.role(), &path)?;
    message.weight = weight;
    if message.role == Role::Tool {
        message.tool_call_id = name(&mut turn, "tool_call_id", &path)?;
        message.name = name(&mut turn, "name", &path)?;
    } else {
        let what = "the id of a call in a turn that is no tool's";
        let id = turn.shift_remove("tool_call_id").filter(|value| !is_nothing(value));
        id.map_or(Ok(()), |_| Err(Fault::Unsupported { field: format!("{path}.tool_call_id"), what }))?;
    }
    let rest = turn.iter().filter(|(_, value)| !is_nothing(value)).map(|(key, _)| format!("{field}[].{key}"));
    left_out.extend(rest);
    Ok(message)
}

/// What a turn says.
#[derive(Default)]
struct Said {
    text: String,
    reasoning: Option<String>,
    calls: Vec<ToolCall>,
}

impl Said {
    /// Adds a text, or a list of text parts, which are joined as templates do: with nothing between them.
    fn add(&mut self, content: Value, path: &str) -> Result<(), Fault> {
        let parts = match content {
            Value::String(text) => {
                self.text = text;
                return Ok(());
            }
            Value::Array(parts) if !parts.is_empty() => parts,
            other => return Err(wrong_kind(path, "text", &other)),
        };
        for (at, part) in (1..).zip(parts) {
            let path = format!("{path}[{at}]");
            match part {
                Value::String(part) => self.text.push_str(&part),
                Value::Object(part) => self.add_part(&part, &path)?,
                other => return Err(wrong_kind(&path, "text", &other)),
            }
        }
        Ok(())
    }

    fn add_part(&mut self, part: &Map<String, Value>, path: &str) -> Result<(), Fault> {
        let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
        match kind {
            "text" | "input_text" | "output_text" => self.text.push_str(part_text(part, path)?),
            // As in Mistral's and Anthropic's files. Templates render it before the answer.
            "thinking" if self.text.is_empty() => {
                let field = format!("{path}.thinking");
                let mut thought = Said::default();
                match part.get("thinking") {
                    Some(value) => thought.add(value.clone(), &field)?,
                    None => return Err(Fault::MissingField { field }),
                }
                self.reasoning.get_or_insert_default().push_str(&thought.text);
            }
            _ => {
                let known = UNSUPPORTED.iter().find(|(key, _)| *key == kind);
                let what = match kind {
                    "thinking" => "reasoning after the text",
                    _ => known.map_or("a part that is no text", |(_, what)| what),
                };
                return Err(Fault::Unsupported { field: format!("{path} of the type {kind}"), what });
            }
        }
        Ok(())
    }

    /// The message. Only the assistant calls tools and thinks.
    fn message(self, role: Role, path: &str) -> Result<Message, Fault> {
        let refuse = |what| Err(Fault::Unsupported { field: path.to_owned(), what });
        let reasoning_content = self.reasoning.filter(|reasoning| !reasoning.trim().is_empty());
        match role {
            Role::Assistant => {}
            _ if !self.calls.is_empty() => return refuse("a call of a tool in a turn that is not the assistant's"),
            _ if reasoning_content.is_some() => return refuse("reasoning in a turn that is not the assistant's"),
            _ => {}
        }
        Ok(Message { reasoning_content, tool_calls: self.calls, ..Message::new(role, self.text) })
    }
}

fn part_text<'a>(part: &'a Map<String, Value>, path: &str) -> Result<&'a str, Fault> {
    match part.get("text") {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong_kind(&format!("{path}.text"), "text", other)),
        None => Err(Fault::MissingField { field: format!("{path}.text") }),
    }
}

/// The reasoning beside the text. Some servers give it under two names.
fn reasoning(turn: &mut Map<String, Value>, path: &str) -> Result<Option<String>, Fault> {
    let mut found: Option<String> = None;
    for key in REASONING {
        let field = format!("{path}.{key}");
        match turn.shift_remove(key).filter(|value| !is_nothing(value)) {
            None => {}
            Some(Value::String(text)) if found.as_ref().is_none_or(|found| *found == text) => found = Some(text),
            Some(Value::String(_)) => return Err(Fault::Unsupported { field, what: "reasoning a second time" }),
            Some(other) => return Err(wrong_kind(&field, "text", &other)),
        }
    }
    Ok(found)
}

fn weight(turn: &mut Map<String, Value>, message: usize) -> Result<Option<u8>, Fault> {
    match turn.shift_remove("weight") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64() {
            Some(0.0) => Ok(Some(0)),
            Some(1.0) => Ok(Some(1)),
            _ => Err(Fault::Weight { message, found: value.to_string() }),
        },
    }
}

fn name(turn: &mut Map<String, Value>, key: &str, path: &str) -> Result<Option<String>, Fault> {
    match turn.shift_remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => Ok(Some(name).filter(|name| !name.is_empty())),
        Some(other) => Err(wrong_kind(&format!("{path}.{key}"), "text", &other)),
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
pub(super) fn is_nothing(value: &Value) -> bool {
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
            r#"{"role":"user","content":"a","name":"Ann","id":null,"ts":5}"#,
            "User: a",
            &["messages[].name", "messages[].ts"],
        );
    }

    #[test]
    fn every_name_of_a_speaker_is_known() {
        for (names, role) in [
            (&["system", "developer"][..], Role::System),
            (&["user", "Human"], Role::User),
            (&["assistant", "gpt", "chatgpt", "bing", "bard", "model"], Role::Assistant),
            (&["tool", "function", "observation", "tool_response"], Role::Tool),
        ] {
            for name in names {
                let value = serde_json::json!({"from": name, "value": "a"});
                let message = turn(value, "conversations", 1, &mut Vec::new()).expect("a turn");
                assert_eq!(message, Message::new(role, "a"), "{name}");
            }
        }
    }

    #[test]
    fn reasoning_stands_beside_the_answer() {
        let expected = Message { reasoning_content: Some("r".to_owned()), ..Message::assistant("a") };
        for keys in [
            r#""content":"a","reasoning_content":"r""#,
            r#""content":"a","reasoning":"r","reasoning_content":"r""#,
            r#""content":"a","thinking":"r""#,
            r#""content":[{"type":"thinking","thinking":[{"type":"text","text":"r"}]},{"type":"text","text":"a"}]"#,
            r#""content":[{"type":"thinking","thinking":"r"},"a"]"#,
        ] {
            let json = format!(r#"{{"role":"assistant",{keys}}}"#);
            let value = serde_json::from_str(&json).expect("the test's own JSON");
            assert_eq!(turn(value, "messages", 1, &mut Vec::new()).expect("a turn"), expected, "{json}");
        }
        let no = "which can't be trained on here";
        for (json, what) in [
            (
                r#"{"role":"assistant","content":"a","reasoning":"r","thinking":"s"}"#,
                "the field `messages[2].thinking` holds reasoning a second time",
            ),
            (
                r#"{"role":"assistant","content":["a",{"type":"thinking","thinking":"r"}]}"#,
                "the field `messages[2].content[2] of the type thinking` holds reasoning after the text",
            ),
            (
                r#"{"role":"user","content":"a","reasoning":"r"}"#,
                "the field `messages[2]` holds reasoning in a turn that is not the assistant's",
            ),
        ] {
            check(json, &format!("{what}, {no}"), &[]);
        }
        check(
            r#"{"role":"assistant","content":"a","thinking":true}"#,
            "the field `messages[2].thinking` should be text, found a boolean",
            &[],
        );
    }
}
