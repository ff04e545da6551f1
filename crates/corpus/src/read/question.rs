//! Objects with a question and an answer under one of their usual names.
//!
//! - `instruction` with `output` or `response`, and optionally `input` or `context`, `system` and `history`: the columns
//!   of Alpaca and Dolly. What stands beside the instruction follows it after a line break, as in LLaMA-Factory's
//!   `data/README.md`.
//! - `question` with `answer` or `response` (GSM8K, OpenOrca), `query` with `answer` or `response` (MetaMathQA),
//!   `prompt` and `response`, `input` and `output`, `inputs` and `targets` (Aya), and optionally `system` or
//!   `system_prompt`.
//!
//! If two pairs fit, or if choices or a context stand beside a question, the object is refused: it is not known what
//! the model should see.

use serde_json::{Map, Value};

use super::Fault;
use super::shape::{optional_text, system, text, wrong_kind};
use super::turn::is_nothing;
use foehn_record::Message;

type Result<T> = std::result::Result<T, Fault>;

/// The keys of a question and of its answer, besides those of Alpaca.
pub(super) const PAIRS: [&[&str]; 8] = [
    &["instruction", "response"],
    &["question", "answer"],
    &["question", "response"],
    &["query", "answer"],
    &["query", "response"],
    &["prompt", "response"],
    &["input", "output"],
    &["inputs", "targets"],
];

/// What may stand beside an instruction.
const INPUTS: [&str; 2] = ["input", "context"];

/// What may stand beside a question, and may be a part of it.
const BESIDE: [&str; 6] = ["context", "passage", "article", "choices", "options", "history"];

/// The pair of keys that the object has, if there is one.
pub(super) fn pair(object: &Map<String, Value>) -> Result<Option<&'static [&'static str]>> {
    let has = |key: &&str| object.get(*key).is_some_and(|value| !is_nothing(value));
    let is_input_of_instruction = |keys: &&&[&str]| keys[0] == "input" && object.contains_key("instruction");
    let mut fitting = PAIRS.iter().filter(|keys| keys.iter().all(&has) && !is_input_of_instruction(keys));
    let Some(first) = fitting.next() else {
        // With an empty question or answer the record is still one, and a pass rejects it.
        return Ok(PAIRS.iter().find(|keys| keys.iter().all(|key| object.contains_key(*key))).copied());
    };
    let mut keys: Vec<&str> = first.iter().chain(fitting.copied().flatten()).copied().collect();
    if keys.len() == 2 {
        return Ok(Some(first));
    }
    keys.sort_unstable();
    keys.dedup();
    Err(Fault::Ambiguous { keys: keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ") })
}

/// The conversation of a question and its answer under these keys.
pub(super) fn conversation(object: &mut Map<String, Value>, question: &str, answer: &str) -> Result<Vec<Message>> {
    let mut messages = prompt_of_system(object)?;
    let mut said = String::new();
    if question == "instruction" {
        messages.extend(history(object)?);
        said = text(object, question)?;
        if let Some(input) = input(object)? {
            if !said.is_empty() {
                said.push('\n');
            }
            said.push_str(&input);
        }
    } else {
        let beside = BESIDE.iter().find(|key| object.get(**key).is_some_and(|value| !is_nothing(value)));
        if let Some(field) = beside {
            return Err(Fault::Beside { field: (*field).to_owned() });
        }
        said.push_str(&text(object, question)?);
    }
    messages.push(Message::user(said));
    messages.push(Message::assistant(text(object, answer)?));
    Ok(messages)
}

/// The system's message: `system`, or `system_prompt` as in OpenOrca.
fn prompt_of_system(object: &mut Map<String, Value>) -> Result<Vec<Message>> {
    let mut messages = system(object)?;
    if let Some(prompt) = optional_text(object, "system_prompt")? {
        if !messages.is_empty() {
            return Err(Fault::Unsupported {
                field: "system_prompt".to_owned(),
                what: "a system prompt beside that of `system`",
            });
        }
        messages.push(Message::system(prompt));
    }
    Ok(messages)
}

/// What follows the instruction.
fn input(object: &mut Map<String, Value>) -> Result<Option<String>> {
    let mut found = None;
    for key in INPUTS {
        let Some(input) = optional_text(object, key)? else { continue };
        if found.is_some() {
            return Err(Fault::Beside { field: key.to_owned() });
        }
        found = Some(input);
    }
    Ok(found)
}

/// The turns before the instruction.
fn history(object: &mut Map<String, Value>) -> Result<Vec<Message>> {
    let expected = "a list of pairs of texts";
    let mut messages = Vec::new();
    match object.shift_remove("history") {
        None | Some(Value::Null) => {}
        Some(Value::Array(rounds)) => {
            for round in rounds {
                let Ok([question, answer]) = serde_json::from_value::<[String; 2]>(round) else {
                    return Err(Fault::WrongKind { field: "history".into(), expected, found: "another list" });
                };
                messages.extend([Message::user(question), Message::assistant(answer)]);
            }
        }
        Some(other) => return Err(wrong_kind("history", expected, &other)),
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::super::shape::tests::check;

    #[test]
    fn pairs_are_known_by_their_keys() {
        let pair = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]"#;
        for (json, metadata) in [
            // Dolly, GSM8K, MetaMathQA, Aya.
            (r#"{"instruction":"q","context":"","response":"a","category":"open_qa"}"#, r#","category":"open_qa"}"#),
            (r#"{"instruction":"q","input":"","response":"a"}"#, "}"),
            (r#"{"question":"q","answer":"a"}"#, "}"),
            (r#"{"query":"q","response":"a","type":"MATH"}"#, r#","type":"MATH"}"#),
            (r#"{"query":"q","answer":"a"}"#, "}"),
            (r#"{"prompt":"q","response":"a","context":null}"#, r#","context":null}"#),
            (r#"{"input":"q","output":"a"}"#, "}"),
            (r#"{"inputs":"q","targets":"a"}"#, "}"),
            // A pair is more than a text that was made of it.
            (r#"{"text":"q a","question":"q","answer":"a"}"#, r#","text":"q a"}"#),
        ] {
            check(json, &format!("{pair}{metadata}"));
        }
        check(
            r#"{"instruction":"i","context":"c","response":"a"}"#,
            r#"{"messages":[{"role":"user","content":"i\nc"},{"role":"assistant","content":"a"}]}"#,
        );
        check(
            r#"{"id":"niv.1","system_prompt":"s","question":"q","response":"a"}"#,
            r#"{"id":"niv.1","messages":[{"role":"system","content":"s"},{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#,
        );
        check(
            r#"{"system_prompt":"","question":"q","response":"a"}"#,
            r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#,
        );
    }

    #[test]
    fn what_is_not_clear_is_refused_with_what_to_do() {
        for (json, fault) in [
            (
                r#"{"question":"q","answer":"a","response":"b"}"#,
                "`answer`, `question`, `response` may each be the question or the answer: map one to the prompt and one to the completion",
            ),
            (
                r#"{"question":"q","answer":"a","context":"c"}"#,
                "the field `context` may belong to the question: map it into the prompt, or remove it",
            ),
            (
                r#"{"question":"q","choices":["a","b"],"answer":"a"}"#,
                "the field `choices` may belong to the question: map it into the prompt, or remove it",
            ),
            (r#"{"question":"q","answer":2}"#, "the field `answer` should be text, found a number"),
            (
                r#"{"context":"c","question":"q","answers":{"text":["a"]}}"#,
                "no messages, conversations, instruction and output, prompt and completion, question and answer, or text among the keys [context, question, answers]: map them to a prompt and a completion",
            ),
            (
                r#"{"instruction":"q","input":"i","context":"c","output":"a"}"#,
                "the field `context` may belong to the question: map it into the prompt, or remove it",
            ),
            (
                r#"{"system":"s","system_prompt":"t","question":"q","answer":"a"}"#,
                "the field `system_prompt` holds a system prompt beside that of `system`, which can't be trained on here",
            ),
        ] {
            check(json, fault);
        }
    }
}
