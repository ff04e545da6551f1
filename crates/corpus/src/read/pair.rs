//! Reads a chosen and a rejected answer to one prompt.

use serde_json::{Map, Value};

use super::Fault;
use super::shape::{take, turns, wrong_kind};
use super::tools;
use foehn_record::{Message, Role};

type Result<T> = std::result::Result<T, Fault>;

/// The conversation that ends with the chosen answer, and the rejected answer.
pub(super) fn pair(object: &mut Map<String, Value>, left_out: &mut Vec<String>) -> Result<(Vec<Message>, String)> {
    if object.contains_key("chosen") {
        return trl(object, left_out);
    }
    let mut input = match take(object, "input")? {
        Value::Object(input) => input,
        other => return Err(wrong_kind("input", "an object", &other)),
    };
    let prompt = turns(take(&mut input, "messages")?, "input.messages", left_out)?;
    // In OpenAI's files, they stand beside the messages of the prompt.
    if let tools @ [_, ..] = tools::tools(&mut input, "input.")?.as_slice() {
        object.insert("tools".to_owned(), tools.into());
    }
    for key in input.keys() {
        left_out.push(format!("input.{key}"));
    }
    let [chosen, rejected] = ["preferred_output", "non_preferred_output"];
    let chosen = answer(turns(take(object, chosen)?, chosen, left_out)?, chosen)?;
    let worse = answer(turns(take(object, rejected)?, rejected, left_out)?, rejected)?;
    Ok((prompt.into_iter().chain([chosen]).collect(), text_of(worse, rejected)?))
}

/// A text, or messages.
enum Said {
    Text(String),
    Turns(Vec<Message>),
}

fn trl(object: &mut Map<String, Value>, left_out: &mut Vec<String>) -> Result<(Vec<Message>, String)> {
    let has_prompt = object.get("prompt").is_some_and(|prompt| !prompt.is_null());
    let mut said = |field: &str| match take(object, field)? {
        Value::String(text) => Ok(Said::Text(text)),
        list @ Value::Array(_) => Ok(Said::Turns(turns(list, field, left_out)?)),
        other => Err(wrong_kind(field, "text or a list", &other)),
    };
    let (chosen, rejected) = (said("chosen")?, said("rejected")?);
    let prompt = has_prompt.then(|| said("prompt")).transpose()?;
    // Some sets have the chosen conversation a second time.
    if object.get("messages").is_some_and(Value::is_array) {
        object.shift_remove("messages");
        left_out.push("messages".to_owned());
    }
    let (chosen, rejected) = match (chosen, rejected) {
        (Said::Turns(chosen), Said::Turns(rejected)) => (chosen, rejected),
        (Said::Text(chosen), Said::Text(rejected)) => {
            // Where the answer begins in a text without a prompt is not known.
            let prompt = prompt.ok_or_else(|| Fault::MissingField { field: "prompt".into() })?;
            let mut messages = of_prompt(prompt);
            messages.push(Message::assistant(chosen));
            return Ok((messages, rejected));
        }
        (Said::Text(_), Said::Turns(_)) => return Err(of_another_kind("text, as `chosen`", "a list")),
        (Said::Turns(_), Said::Text(_)) => return Err(of_another_kind("a list, as `chosen`", "text")),
    };
    let shared = chosen.iter().zip(&rejected).take_while(|(chosen, rejected)| chosen == rejected).count();
    // Two answers can be the same; cleaning rejects such a pair.
    let shared = shared.min(chosen.len().min(rejected.len()).saturating_sub(1));
    let begins = |messages: &[Message]| chosen.get(..messages.len()).is_some_and(|first| first == messages);
    let mut messages = match prompt.map(of_prompt) {
        // The prompt stands in the lists too.
        None => Vec::new(),
        Some(prompt) if begins(&prompt) && shared >= prompt.len() => Vec::new(),
        Some(prompt) if chosen.first().is_some_and(|first| first.role == Role::Assistant) => prompt,
        Some(_) => return Err(of_another_kind("answers to `prompt`", "another conversation")),
    };
    messages.extend_from_slice(&chosen[..shared]);
    let chosen = answer(chosen[shared..].to_vec(), "chosen")?;
    let rejected = answer(rejected[shared..].to_vec(), "rejected")?;
    messages.push(chosen);
    Ok((messages, text_of(rejected, "rejected")?))
}

/// The text of the rejected answer, which has no place for more.
fn text_of(rejected: Message, field: &str) -> Result<String> {
    let what = match rejected {
        Message { tool_calls, .. } if !tool_calls.is_empty() => "a call of a tool",
        Message { reasoning_content: Some(_), .. } => "reasoning",
        Message { content, .. } => return Ok(content),
    };
    Err(Fault::Unsupported { field: field.to_owned(), what })
}

fn of_another_kind(expected: &'static str, found: &'static str) -> Fault {
    Fault::WrongKind { field: "rejected".into(), expected, found }
}

fn of_prompt(said: Said) -> Vec<Message> {
    match said {
        Said::Text(text) => vec![Message::user(text)],
        Said::Turns(turns) => turns,
    }
}

/// The only message of what is left after the prompt.
fn answer(mut messages: Vec<Message>, field: &str) -> Result<Message> {
    match messages.pop() {
        Some(answer) if messages.is_empty() && answer.role == Role::Assistant => Ok(answer),
        _ => Err(Fault::Unsupported {
            field: field.to_owned(),
            what: "something else than one answer to the same conversation",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape::tests::check;

    #[test]
    fn every_format_becomes_a_conversation_and_another_answer() {
        let pair = r#"{"id":"1","messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"rejected":"b","score":2}"#;
        let [user, a, b] = [
            r#"{"role":"user","content":"q"}"#,
            r#"{"role":"assistant","content":"a"}"#,
            r#"{"role":"assistant","content":"b"}"#,
        ];
        for keys in [
            r#""prompt":"q","chosen":"a","rejected":"b""#.to_owned(),
            format!(r#""prompt":[{user}],"chosen":[{a}],"rejected":[{b}]"#),
            format!(r#""prompt":"q","chosen":[{a}],"rejected":[{b}]"#),
            format!(r#""chosen":[{user},{a}],"rejected":[{user},{b}]"#),
            // As in ultrafeedback_binarized.
            format!(r#""prompt":"q","chosen":[{user},{a}],"rejected":[{user},{b}],"messages":[{user},{a}]"#),
            format!(
                r#""input":{{"messages":[{user}],"tools":[]}},"preferred_output":[{a}],"non_preferred_output":[{b}]"#
            ),
            format!(r#""messages":[{user},{a}],"rejected":"b""#),
        ] {
            check(&format!(r#"{{"id":1,{keys},"score":2}}"#), pair);
        }
        // The whole conversation is the prompt.
        check(
            &format!(r#"{{"chosen":[{user},{a},{user},{a}],"rejected":[{user},{a},{user},{b}]}}"#),
            &format!(r#"{{"messages":[{user},{a},{user},{a}],"rejected":"b"}}"#),
        );
        check(
            &format!(r#"{{"chosen":[{user},{a}],"rejected":[{user},{a}]}}"#),
            &format!(r#"{{"messages":[{user},{a}],"rejected":"a"}}"#),
        );
    }

    #[test]
    fn what_is_no_pair_is_named() {
        let no = "something else than one answer to the same conversation, which can't be trained on here";
        for (json, fault) in [
            (r#"{"chosen":"a","rejected":"b"}"#, "the field `prompt` is missing".to_owned()),
            (
                r#"{"prompt":"q","chosen":"a","rejected":[]}"#,
                "the field `rejected` should be text, as `chosen`, found a list".to_owned(),
            ),
            (
                r#"{"prompt":"q","chosen":[],"rejected":[]}"#,
                "the field `rejected` should be answers to `prompt`, found another conversation".to_owned(),
            ),
            (
                r#"{"prompt":"other","chosen":[{"role":"user","content":"q"}],"rejected":[{"role":"user","content":"q"}]}"#,
                "the field `rejected` should be answers to `prompt`, found another conversation".to_owned(),
            ),
            (
                r#"{"chosen":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"rejected":[{"role":"user","content":"p"},{"role":"assistant","content":"b"}]}"#,
                format!("the field `chosen` holds {no}"),
            ),
            (
                r#"{"input":{"messages":[{"role":"user","content":"q"}],"tools":[{}]},"preferred_output":[],"non_preferred_output":[]}"#,
                "the field `input.tools[1].name` is missing".to_owned(),
            ),
            (
                r#"{"prompt":"q","chosen":[{"role":"assistant","content":"a"}],"rejected":[{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}}]}"#,
                "the field `rejected` holds a call of a tool, which can't be trained on here".to_owned(),
            ),
            (
                r#"{"prompt":"q","chosen":[{"role":"assistant","content":"a"}],"rejected":[{"role":"assistant","content":"b","thinking":"c"}]}"#,
                "the field `rejected` holds reasoning, which can't be trained on here".to_owned(),
            ),
        ] {
            check(json, &fault);
        }
    }
}
