//! Reads the lines of a task's file. Errors name the file and the line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use foehn_record::{Message, Role};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Item, Probe};
use crate::{Error, Result};

/// A JSON object of a JSONL file, and its place.
pub struct Entry {
    path: PathBuf,
    line: usize,
    fields: Map<String, Value>,
}

/// The objects of a JSONL file, at least one, and the file's SHA-256.
pub fn entries(path: &Path) -> Result<(Vec<Entry>, String)> {
    let bytes = read(path)?;
    let lines = (1..).zip(bytes.split(|byte| *byte == b'\n'));
    let entry = |(line, text)| {
        let fields = serde_json::from_slice(text);
        let failed = |source| Error::ItemSyntax { path: path.to_owned(), line, source };
        Ok(Entry { path: path.to_owned(), line, fields: fields.map_err(failed)? })
    };
    let found: Vec<Entry> =
        lines.filter(|(_, line)| !line.trim_ascii().is_empty()).map(entry).collect::<Result<_>>()?;
    if found.is_empty() {
        return Err(Error::NoItems { path: path.to_owned() });
    }
    Ok((found, sha256(&bytes)))
}

impl Entry {
    /// Whether the object has a field.
    pub fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// A field, if it is there.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field)
    }

    /// A text or number field, as text.
    pub fn text(&self, field: &str) -> Result<String> {
        match self.fields.get(field) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(other) => Err(self.fault(field, &other.to_string(), "a text")),
            None => Err(self.fault(field, "missing", "a text")),
        }
    }

    /// A field that is a list of texts.
    pub fn texts(&self, field: &str) -> Result<Vec<String>> {
        let found = self.fields.get(field);
        let shown = || found.map_or_else(|| "missing".to_owned(), Value::to_string);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let texts: Option<Vec<String>> =
            found.and_then(Value::as_array).and_then(|list| list.iter().map(text).collect());
        texts.filter(|texts| !texts.is_empty()).ok_or_else(|| self.fault(field, &shown(), "a list of texts"))
    }

    /// A field that is a list of lists of texts.
    pub fn lists_of_texts(&self, field: &str) -> Result<Vec<Vec<String>>> {
        let found = self.fields.get(field);
        let lists = found.cloned().and_then(|value| serde_json::from_value::<Vec<Vec<String>>>(value).ok());
        let lists = lists.filter(|lists| !lists.is_empty() && lists.iter().all(|list| !list.is_empty()));
        let shown = || found.map_or_else(|| "missing".to_owned(), Value::to_string);
        lists.ok_or_else(|| self.fault(field, &shown(), "a list of lists of texts, none of them empty"))
    }

    /// The object's name: its `id`, or else its line.
    pub fn id(&self) -> String {
        match self.fields.get("id") {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => format!("line {}", self.line),
        }
    }

    /// `file:line`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.path.display(), self.line)
    }

    /// An error about a field.
    pub fn fault(&self, field: &str, found: &str, expected: &str) -> Error {
        Error::ItemField {
            place: self.place(),
            field: field.to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
        }
    }

    /// A pattern with its `{field}`s replaced by the object's fields; `label` is the value of `{label}`, `content` the
    /// value of every other field if it is given.
    pub fn filled(&self, pattern: &str, label: &str, content: Option<&str>) -> Result<String> {
        let mut text = String::new();
        let mut rest = pattern;
        while let Some((before, field, after)) = placeholder(rest) {
            text += before;
            text += &match (field, content) {
                ("label", _) => label.to_owned(),
                (_, Some(content)) => content.to_owned(),
                (field, None) => self.text(field)?,
            };
            rest = after;
        }
        Ok(text + rest)
    }

    /// An item with the object's name, group and slice, and no prompts yet.
    pub fn item(&self, slice: Option<&str>) -> Result<Item> {
        let slice = slice.map(|field| self.text(field)).transpose()?;
        let group = if self.has("group") { self.text("group")? } else { self.id() };
        Ok(Item {
            id: self.id(),
            place: self.place(),
            group,
            slice,
            prompts: Vec::new(),
            tools: Vec::new(),
            content_free: Vec::new(),
            reference: String::new(),
            accepted: Vec::new(),
            needs: Vec::new(),
            options: Vec::new(),
            truth: 0,
            probe: Probe::default(),
        })
    }
}

/// The next `{field}` of a pattern, with what stands before and after it. A field's name has letters, digits, `_`, `-`.
pub fn placeholder(pattern: &str) -> Option<(&str, &str, &str)> {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    pattern.match_indices('{').find_map(|(at, _)| {
        let (name, after) = pattern[at + 1..].split_once('}')?;
        is_name(name).then_some((&pattern[..at], name, after))
    })
}

/// A conversation with one message, after the instructions if there are any.
pub fn conversation(system: Option<&str>, question: String) -> Vec<Message> {
    let system = system.map(|text| Message::new(Role::System, text));
    system.into_iter().chain([Message::user(question)]).collect()
}

/// Refuses an id that occurs twice.
pub fn check_ids(items: &[Item]) -> Result<()> {
    let mut seen = BTreeSet::new();
    match items.iter().find(|item| !seen.insert(&item.id)) {
        None => Ok(()),
        Some(item) => Err(Error::ItemField {
            place: item.place.clone(),
            field: "id".to_owned(),
            found: item.id.clone(),
            expected: "an id of its own".to_owned(),
        }),
    }
}

/// A file's bytes, at most as many as a text file may have.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    foehn_files::read(path, foehn_files::MAX_TEXT).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
