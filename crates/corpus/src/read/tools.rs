//! Reads the definitions of tools, and the calls of them.

use serde_json::{Map, Value};

use super::Fault;
use super::shape::{take, wrong_kind};
use super::turn::is_nothing;
use foehn_record::{FunctionCall, ToolCall, ToolKind};

type Result<T> = std::result::Result<T, Fault>;

/// The key of tools as they are today, and the older one, whose elements are bare functions.
const TOOLS: [&str; 2] = ["tools", "functions"];

/// Takes the tools out of an object: a list, or its text as JSON. `path` stands before the key in errors.
pub(super) fn tools(object: &mut Map<String, Value>, path: &str) -> Result<Vec<Value>> {
    let mut found = None;
    for key in TOOLS {
        let Some(value) = object.shift_remove(key).filter(|value| !is_nothing(value)) else { continue };
        let field = format!("{path}{key}");
        if found.is_some() {
            return Err(Fault::Unsupported { field, what: "tools beside those of `tools`" });
        }
        let list = match unpacked(value, &field)? {
            Value::Array(list) => list,
            other => return Err(wrong_kind(&field, "a list of functions", &other)),
        };
        let tools = (1..).zip(list).map(|(at, value)| tool(value, &format!("{field}[{at}]")));
        found = Some(tools.collect::<Result<_>>()?);
    }
    Ok(found.unwrap_or_default())
}

/// One tool as in OpenAI's format. A bare function is wrapped.
fn tool(value: Value, field: &str) -> Result<Value> {
    let mut tool = match value {
        Value::Object(tool) => tool,
        other => return Err(wrong_kind(field, "a function", &other)),
    };
    check_kind(&tool, field)?;
    if let Some(function) = tool.get("function") {
        let Value::Object(function) = function else {
            return Err(wrong_kind(&format!("{field}.function"), "an object", function));
        };
        check_name(function, &format!("{field}.function"))?;
        tool.insert("type".to_owned(), "function".into());
        return Ok(Value::Object(tool));
    }
    check_name(&tool, field)?;
    tool.shift_remove("type");
    let wrapped = [("type".to_owned(), "function".into()), ("function".to_owned(), Value::Object(tool))];
    Ok(Value::Object(wrapped.into_iter().collect()))
}

fn check_name(function: &Map<String, Value>, field: &str) -> Result<()> {
    let field = format!("{field}.name");
    match function.get("name") {
        Some(Value::String(name)) if !name.is_empty() => Ok(()),
        Some(other) => Err(wrong_kind(&field, "the name of a function", other)),
        None => Err(Fault::MissingField { field }),
    }
}

/// Takes the calls out of a turn: `tool_calls`, or `function_call` as in OpenAI's older format.
pub(super) fn calls(turn: &mut Map<String, Value>, path: &str, left_out: &mut Vec<String>) -> Result<Vec<ToolCall>> {
    let mut found = Vec::new();
    if let Some(value) = turn.shift_remove("tool_calls").filter(|value| !is_nothing(value)) {
        let field = format!("{path}.tool_calls");
        match unpacked(value, &field)? {
            Value::Array(list) => {
                for (at, value) in (1..).zip(list) {
                    found.push(call(value, &format!("{field}[{at}]"), left_out)?);
                }
            }
            other => return Err(wrong_kind(&field, "a list of calls", &other)),
        }
    }
    if let Some(value) = turn.shift_remove("function_call").filter(|value| !is_nothing(value)) {
        let field = format!("{path}.function_call");
        if !found.is_empty() {
            return Err(Fault::Unsupported { field, what: "a call beside `tool_calls`" });
        }
        found.push(call(unpacked(value, &field)?, &field, left_out)?);
    }
    Ok(found)
}

/// The calls of a turn whose text is a call, or a list of calls, as in LLaMA-Factory's files:
/// `{"name": …, "arguments": {…}}`.
pub(super) fn calls_in_text(text: &str, path: &str, left_out: &mut Vec<String>) -> Result<Vec<ToolCall>> {
    match parsed(text, path)? {
        Value::Array(list) if !list.is_empty() => {
            (1..).zip(list).map(|(at, value)| call(value, &format!("{path}[{at}]"), left_out)).collect()
        }
        value @ Value::Object(_) => Ok(vec![call(value, path, left_out)?]),
        other => Err(wrong_kind(path, "the text of a call: JSON with a name and arguments", &other)),
    }
}

/// `{id?, type?, function: {name, arguments}}`, or a bare `{name, arguments}`.
fn call(value: Value, path: &str, left_out: &mut Vec<String>) -> Result<ToolCall> {
    let mut call = match value {
        Value::Object(call) => call,
        other => return Err(wrong_kind(path, "a call", &other)),
    };
    check_kind(&call, path)?;
    call.shift_remove("type");
    let id = match call.shift_remove("id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(id).filter(|id| !id.is_empty()),
        Some(other) => return Err(wrong_kind(&format!("{path}.id"), "text", &other)),
    };
    let (mut function, path) = match call.shift_remove("function") {
        Some(Value::Object(function)) => {
            leave_out(&call, path, left_out);
            (function, format!("{path}.function"))
        }
        Some(other) => return Err(wrong_kind(&format!("{path}.function"), "an object", &other)),
        None => (call, path.to_owned()),
    };
    check_name(&function, &path)?;
    let name = match take(&mut function, "name")? {
        Value::String(name) => name,
        other => return Err(wrong_kind(&format!("{path}.name"), "text", &other)),
    };
    let field = format!("{path}.arguments");
    let arguments = function.shift_remove("arguments").ok_or_else(|| Fault::MissingField { field: field.clone() })?;
    let arguments = arguments_text(arguments, &field)?;
    leave_out(&function, &path, left_out);
    Ok(ToolCall { id, kind: ToolKind::Function, function: FunctionCall { name, arguments } })
}

/// The text of a JSON object. A given text is kept as it is.
fn arguments_text(value: Value, field: &str) -> Result<String> {
    let expected = "a JSON object or its text";
    match value {
        Value::String(text) => match parsed(&text, field)? {
            Value::Object(_) => Ok(text),
            other => Err(wrong_kind(field, expected, &other)),
        },
        object @ Value::Object(_) => Ok(object.to_string()),
        other => Err(wrong_kind(field, expected, &other)),
    }
}

/// Only functions can be called.
fn check_kind(object: &Map<String, Value>, path: &str) -> Result<()> {
    match object.get("type") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(kind)) if kind == "function" || kind.is_empty() => Ok(()),
        Some(Value::String(kind)) => {
            Err(Fault::Unsupported { field: format!("{path} of the type {kind}"), what: "a tool that is no function" })
        }
        Some(other) => Err(wrong_kind(&format!("{path}.type"), "text", other)),
    }
}

/// The value of a text of JSON; any other value as it is. Tables have lists as text.
fn unpacked(value: Value, field: &str) -> Result<Value> {
    match value {
        Value::String(text) => parsed(&text, field),
        other => Ok(other),
    }
}

fn parsed(text: &str, field: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|source| Fault::NotJson { field: field.to_owned(), source })
}

/// Lists the keys that are not read, without the positions in lists: `messages[].tool_calls[].index`.
fn leave_out(object: &Map<String, Value>, path: &str, left_out: &mut Vec<String>) {
    let mut anywhere = String::with_capacity(path.len());
    let mut in_list = false;
    for c in path.chars() {
        in_list = (in_list || c == '[') && c != ']';
        if !in_list || c == '[' {
            anywhere.push(c);
        }
    }
    let rest = object.iter().filter(|(_, value)| !is_nothing(value));
    left_out.extend(rest.map(|(key, _)| format!("{anywhere}.{key}")));
}

/// Refuses a record if a number that JSON can't express stood in a call or in a tool: without it, they say something
/// else.
pub(super) fn check_numbers(left_out: &[String]) -> Result<()> {
    let is_inside = |path: &&String| {
        TOOLS.iter().any(|key| path.strip_prefix(key).is_some_and(|rest| rest.starts_with(['[', '.'])))
            || path.contains("].tool_calls[")
            || path.contains("].function_call.")
    };
    match left_out.iter().find(is_inside) {
        Some(field) => Err(Fault::Unsupported { field: field.clone(), what: "a number that JSON does not have" }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape::record;

    /// The record as JSON or its fault, and what was left out.
    fn read(json: &str) -> (String, Vec<String>) {
        let mut left_out = Vec::new();
        let value = super::super::numbers::parse(json, &mut left_out).expect("the test's own JSON");
        let serde_json::Value::Object(object) = value else { panic!("an object") };
        match record(object, &mut left_out) {
            Ok(record) => (serde_json::to_string(&record).expect("a record is JSON"), left_out),
            Err(fault) => (fault.to_string(), left_out),
        }
    }

    /// With a tool, a question and this turn.
    #[track_caller]
    fn check_turn(turn: &str, expected: &str) {
        let ask = r#"{"messages":[{"role":"user","content":"q"},"#;
        let (found, _) = read(&format!("{ask}{turn}]}}"));
        let expected = if expected.starts_with('{') { format!("{ask}{expected}]}}") } else { expected.to_owned() };
        assert_eq!(found, expected, "{turn}");
    }

    #[test]
    fn calls_of_every_form_are_read_alike() {
        let bare = r#"{"role":"assistant","content":"","tool_calls":[{"type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]}"#;
        for turn in [
            bare,
            r#"{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}"#,
            r#"{"role":"assistant","tool_calls":[{"name":"f","arguments":{"a":1}}]}"#,
            r#"{"role":"assistant","content":"","tool_calls":"[{\"name\":\"f\",\"arguments\":{\"a\":1}}]"}"#,
            r#"{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{\"a\":1}"},"tool_calls":null}"#,
            r#"{"from":"function_call","value":"{\"name\": \"f\", \"arguments\": {\"a\": 1}}"}"#,
            r#"{"role":"tool_call","content":"[{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}]"}"#,
        ] {
            check_turn(turn, bare);
        }
        // An id and a text stay, and so do the bytes of arguments that were given as text.
        let whole = r#"{"role":"assistant","content":"So.","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{ \"a\" : 1.0 }"}}]}"#;
        check_turn(whole, whole);
    }

    #[test]
    fn results_keep_the_name_and_the_id_of_their_call() {
        let result = r#"{"role":"tool","content":"2 m","tool_call_id":"c1","name":"f"}"#;
        for turn in [
            result,
            r#"{"role":"function","content":"2 m","tool_call_id":"c1","name":"f"}"#,
            r#"{"from":"observation","value":"2 m","tool_call_id":"c1","name":"f"}"#,
            r#"{"role":"tool","content":[{"type":"text","text":"2 "},{"type":"text","text":"m"}],"tool_call_id":"c1","name":"f"}"#,
        ] {
            check_turn(turn, result);
        }
    }

    #[test]
    fn tools_are_a_list_or_its_text_and_bare_functions_are_wrapped() {
        let function = r#"{"name":"f","parameters":{"type":"object"}}"#;
        let expected = format!(
            r#"{{"messages":[{{"role":"user","content":"q"}}],"tools":[{{"type":"function","function":{function}}}]}}"#
        );
        let wrapped = format!(r#"[{{"type":"function","function":{function}}}]"#);
        let as_text = serde_json::to_string(&wrapped).expect("a text is JSON");
        for tools in [
            format!(r#""tools":{wrapped}"#),
            format!(r#""tools":{as_text}"#),
            format!(r#""tools":[{function}]"#),
            format!(r#""functions":[{function}],"tools":[]"#),
            r#""tools":[{"type":"function","name":"f","parameters":{"type":"object"}}]"#.to_owned(),
        ] {
            let (found, _) = read(&format!(r#"{{{tools},"messages":[{{"role":"user","content":"q"}}]}}"#));
            assert_eq!(found, expected, "{tools}");
        }
    }

    #[test]
    fn what_is_no_call_is_refused_by_name() {
        let call = |arguments: &str| {
            format!(
                r#"{{"role":"assistant","content":"","tool_calls":[{{"function":{{"name":"f","arguments":{arguments}}}}}]}}"#
            )
        };
        let arguments = "the field `messages[2].tool_calls[1].function.arguments`";
        check_turn(
            &call(r#""{""#),
            &format!("{arguments} is not JSON: EOF while parsing an object at line 1 column 1"),
        );
        check_turn(&call(r#""[1]""#), &format!("{arguments} should be a JSON object or its text, found a list"));
        check_turn(&call("7"), &format!("{arguments} should be a JSON object or its text, found a number"));
        check_turn(
            &call(r#"{"x":NaN}"#),
            "the field `messages[].tool_calls[].function.arguments.x` holds a number that JSON does not have, which can't be trained on here",
        );
        for (turn, fault) in [
            (r#"{"from":"function_call","value":"{}"}"#, "the field `messages[2].value.name` is missing"),
            (
                r#"{"from":"function_call","value":"f(1)"}"#,
                "the field `messages[2].value` is not JSON: expected ident at line 1 column 2",
            ),
            (
                r#"{"role":"assistant","content":"","tool_calls":[{"type":"custom","custom":{"name":"f"}}]}"#,
                "the field `messages[2].tool_calls[1] of the type custom` holds a tool that is no function, which can't be trained on here",
            ),
            (
                r#"{"role":"user","content":"","tool_calls":[{"name":"f","arguments":{}}]}"#,
                "the field `messages[2]` holds a call of a tool in a turn that is not the assistant's, which can't be trained on here",
            ),
            (
                r#"{"role":"assistant","content":"a","tool_call_id":"c"}"#,
                "the field `messages[2].tool_call_id` holds the id of a call in a turn that is no tool's, which can't be trained on here",
            ),
        ] {
            check_turn(turn, fault);
        }
        let (fault, _) = read(r#"{"prompt":"q","completion":"a","tools":["hammer"]}"#);
        assert_eq!(fault, "the field `tools[1]` should be a function, found text");
        let (fault, _) = read(r#"{"prompt":"q","completion":"a","tools":[{"name":"f"}],"functions":[{"name":"f"}]}"#);
        assert_eq!(fault, "the field `functions` holds tools beside those of `tools`, which can't be trained on here");
        let (fault, _) = read(r#"{"prompt":"q","completion":"a","tools":[{"name":"f","x":1e999}]}"#);
        assert_eq!(
            fault,
            "the field `tools[].x` holds a number that JSON does not have, which can't be trained on here"
        );
    }

    #[test]
    fn keys_of_calls_that_are_not_read_are_named() {
        let (_, left_out) = read(
            r#"{"messages":[{"role":"assistant","content":"","tool_calls":[{"index":1,"function":{"name":"f","arguments":"{}","parsed":{"x":1}}}]}]}"#,
        );
        assert_eq!(left_out, ["messages[].tool_calls[].index", "messages[].tool_calls[].function.parsed"]);
    }
}
