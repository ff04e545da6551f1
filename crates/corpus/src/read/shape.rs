//! Turns a JSON object of any known dataset format into a [`Record`].
//!
//! - `messages`: a list of `{role, content, weight?, tool_calls?, tool_call_id?, name?, reasoning_content?}`, as in the
//!   files of OpenAI and mistral-finetune. A content may be a list of text parts. `developer` is the newer name of the
//!   system role, `function` and `function_call` are older names of a tool and of a call.
//! - `conversations`: a list of `{from, value}`, as in ShareGPT's and LLaMA-Factory's files. The text of a
//!   `function_call` is JSON with a name and arguments; an `observation` is what the tool says.
//! - `instruction` and `output`, and pairs such as `question` and `answer`; see [`question`](super::question).
//! - `prompt`, `completion`: two texts, or two lists of messages as in TRL's conversational format.
//! - `text`: plain text, which becomes one assistant message.
//!
//! Beside a conversation stand `tools` (or `functions`), a list or its text as JSON, and `system`, a text.
//!
//! A pair of a chosen and a rejected answer is one of:
//! - `chosen`, `rejected`, and optionally `prompt`, as in TRL's files: texts, or lists of messages. Without a prompt,
//!   the two lists begin with the same messages.
//! - `input`, `preferred_output`, `non_preferred_output`, as in OpenAI's files.
//! - any of the above with a text `rejected`, as this crate writes them. Another `rejected` is left out.

use serde_json::{Map, Value};

use super::turn::{check_record, turn};
use super::{Fault, pair, question, tools};
use foehn_record::{Message, Record, Role};

type Result<T> = std::result::Result<T, Fault>;

/// The sets of keys that make an object a record, in order of precedence.
pub(super) const SHAPES: [&[&str]; 7] = [
    &["chosen", "rejected"],
    &["input", "preferred_output", "non_preferred_output"],
    &["messages"],
    &["conversations"],
    &["instruction", "output"],
    &["prompt", "completion"],
    &["text"],
];

/// Whether objects with these keys are records.
pub(super) fn is_known(has: impl Fn(&str) -> bool) -> bool {
    SHAPES.iter().chain(&question::PAIRS).any(|keys| keys.iter().all(|key| has(key)))
}

/// Whether the key is part of the conversation, or is the record's id: without it the object is not a record.
pub(super) fn is_needed(key: &str) -> bool {
    const BESIDE: [&str; 8] = ["system", "system_prompt", "history", "tools", "functions", "context", "id", "group"];
    BESIDE.contains(&key) || SHAPES.iter().chain(&question::PAIRS).any(|keys| keys.contains(&key))
}

/// Reads a record from an object. Keys that do not belong to the conversation become its metadata. Keys of messages
/// that do not concern the text are listed as left out.
pub(super) fn record(mut object: Map<String, Value>, left_out: &mut Vec<String>) -> Result<Record> {
    let has = |key: &str| object.contains_key(key);
    if let Some(fault) = unwanted(&object) {
        return Err(fault);
    }
    // Beside a whole record, `chosen` and `rejected` may be marks or scores.
    let is_answer = |key: &str| object.get(key).is_some_and(|value| value.is_string() || value.is_array());
    let whole = |keys: &&&[&str]| match keys[0] {
        "chosen" => keys.iter().all(|key| is_answer(key)),
        _ => keys.iter().all(|key| has(key)),
    };
    let is_text = |keys: &[&str]| keys == ["text"];
    let shape = SHAPES.iter().find(|keys| !is_text(keys) && whole(keys)).copied();
    let shape = match shape {
        Some(shape) => shape,
        None => match question::pair(&object)? {
            Some(pair) => pair,
            None => SHAPES[2..]
                .iter()
                .find(|keys| keys.iter().any(|key| has(key)))
                .ok_or_else(|| Fault::UnknownShape { keys: keys(&object) })?,
        },
    };
    check_record(&object)?;
    tools::check_numbers(left_out)?;
    let id = name(&mut object, "id")?;
    let group = name(&mut object, "group")?;
    let mut rejected = None;
    let messages = match shape {
        ["chosen", ..] | ["input", "preferred_output", ..] => {
            let (messages, worse) = pair::pair(&mut object, left_out)?;
            rejected = Some(worse);
            messages
        }
        ["messages" | "conversations"] => conversation(&mut object, shape[0], left_out)?,
        ["prompt", "completion"] => completion(&mut object, left_out)?,
        [question, answer] => question::conversation(&mut object, question, answer)?,
        _ => vec![Message::new(Role::Assistant, text(&mut object, "text")?)],
    };
    let tools = tools::tools(&mut object, "")?;
    // In a clean file, `rejected` is an answer: nothing else can stand there.
    match object.shift_remove("rejected") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => rejected = Some(text),
        Some(_) => left_out.push("rejected".to_owned()),
    }
    Ok(Record { id, messages, tools, rejected, metadata: object, group })
}

/// The type of a value, with its article.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The record's id in the object, if it has one; a number is converted to text.
pub(super) fn id(object: &Map<String, Value>) -> Option<String> {
    match object.get("id")? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn name(object: &mut Map<String, Value>, field: &str) -> Result<Option<String>> {
    match object.shift_remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(wrong_kind(field, "text", &other)),
    }
}

/// The fault of a record whose only answer is unwanted, as in TRL's format for KTO.
fn unwanted(object: &Map<String, Value>) -> Option<Fault> {
    let keys = ["prompt", "completion", "label"];
    let is_unwanted =
        object.get("label") == Some(&Value::Bool(false)) && keys.iter().all(|key| object.contains_key(*key));
    let is_kto = is_unwanted && object.keys().all(|key| key == "id" || keys.contains(&key.as_str()));
    is_kto.then(|| Fault::Unsupported { field: "label".to_owned(), what: "an answer that is not wanted" })
}

/// The messages, after the text of `system` beside them. Beside `messages`, another `system` than a text is metadata.
fn conversation(object: &mut Map<String, Value>, field: &str, left_out: &mut Vec<String>) -> Result<Vec<Message>> {
    let is_prompt =
        field == "conversations" || object.get("system").is_none_or(|value| value.is_null() || value.is_string());
    let mut messages = if is_prompt { system(object)? } else { Vec::new() };
    messages.extend(turns(take(object, field)?, field, left_out)?);
    Ok(messages)
}

fn completion(object: &mut Map<String, Value>, left_out: &mut Vec<String>) -> Result<Vec<Message>> {
    let mut messages = system(object)?;
    for (field, role) in [("prompt", Role::User), ("completion", Role::Assistant)] {
        match take(object, field)? {
            Value::String(content) => messages.push(Message::new(role, content)),
            list @ Value::Array(_) => messages.extend(turns(list, field, left_out)?),
            other => return Err(wrong_kind(field, "text", &other)),
        }
    }
    Ok(messages)
}

pub(super) fn system(object: &mut Map<String, Value>) -> Result<Vec<Message>> {
    let content = optional_text(object, "system")?;
    Ok(content.map(|content| Message::new(Role::System, content)).into_iter().collect())
}

pub(super) fn turns(list: Value, field: &str, left_out: &mut Vec<String>) -> Result<Vec<Message>> {
    match list {
        Value::Array(turns) => (1..).zip(turns).map(|(message, value)| turn(value, field, message, left_out)).collect(),
        other => Err(wrong_kind(field, "a list", &other)),
    }
}

pub(super) fn take(object: &mut Map<String, Value>, field: &str) -> Result<Value> {
    object.shift_remove(field).ok_or_else(|| Fault::MissingField { field: field.into() })
}

pub(super) fn text(object: &mut Map<String, Value>, field: &str) -> Result<String> {
    match take(object, field)? {
        Value::String(text) => Ok(text),
        other => Err(wrong_kind(field, "text", &other)),
    }
}

/// An optional text: absent, null and empty all mean that there is none.
pub(super) fn optional_text(object: &mut Map<String, Value>, field: &str) -> Result<Option<String>> {
    match object.shift_remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.trim().is_empty())),
        Some(other) => Err(wrong_kind(field, "text", &other)),
    }
}

pub(super) fn wrong_kind(field: &str, expected: &'static str, found: &Value) -> Fault {
    Fault::WrongKind { field: field.into(), expected, found: kind(found) }
}

fn keys(object: &Map<String, Value>) -> String {
    let keys: Vec<&str> = object.keys().take(12).map(String::as_str).collect();
    format!("[{}]", keys.join(", "))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn read(json: &str) -> Result<Record> {
        record(serde_json::from_str(json).expect("the test's own JSON"), &mut Vec::new())
    }

    /// Compares the record that an object becomes, as JSON, or the fault.
    #[track_caller]
    pub fn check(json: &str, expected: &str) {
        let found = match read(json) {
            Ok(record) => serde_json::to_string(&record).expect("a record is JSON"),
            Err(fault) => fault.to_string(),
        };
        assert_eq!(found, expected, "{json}");
    }

    #[test]
    fn every_format_becomes_messages() {
        let pair = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#;
        for json in [
            pair,
            r#"{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]}"#,
            r#"{"conversations":[{"role":"User","content":"q"},{"role":"assistant","content":"a"}]}"#,
            r#"{"instruction":"q","input":"","output":"a","system":null,"history":[]}"#,
            r#"{"instruction":"","input":"q","output":"a"}"#,
            r#"{"prompt":"q","completion":"a"}"#,
            r#"{"prompt":[{"role":"user","content":"q"}],"completion":[{"role":"assistant","content":"a"}]}"#,
        ] {
            check(json, pair);
        }
        check(
            r#"{"instruction":"i","input":"x","output":"a","system":"s","history":[["q0","a0"]]}"#,
            r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"q0"},{"role":"assistant","content":"a0"},{"role":"user","content":"i\nx"},{"role":"assistant","content":"a"}]}"#,
        );
        check(r#"{"text":"once"}"#, r#"{"messages":[{"role":"assistant","content":"once"}]}"#);
    }

    #[test]
    fn metadata_keeps_its_order_and_the_group_comes_last() {
        check(
            r#"{"z":1,"group":"g","prompt":"q","a":{"k":0.1},"completion":"a","id":7,"m":null}"#,
            r#"{"id":"7","messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"z":1,"a":{"k":0.1},"m":null,"group":"g"}"#,
        );
    }

    #[test]
    fn what_is_called_rejected_and_is_no_answer_is_left_out() {
        for mark in ["false", "0.3", "{}"] {
            let object = format!(r#"{{"prompt":"q","completion":"a","chosen":true,"rejected":{mark}}}"#);
            let mut left_out = Vec::new();
            let found = record(serde_json::from_str(&object).expect("the test's own JSON"), &mut left_out);
            let found = found.expect("a record");
            assert!(found.rejected.is_none() && found.metadata["chosen"] == true, "{object}");
            assert_eq!(left_out, ["rejected"]);
            let written = serde_json::to_string(&found).expect("a record is JSON");
            assert_eq!(serde_json::from_str::<Record>(&written).expect("is read back"), found);
        }
    }

    #[test]
    fn weights_are_0_or_1() {
        for (weight, kept) in [("0", Some(0)), ("1.0", Some(1)), ("null", None)] {
            let json = format!(r#"{{"messages":[{{"role":"assistant","content":"a","weight":{weight}}}]}}"#);
            assert_eq!(read(&json).expect("readable").messages[0].weight, kept);
        }
    }

    #[test]
    fn faults_say_where_and_what() {
        for (json, fault) in [
            (
                r#"{"question":"q"}"#,
                "no messages, conversations, instruction and output, prompt and completion, question and answer, or text among the keys [question]: map them to a prompt and a completion",
            ),
            (r#"{"prompt":"q"}"#, "the field `completion` is missing"),
            (r#"{"messages":"q"}"#, "the field `messages` should be a list, found text"),
            (r#"{"messages":[7]}"#, "the field `messages[1]` should be an object, found a number"),
            (r#"{"messages":[{"role":"user"}]}"#, "the field `messages[1].content` is missing"),
            (r#"{"messages":[{"role":"narrator","content":""}]}"#, "message 1 has the unknown role `narrator`"),
            (
                r#"{"messages":[{"role":"user","content":null}]}"#,
                "the field `messages[1].content` should be text, found null",
            ),
            (
                r#"{"messages":[{"role":"user","content":"","weight":2}]}"#,
                "message 1 has the weight 2, expected 0 or 1",
            ),
            (
                r#"{"instruction":"i","output":"o","history":[["q"]]}"#,
                "the field `history` should be a list of pairs of texts, found another list",
            ),
            (
                r#"{"prompt":"p","completion":"c","label":false,"id":"7"}"#,
                "the field `label` holds an answer that is not wanted, which can't be trained on here",
            ),
            (r#"{"messages":[],"tools":[{"type":"function"}]}"#, "the field `tools[1].name` is missing"),
            (r#"{"text":"t","id":[]}"#, "the field `id` should be text, found a list"),
        ] {
            check(json, fault);
        }
    }
}
