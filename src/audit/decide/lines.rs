//! Files of JSON lines, in which single records are changed.

use std::collections::BTreeMap;
use std::io::Write;

use foehn_evaluate::LabelRule;
use foehn_record::{Message, Record};
use serde_json::Value;

use super::super::source::Entry;
use super::{AuditError, Source};

/// The places of a record's last answer in the known formats. `#` is the last element of a list.
const ANSWERS: [&str; 11] = [
    "messages.#.content",
    "messages.#.content.#.text",
    "conversations.#.value",
    "output",
    "completion",
    "completion.#.content",
    "chosen",
    "chosen.#.content",
    "preferred_output",
    "preferred_output.#.content",
    "text",
];

/// The bytes of the data with the changed records; `None` if they are no JSON lines. A changed line keeps all of its bytes
/// but those of its answer and its label.
pub(super) fn changed(bytes: &[u8], data: &Source, wanted: &BTreeMap<u64, Record>) -> Option<Vec<u8>> {
    let mut by_line: BTreeMap<u64, &Entry> = data.entries.iter().map(|entry| (entry.line, entry)).collect();
    let mut out = Vec::with_capacity(bytes.len());
    for (number, line) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
        let Some(entry) = by_line.remove(&number) else {
            out.extend_from_slice(line);
            continue;
        };
        // In every other format, some record's line is no object.
        let text = std::str::from_utf8(line).ok()?;
        let (mark, object) = text.strip_prefix('\u{feff}').map_or(("", text), |rest| ("\u{feff}", rest));
        let Ok(Value::Object(_)) = serde_json::from_str(object) else { return None };
        match wanted.get(&number) {
            Some(record) if *record != entry.record => {
                out.extend_from_slice(mark.as_bytes());
                out.extend_from_slice(patched(object, &entry.record, record).as_bytes());
            }
            _ => out.extend_from_slice(line),
        }
    }
    by_line.is_empty().then_some(out)
}

/// A line whose record has another answer or other fields. If they have no place of their own in the line, the record is
/// written in the form of `clean`.
fn patched(line: &str, old: &Record, new: &Record) -> String {
    let end = &line[line.trim_end().len()..];
    let whole = || serde_json::to_string(new).unwrap_or_default() + end;
    let answer =
        |record: &Record| record.messages.last().map_or_else(String::new, |Message { content, .. }| content.clone());
    let mut values = vec![(answer_paths(line), answer(old), answer(new))];
    for (field, value) in new.metadata.iter().filter(|(field, value)| old.metadata.get(*field) != Some(*value)) {
        let said = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        values.push((vec![field.clone()], old.metadata.get(field).map_or_else(String::new, said), said(value)));
    }
    let mut text = line.to_owned();
    for (paths, old, new) in values {
        let place = paths.into_iter().find_map(|path| {
            let place = LabelRule::Json(path).find(&text, &[])?;
            let found: String = serde_json::from_str(&format!("\"{}\"", &text[place.clone()])).ok()?;
            (found == old && text[..place.start].ends_with('"')).then_some(place)
        });
        let Some(place) = place else { return whole() };
        let quoted = Value::from(new).to_string();
        text.replace_range(place, &quoted[1..quoted.len() - 1]);
    }
    text
}

/// [`ANSWERS`] with the positions of the last elements in this line.
fn answer_paths(line: &str) -> Vec<String> {
    let Ok(value) = serde_json::from_str::<Value>(line) else { return Vec::new() };
    let path = |pattern: &&str| {
        let (mut at, mut path) = (&value, Vec::new());
        for key in pattern.split('.') {
            let key = match key {
                "#" => at.as_array()?.len().checked_sub(1)?.to_string(),
                key => key.to_owned(),
            };
            at = match at {
                Value::Array(list) => list.get(key.parse::<usize>().ok()?)?,
                other => other.get(&key)?,
            };
            path.push(key);
        }
        at.is_string().then(|| path.join("."))
    };
    ANSWERS.iter().filter_map(path).collect()
}

/// All records as JSON lines.
pub(super) fn all(data: &Source, wanted: &BTreeMap<u64, Record>) -> Result<Vec<u8>, AuditError> {
    if let Some(line) = data.unreadable.first() {
        return Err(AuditError::WouldBeLost { path: data.path.clone(), line: *line });
    }
    let line = |record: &Record| serde_json::to_string(record).unwrap_or_default() + "\n";
    Ok(wanted.values().map(line).collect::<String>().into_bytes())
}

/// Refuses a text that does not hold the wanted records, each in its place.
pub(super) fn check(
    text: &[u8],
    data: &Source,
    wanted: &BTreeMap<u64, Record>,
    same_lines: bool,
) -> Result<(), AuditError> {
    let failed = |source| AuditError::File { path: std::env::temp_dir(), source };
    let mut file = tempfile::Builder::new().suffix(".jsonl").tempfile().map_err(failed)?;
    file.write_all(text).map_err(failed)?;
    let found = Source::read(file.path())?;
    if same_lines && found.unreadable != data.unreadable {
        return Err(AuditError::NotChanged { line: found.unreadable.first().copied().unwrap_or(1) });
    }
    let mut found = found.entries.into_iter();
    for (line, record) in wanted {
        match found.next() {
            Some(entry) if entry.record == *record && (!same_lines || entry.line == *line) => {}
            _ => return Err(AuditError::NotChanged { line: *line }),
        }
    }
    found.next().map_or(Ok(()), |entry| Err(AuditError::NotChanged { line: entry.line }))
}
