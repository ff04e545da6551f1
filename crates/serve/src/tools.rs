//! Calls of tools in a model's answer.

use foehn_generate::StopMatcher;
use serde_json::{Value, json};

use crate::random;

/// What stands before a call: Hermes' and Qwen's marker, and Mistral's.
const HERMES: &str = "<tool_call>";
const HERMES_END: &str = "</tool_call>";
const MISTRAL: &str = "[TOOL_CALLS]";
/// The markers within a call of Mistral's newer templates: `[TOOL_CALLS]name[CALL_ID]id[ARGS]{…}`.
const MISTRAL_ID: &str = "[CALL_ID]";
const MISTRAL_ARGUMENTS: &str = "[ARGS]";

/// The texts of control tokens that belong to calls. Others are no part of an answer.
pub(crate) const MARKERS: [&str; 5] = [HERMES, HERMES_END, MISTRAL, MISTRAL_ID, MISTRAL_ARGUMENTS];

/// A call that the model wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub id: String,
    pub name: String,
    /// The text of a JSON object.
    pub arguments: String,
}

impl Call {
    pub fn json(&self) -> Value {
        json!({"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}})
    }
}

/// Separates calls from what is said before them, while the answer comes in.
#[derive(Debug)]
pub(crate) struct Scanner {
    matcher: StopMatcher,
    /// From the first marker on.
    calls: Option<String>,
    /// What the matcher has been given and has not shown.
    held: String,
}

impl Scanner {
    pub fn new() -> Self {
        let markers = [HERMES.to_owned(), MISTRAL.to_owned()];
        Self { matcher: StopMatcher::new(&markers), calls: None, held: String::new() }
    }

    /// Takes a piece of the answer; returns what is certainly not part of a call.
    pub fn push(&mut self, piece: &str) -> String {
        if let Some(calls) = &mut self.calls {
            calls.push_str(piece);
            return String::new();
        }
        let given = std::mem::take(&mut self.held) + piece;
        let (shown, found) = self.matcher.push(piece);
        let rest = given.get(shown.len()..).unwrap_or_default().to_owned();
        if found {
            self.calls = Some(rest);
        } else {
            self.held = rest;
        }
        shown
    }

    /// The end of the answer: the rest of its text, and the calls. Where they can't be read, they are text.
    pub fn finish(&mut self) -> (String, Vec<Call>) {
        let Some(text) = self.calls.take() else { return (std::mem::take(&mut self.held), Vec::new()) };
        let calls = if text.starts_with(HERMES) { hermes(&text) } else { mistral(&text) };
        match calls.filter(|calls| !calls.is_empty()) {
            Some(calls) => (String::new(), calls),
            None => (text, Vec::new()),
        }
    }
}

/// `<tool_call>{"name": …, "arguments": …}</tool_call>`, once or more. The last end may be missing: a stop string.
fn hermes(text: &str) -> Option<Vec<Call>> {
    let parts = text.split(HERMES).skip(1);
    let read = |part: &str| {
        let inner = part.split_once(HERMES_END).map_or(part, |(inner, _)| inner);
        call(&serde_json::from_str(inner.trim()).ok()?)
    };
    parts.map(read).collect()
}

/// `[TOOL_CALLS][{"name": …, "arguments": …, "id": …}, …]`, or `[TOOL_CALLS]name[ARGS]{…}` once or more.
fn mistral(text: &str) -> Option<Vec<Call>> {
    let mut calls = Vec::new();
    for part in text.split(MISTRAL).skip(1) {
        if part.trim_start().starts_with('[') && !part.contains(MISTRAL_ARGUMENTS) {
            let list: Vec<Value> = serde_json::from_str(part.trim()).ok()?;
            for value in &list {
                calls.push(call(value)?);
            }
        } else {
            let (name, arguments) = part.split_once(MISTRAL_ARGUMENTS)?;
            let (name, id) = name.split_once(MISTRAL_ID).map_or((name, None), |(name, id)| (name, Some(id.trim())));
            let arguments: Value = serde_json::from_str(arguments.trim()).ok()?;
            calls.push(call(&json!({"name": name.trim(), "arguments": arguments, "id": id}))?);
        }
    }
    Some(calls)
}

fn call(value: &Value) -> Option<Call> {
    let name = value.get("name")?.as_str().filter(|name| !name.is_empty())?.to_owned();
    let arguments = match value.get("arguments").or_else(|| value.get("parameters")) {
        None => "{}".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(arguments @ Value::Object(_)) => arguments.to_string(),
        Some(_) => return None,
    };
    let id = value.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
    Some(Call { id: id.map_or_else(random::call_id, str::to_owned), name, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text and the calls (name and arguments) of an answer, whichever pieces it comes in.
    #[track_caller]
    fn check(answer: &str, text: &str, calls: &[(&str, &str)]) {
        let letters: Vec<String> = answer.chars().map(String::from).collect();
        for pieces in [vec![answer.to_owned()], letters] {
            let mut scanner = Scanner::new();
            let mut shown: String = pieces.iter().map(|piece| scanner.push(piece)).collect();
            let (rest, found) = scanner.finish();
            shown += &rest;
            let found: Vec<_> = found.iter().map(|call| (call.name.as_str(), call.arguments.as_str())).collect();
            assert_eq!((shown.as_str(), found.as_slice()), (text, calls));
        }
    }

    #[test]
    fn calls_are_taken_out_of_an_answer() {
        check("no call", "no call", &[]);
        check("a < b <tool", "a < b <tool", &[]);
        check(
            "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>\n<tool_call>{\"name\":\"g\"}</tool_call>",
            "Let me see.\n",
            &[("f", r#"{"a":1}"#), ("g", "{}")],
        );
        check(
            r#"[TOOL_CALLS] [{"name": "f", "arguments": {"b": "x"}, "id": "123456789"}, {"name": "g", "arguments": "{}"}]"#,
            "",
            &[("f", r#"{"b":"x"}"#), ("g", "{}")],
        );
        check(
            r#"[TOOL_CALLS]f[ARGS]{"a": [1]}[TOOL_CALLS]g[CALL_ID]abcdefghi[ARGS]{}"#,
            "",
            &[("f", r#"{"a":[1]}"#), ("g", "{}")],
        );
    }

    #[test]
    fn what_is_no_call_stays_text() {
        for text in [
            "<tool_call>{\"name\": 3}</tool_call>",
            "[TOOL_CALLS] [1]",
            "[TOOL_CALLS]",
            "x<tool_call>{",
            "<tool_call>[]",
        ] {
            check(text, text, &[]);
        }
    }
}
