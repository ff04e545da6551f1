//! Reads multiple-choice questions in the JSONL forms of lm-evaluation-harness and its data sets.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::file::CONTENT_FREE;
use super::items::{Entry, check_ids, conversation, entries, read};
use super::{Choice, DataConfig, Item, Judge, Probe, Task};
use crate::{LabelRule, Result};

/// The fields that may hold the question, and the right option.
const QUESTIONS: [&str; 5] = ["query", "question", "ctx", "sentence", "prompt"];
const ANSWERS: [&str; 5] = ["gold", "answer", "label", "answerKey", "target"];
/// The fields that may hold the options.
const OPTIONS: [&str; 3] = ["choices", "endings", "options"];

/// Whether the first object of a JSONL file is a multiple-choice question.
pub fn is_choices(path: &Path) -> Result<bool> {
    let is_jsonl = path.extension().is_some_and(|extension| extension == "jsonl" || extension == "json");
    if !is_jsonl || std::fs::metadata(path).is_ok_and(|about| about.len() > foehn_files::MAX_TEXT) {
        return Ok(false);
    }
    let bytes = read(path)?;
    let first = bytes.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty());
    let first: Option<Value> = first.and_then(|line| serde_json::from_slice(line).ok());
    let has = |names: &[&str]| first.as_ref().is_some_and(|first| names.iter().any(|name| first.get(name).is_some()));
    Ok(has(&OPTIONS) && has(&QUESTIONS) && !has(&["messages", "conversations"]))
}

/// The task of a file of multiple-choice questions.
pub fn task(path: &Path, config: &DataConfig) -> Result<Task> {
    let (entries, hash) = entries(path)?;
    let items = entries.iter().map(|entry| item(entry, config)).collect::<Result<Vec<_>>>()?;
    check_ids(&items)?;
    let choice = Choice { labels: Vec::new(), rule: LabelRule::Whole, scorers: Vec::new() };
    Ok(Task {
        name: "choices".to_owned(),
        judge: Judge::Choice(choice),
        items,
        patterns: Vec::new(),
        max_new_tokens: config.max_new_tokens.unwrap_or(48),
        hashes: BTreeMap::from([(path.display().to_string(), hash)]),
    })
}

fn item(entry: &Entry, config: &DataConfig) -> Result<Item> {
    let field = |names: &[&'static str], what: &str| {
        let found = names.iter().copied().find(|name| entry.has(name));
        found.ok_or_else(|| entry.fault(names[0], "missing", &format!("{what}: one of {names:?}")))
    };
    let question = entry.text(field(&QUESTIONS, "a question")?)?;
    let (options, names) = options(entry, field(&OPTIONS, "the options")?)?;
    let key = field(&ANSWERS, "the right option")?;
    let answer = entry.get(key).map_or(Value::Null, Value::clone);
    let truth = truth(&answer, &options, &names);
    let mut item = entry.item(config.slice.as_deref())?;
    item.truth = truth.ok_or_else(|| {
        entry.fault(key, &answer.to_string(), "the position, the letter, the name or the text of an option")
    })?;
    item.reference.clone_from(&options[item.truth]);
    item.prompts = vec![conversation(config.system.as_deref(), question.clone())];
    item.content_free = vec![conversation(config.system.as_deref(), CONTENT_FREE.to_owned())];
    item.probe = Probe { text: question, runs: true };
    item.options = options;
    Ok(item)
}

/// The options and, in the form of ARC, their names.
fn options(entry: &Entry, field: &str) -> Result<(Vec<String>, Vec<String>)> {
    let texts = |value: &Value| -> Option<Vec<String>> {
        value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let found = entry.get(field);
    let named =
        found.and_then(Value::as_object).and_then(|both| Some((texts(both.get("text")?)?, texts(both.get("label")?)?)));
    let (options, names) = match found.and_then(texts) {
        Some(options) => (options, Vec::new()),
        None => named.unwrap_or_default(),
    };
    let mut distinct = options.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let is_sound = options.len() >= 2 && distinct.len() == options.len() && !distinct[0].trim().is_empty();
    match is_sound && (names.is_empty() || names.len() == options.len()) {
        true => Ok((options, names)),
        false => {
            let shown = found.map_or_else(|| "missing".to_owned(), Value::to_string);
            Err(entry.fault(field, &shown, "two or more different texts, or {\"text\": […], \"label\": […]}"))
        }
    }
}

/// The right option: its position from 0, its name, its letter, or its text.
fn truth(answer: &Value, options: &[String], names: &[String]) -> Option<usize> {
    if let Some(at) = answer.as_u64() {
        return usize::try_from(at).ok().filter(|at| *at < options.len());
    }
    let answer = answer.as_str()?;
    let of = |list: &[String]| list.iter().position(|text| text == answer);
    let letter = || match answer.as_bytes() {
        [letter @ b'A'..=b'Z'] => Some(usize::from(letter - b'A')),
        _ => answer.parse().ok(),
    };
    of(names).or_else(|| of(options)).or_else(|| letter().filter(|at| *at < options.len()))
}
