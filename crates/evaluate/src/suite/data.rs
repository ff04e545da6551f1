//! Makes tasks from records that hold the right answers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use foehn_record::{Message, Record, Role};
use serde_json::Value;

use super::file::CONTENT_FREE;
use super::items::{check_ids, read, sha256};
use super::{Choice, Item, Judge, Probe, Scorer, Suite, Task, choices};
use crate::{Error, LabelRule, Result};

/// The most labels that a set of answers may have to be judged as labels without being told so, and their most
/// characters and words.
const MAX_LABELS: usize = 50;
const MAX_CHARS: usize = 40;
const MAX_WORDS: usize = 5;

/// How the answers of records are judged.
///
/// What is not given is inferred. Records with a text `task` make a task for each of its values. Answers are judged by
/// their **label** if a field `label` says it and the answers have it; or else if the whole answers, their first lines,
/// or one field of JSON answers are few (on average two records for each, at most 50) and short. An answer that is more
/// than its label is judged as a text too; answers without labels are judged as texts alone. Plain texts make a task of
/// their own: the likelihood of a token is measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataConfig {
    /// Where an answer has its label.
    pub rule: Option<LabelRule>,
    /// The labels; another one is an error. If empty, the labels are those of the records.
    pub labels: Vec<String>,
    /// The metadata field whose values are reported apart.
    pub slice: Option<String>,
    /// The instructions of conversations that have none.
    pub system: Option<String>,
    /// How texts are compared; if empty, what suits the answers.
    pub scorers: Vec<Scorer>,
    /// Answers have no labels.
    pub is_text: bool,
    /// The longest answer, in tokens; if not given, somewhat more than the longest answer of the records.
    pub max_new_tokens: Option<usize>,
}

/// A record and where it stands.
struct Placed<'a> {
    place: String,
    record: &'a Record,
}

/// The suite of a file: one task, or one for each value of the records' `task`.
pub fn from_file(path: &Path, config: &DataConfig) -> Result<Suite> {
    let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    if config.rule.is_none() && !config.is_text && choices::is_choices(path)? {
        return Ok(Suite { name, tasks: vec![choices::task(path, config)?] });
    }
    let records = placed(path)?;
    let records: Vec<Placed<'_>> =
        records.iter().map(|(place, record)| Placed { place: place.clone(), record }).collect();
    let mut suite = suite(&name, &records, config)?;
    let hash = sha256(&read(path)?);
    for task in &mut suite.tasks {
        task.hashes.insert(path.display().to_string(), hash.clone());
    }
    Ok(suite)
}

/// The suite of records in memory.
pub fn from_records(name: &str, records: &[Record], config: &DataConfig) -> Result<Suite> {
    let placed = records.iter().enumerate();
    let placed: Vec<Placed<'_>> =
        placed.map(|(at, record)| Placed { place: format!("{name}:{}", at + 1), record }).collect();
    suite(name, &placed, config)
}

/// The one task of a file, which a suite's block names.
pub fn task_of_file(path: &Path, config: &DataConfig) -> Result<Task> {
    let records = placed(path)?;
    let records: Vec<Placed<'_>> =
        records.iter().map(|(place, record)| Placed { place: place.clone(), record }).collect();
    task("", &records, config)
}

fn placed(path: &Path) -> Result<Vec<(String, Record)>> {
    let mut records = Vec::new();
    for line in foehn_corpus::read(path)? {
        let line = line?;
        let at = line.place.line;
        let record = line.record.map_err(|unreadable| foehn_corpus::Error::Line {
            path: path.to_owned(),
            line: at,
            source: unreadable.fault,
        })?;
        records.push((format!("{}:{at}", path.display()), record));
    }
    Ok(records)
}

fn suite(name: &str, records: &[Placed<'_>], config: &DataConfig) -> Result<Suite> {
    if records.is_empty() {
        return Err(Error::NoItems { path: name.into() });
    }
    let mut by_task: BTreeMap<&str, Vec<Placed<'_>>> = BTreeMap::new();
    let tasks: Option<Vec<&str>> = records.iter().map(|placed| placed.record.text("task")).collect();
    for (at, placed) in records.iter().enumerate() {
        let key = match &tasks {
            Some(tasks) => tasks[at],
            None if placed.record.plain_text().is_some() => "text",
            None => "answers",
        };
        by_task.entry(key).or_default().push(Placed { place: placed.place.clone(), record: placed.record });
    }
    let tasks = by_task.iter().map(|(name, records)| task(name, records, config)).collect::<Result<_>>()?;
    Ok(Suite { name: name.to_owned(), tasks })
}

fn task(name: &str, records: &[Placed<'_>], config: &DataConfig) -> Result<Task> {
    let mut items = records.iter().map(|placed| item(placed, config)).collect::<Result<Vec<_>>>()?;
    check_ids(&items)?;
    if let Some(text) = items.iter().find(|item| item.prompts.is_empty()) {
        return texts(name, text.clone(), items, config);
    }
    let longest = items.iter().map(|item| item.reference.chars().count()).max().unwrap_or(0);
    let max_new_tokens = config.max_new_tokens.unwrap_or((longest / 2 + 16).clamp(32, 512));
    let scorers = || if config.scorers.is_empty() { scorers(&items) } else { config.scorers.clone() };
    let judge = match choice(records, &items, config)? {
        None => Judge::Text(scorers()),
        Some(choice) if choice.rule == LabelRule::Whole => Judge::Choice(choice),
        Some(choice) => Judge::Choice(Choice { scorers: scorers(), ..choice }),
    };
    if let Judge::Choice(choice) = &judge {
        for (item, placed) in items.iter_mut().zip(records) {
            let label = label(&choice.rule, placed)?;
            let found = choice.labels.iter().position(|other| *other == label);
            item.truth =
                found.ok_or_else(|| field_error(item, "label", &label, &format!("one of {:?}", choice.labels)))?;
            item.content_free = item.prompts.iter().map(|prompt| content_free(prompt)).collect();
        }
    }
    let (name, patterns, hashes) = (name.to_owned(), Vec::new(), BTreeMap::new());
    Ok(Task { name, judge, items, patterns, max_new_tokens, hashes })
}

/// A task of plain texts: the likelihood of their tokens is measured.
fn texts(name: &str, text: Item, items: Vec<Item>, config: &DataConfig) -> Result<Task> {
    let refused = |found: &str, expected: &str| Err(field_error(&text, "messages", found, expected));
    if items.iter().any(|item| !item.prompts.is_empty()) {
        return refused("plain text among conversations", "a `task` of its own for plain text");
    }
    if config.rule.is_some() || !config.labels.is_empty() || !config.scorers.is_empty() {
        return refused("plain text", "answers, whose labels or texts are to be compared");
    }
    let (name, patterns, hashes) = (name.to_owned(), Vec::new(), BTreeMap::new());
    Ok(Task { name, judge: Judge::Likelihood, items, patterns, max_new_tokens: 0, hashes })
}

/// The question of a record is all before its last answer. Plain text has no question. Earlier answers are part of the question.
fn item(placed: &Placed<'_>, config: &DataConfig) -> Result<Item> {
    let Placed { place, record } = placed;
    let fault = |found: &str, expected: &str| Error::ItemField {
        place: place.clone(),
        field: "messages".to_owned(),
        found: found.to_owned(),
        expected: expected.to_owned(),
    };
    let Some((last @ Message { role: Role::Assistant, content, .. }, before)) = record.messages.split_last() else {
        return Err(fault("without an answer at its end", "an answer of the assistant at the end"));
    };
    if !last.tool_calls.is_empty() || last.reasoning_content.is_some() {
        return Err(fault("with calls of tools or reasoning in its last answer", "a last answer of text only"));
    }
    let is_text = record.plain_text().is_some();
    if (before.is_empty() && !is_text) || content.trim().is_empty() {
        return Err(fault("a question or an answer without text", "a question and its answer"));
    }
    let has_system = before.iter().any(|message| message.role == Role::System);
    let system = config.system.as_deref().filter(|_| !has_system).map(|text| Message::new(Role::System, text));
    // Only the last answer is measured.
    let before = before.iter().map(|message| Message { weight: weight_of(message), ..message.clone() });
    let id = record.id.clone().unwrap_or_else(|| place.clone());
    let slice = config.slice.as_deref().map(|field| {
        let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        record.metadata.get(field).map_or_else(|| "(none)".to_owned(), shown)
    });
    Ok(Item {
        group: record.group.clone().unwrap_or_else(|| id.clone()),
        id,
        place: place.clone(),
        slice,
        probe: if is_text { Probe { text: content.clone(), runs: false } } else { Probe::default() },
        tools: record.tools.clone(),
        prompts: if is_text { Vec::new() } else { vec![system.into_iter().chain(before).collect()] },
        content_free: Vec::new(),
        reference: content.clone(),
        accepted: Vec::new(),
        needs: Vec::new(),
        options: Vec::new(),
        truth: 0,
    })
}

fn weight_of(message: &Message) -> Option<u8> {
    if message.role == Role::Assistant { Some(0) } else { message.weight }
}

/// The conversation with its last message replaced.
fn content_free(prompt: &[Message]) -> Vec<Message> {
    let mut prompt = prompt.to_vec();
    if let Some(last) = prompt.last_mut() {
        last.content = CONTENT_FREE.to_owned();
    }
    prompt
}

/// The labels of answers, if they have labels.
fn choice(records: &[Placed<'_>], items: &[Item], config: &DataConfig) -> Result<Option<Choice>> {
    if config.is_text {
        return Ok(None);
    }
    let scorers = Vec::new();
    if config.rule.is_some() || !config.labels.is_empty() {
        let rule = config.rule.clone().unwrap_or(LabelRule::Whole);
        let labels = match config.labels.is_empty() {
            true => labels_by(&rule, records, items)?,
            false => config.labels.clone(),
        };
        return Ok(Some(Choice { labels, rule, scorers }));
    }
    let rule = candidates(records, items).into_iter().find(|rule| {
        let labels = records.iter().map(|placed| label(rule, placed));
        labels.collect::<Result<Vec<_>>>().is_ok_and(|labels| is_closed(&labels))
    });
    let Some(rule) = rule else { return Ok(None) };
    let labels = labels_by(&rule, records, items)?;
    Ok(Some(Choice { labels, rule, scorers }))
}

/// The rules that the answers may follow, the surest first.
fn candidates(records: &[Placed<'_>], items: &[Item]) -> Vec<LabelRule> {
    let mut rules = Vec::new();
    let keys: Vec<String> = match serde_json::from_str(&items[0].reference) {
        Ok(Value::Object(fields)) => fields.keys().filter(|key| !key.contains('.')).cloned().collect(),
        _ => Vec::new(),
    };
    // A JSON value is no label.
    let places: Vec<LabelRule> = match keys.is_empty() {
        true => vec![LabelRule::Whole, LabelRule::FirstLine],
        false => keys.into_iter().map(LabelRule::Json).collect(),
    };
    let said: Option<Vec<&str>> = records.iter().map(|placed| placed.record.text("label")).collect();
    if let Some(said) = said {
        let says = |rule: &LabelRule| {
            items.iter().zip(&said).all(|(item, said)| rule.label(&item.reference).is_some_and(|label| label == *said))
        };
        rules.extend(places.iter().filter(|rule| says(rule)).cloned());
        let field = LabelRule::Field("label".to_owned());
        let stands = |(item, said): (&Item, &&str)| field.find(&item.reference, &[(*said).to_owned()]).is_some();
        if rules.is_empty() && items.iter().zip(&said).all(stands) {
            rules.push(field);
        }
    }
    rules.extend(places);
    rules
}

/// Whether texts are few and short enough to be labels.
fn is_closed(labels: &[String]) -> bool {
    let distinct: BTreeSet<&String> = labels.iter().collect();
    let is_short = |label: &&String| {
        !label.contains('\n') && label.chars().count() <= MAX_CHARS && label.split_whitespace().count() <= MAX_WORDS
    };
    let is_few = (2..=MAX_LABELS).contains(&distinct.len()) && labels.len() >= 2 * distinct.len();
    // The same answer to everything is a set of labels too, and one that is refused.
    (is_few || (distinct.len() == 1 && labels.len() > 1)) && distinct.iter().all(is_short)
}

/// All labels that a rule gives, sorted.
fn labels_by(rule: &LabelRule, records: &[Placed<'_>], items: &[Item]) -> Result<Vec<String>> {
    let labels = records.iter().map(|placed| label(rule, placed));
    let distinct: BTreeSet<String> = labels.collect::<Result<_>>()?;
    match distinct.iter().next() {
        Some(only) if distinct.len() == 1 => {
            Err(Error::OneLabel { place: items[0].place.clone(), label: only.clone() })
        }
        _ => Ok(distinct.into_iter().collect()),
    }
}

/// The label of a record's answer.
fn label(rule: &LabelRule, placed: &Placed<'_>) -> Result<String> {
    let missing = || Error::NoLabel { place: placed.place.clone(), rule: rule.to_string() };
    rule.of_record(placed.record).ok_or_else(missing)
}

/// Refuses an item whose answer does not have its label where the rule says.
pub fn check_label(choice: &Choice, item: &Item) -> Result<()> {
    let label = &choice.labels[item.truth];
    let options = std::slice::from_ref(label);
    let place = choice.rule.find(&item.reference, options);
    match place.is_some_and(|place| choice.rule.read(&item.reference, place) == *label) {
        true => Ok(()),
        false => Err(Error::NoLabel { place: item.place.clone(), rule: choice.rule.to_string() }),
    }
}

/// How texts like these are compared.
pub fn scorers(items: &[Item]) -> Vec<Scorer> {
    let is_json = |item: &Item| {
        let value: Option<Value> = serde_json::from_str(&item.reference).ok();
        value.is_some_and(|value| value.is_object() || value.is_array())
    };
    match items.iter().all(is_json) {
        true => vec![Scorer::Likelihood, Scorer::Exact, Scorer::Json],
        false => vec![Scorer::Likelihood, Scorer::Exact, Scorer::Normalised, Scorer::Chrf],
    }
}

fn field_error(item: &Item, field: &str, found: &str, expected: &str) -> Error {
    Error::ItemField {
        place: item.place.clone(),
        field: field.to_owned(),
        found: found.to_owned(),
        expected: expected.to_owned(),
    }
}
