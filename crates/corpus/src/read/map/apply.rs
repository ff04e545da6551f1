//! Applies a [`FieldMap`] to the objects of one file.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value};

use super::super::Fault;
use super::super::names::simple;
use super::super::shape::{SHAPES, is_known, is_needed};
use super::{FieldMap, Piece, Source};

/// A map, and which of its columns the file has.
pub(in super::super) struct Mapping {
    map: FieldMap,
    columns: Vec<Column>,
    /// The keys of the first object.
    keys: OnceLock<String>,
}

struct Column {
    name: String,
    is_seen: AtomicBool,
}

impl Mapping {
    pub fn new(map: FieldMap) -> Self {
        let columns = map.columns().into_iter().map(|name| Column { name: name.to_owned(), is_seen: false.into() });
        Self { columns: columns.collect(), map, keys: OnceLock::new() }
    }

    /// The first mapped column that is not among those of a table.
    pub fn missing_in(&self, columns: &[String]) -> Option<&str> {
        let is_there = |name: &str| columns.iter().any(|column| is_part(column, name));
        self.columns.iter().map(|column| column.name.as_str()).find(|name| !is_there(name))
    }

    /// The first mapped column that no object had, and the keys of the first object.
    pub fn missing(&self) -> Option<(&str, &str)> {
        let keys = self.keys.get()?;
        let missing = self.columns.iter().find(|column| !column.is_seen.load(Ordering::Relaxed))?;
        Some((&missing.name, keys))
    }

    /// Whether a field is made from this column of a table.
    pub fn uses(&self, column: &str) -> bool {
        self.columns.iter().any(|mapped| is_part(column, &mapped.name))
    }

    /// Whether a record can't be made without this column of a table.
    pub fn needs(&self, column: &str) -> bool {
        self.uses(column) || is_needed(&simple(column))
    }

    /// Whether the column becomes a message as it is, so that an empty cell is an empty message.
    pub fn is_message(&self, column: &str) -> bool {
        let is_this = |source: &Source| matches!(source, Source::Column(name) if is_same(column, name));
        self.map.entries.iter().any(|(field, source)| is_text(field) && is_this(source))
    }

    /// Whether objects with these columns become records.
    pub fn makes_known(&self, columns: &[String]) -> bool {
        let has = |key: &str| self.has(key) || columns.iter().any(|column| simple(column) == key);
        self.missing_in(columns).is_none() && is_known(has)
    }

    fn has(&self, field: &str) -> bool {
        self.map.fields().any(|known| known == field)
    }

    /// The object with the mapped fields first, and everything that was not used after them.
    pub fn apply(
        &self,
        mut object: Map<String, Value>,
        left_out: &mut Vec<String>,
    ) -> Result<Map<String, Value>, Fault> {
        self.keys.get_or_init(|| object.keys().take(32).cloned().collect::<Vec<_>>().join(", "));
        for column in &self.columns {
            if find(&object, &column.name).is_some() {
                column.is_seen.store(true, Ordering::Relaxed);
            }
        }
        let mut fields = Map::new();
        for (field, source) in &self.map.entries {
            let value = source.value(&object).map_err(|column| Fault::Unmapped { column, field: field.clone() })?;
            let value = match value {
                Value::Null if !is_text(field) => continue,
                Value::Number(_) | Value::Bool(_) if is_text(field) => as_text(&value).into(),
                other => other,
            };
            fields.insert(field.clone(), value);
        }
        self.columns.iter().for_each(|column| remove(&mut object, &column.name));
        for (key, value) in object {
            // The file's own value of a mapped field.
            if fields.contains_key(&key) { left_out.push(key) } else { drop(fields.insert(key, value)) }
        }
        self.prefer_mapped(&mut fields, left_out);
        Ok(fields)
    }

    /// Leaves out the columns that would make a conversation of another shape than the mapped fields do.
    fn prefer_mapped(&self, fields: &mut Map<String, Value>, left_out: &mut Vec<String>) {
        let is_mapped = |keys: &&[&str]| keys.iter().any(|key| self.has(key));
        let is_whole = |keys: &&&[&str], fields: &Map<_, _>| keys.iter().all(|key| fields.contains_key(*key));
        if !SHAPES.iter().any(|keys| is_mapped(keys) && is_whole(&keys, fields)) {
            return;
        }
        while let Some(keys) = SHAPES.iter().find(|keys| is_whole(keys, fields)).filter(|keys| !is_mapped(keys)) {
            for key in *keys {
                left_out.extend(fields.shift_remove(*key).map(|_| (*key).to_owned()));
            }
        }
    }
}

impl Source {
    /// The value of the field; the column that is missing as the error.
    fn value(&self, object: &Map<String, Value>) -> Result<Value, String> {
        match self {
            Self::Column(name) => find(object, name).cloned().ok_or_else(|| name.clone()),
            Self::Template(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(plain) => text.push_str(plain),
                        Piece::Column(name) => match find(object, name) {
                            Some(Value::Null) | None => return Err(name.clone()),
                            Some(Value::String(empty)) if empty.trim().is_empty() => return Err(name.clone()),
                            Some(value) => text.push_str(&as_text(value)),
                        },
                    }
                }
                Ok(text.into())
            }
        }
    }
}

/// The fields that are texts of a conversation.
fn is_text(field: &str) -> bool {
    ["prompt", "completion", "system", "instruction", "input", "output", "text", "chosen", "rejected"].contains(&field)
}

fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn is_same(column: &str, name: &str) -> bool {
    column == name || simple(column) == simple(name)
}

/// Whether the column is the one of this name, or the one that holds it.
fn is_part(column: &str, name: &str) -> bool {
    is_same(column, name) || ends_of(name).any(|end| is_same(column, &name[..end]))
}

/// The ends of the keys before the last one in a dotted path.
fn ends_of(path: &str) -> impl Iterator<Item = usize> {
    path.match_indices('.').map(|(at, _)| at)
}

/// The key of an object that has this name: exactly, otherwise without regard to capitals and to spaces around it.
fn key<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a String> {
    let same = object.get_key_value(name).map(|(key, _)| key);
    same.or_else(|| object.keys().find(|key| simple(key) == simple(name)))
}

/// The value of a key, or of a path of keys and of positions in lists, from 1.
fn find<'a>(object: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(key) = key(object, path) {
        return object.get(key);
    }
    ends_of(path).find_map(|end| within(object.get(key(object, &path[..end])?)?, &path[end + 1..]))
}

fn within<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    match value {
        Value::Object(object) => find(object, path),
        Value::Array(list) => {
            let (position, rest) = path.split_once('.').map_or((path, None), |(position, rest)| (position, Some(rest)));
            let element = list.get(position.parse::<usize>().ok()?.checked_sub(1)?)?;
            rest.map_or(Some(element), |rest| within(element, rest))
        }
        _ => None,
    }
}

/// Removes the value of a path of keys, and the objects that are empty without it. A list stays whole.
fn remove(object: &mut Map<String, Value>, path: &str) {
    if let Some(key) = key(object, path).cloned() {
        object.shift_remove(&key);
        return;
    }
    for end in ends_of(path) {
        let Some(key) = key(object, &path[..end]).cloned() else { continue };
        if let Some(Value::Object(inner)) = object.get_mut(&key)
            && find(inner, &path[end + 1..]).is_some()
        {
            remove(inner, &path[end + 1..]);
            if inner.is_empty() {
                object.shift_remove(&key);
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(map: &str, json: &str, expected: &str) {
        let mapping = Mapping::new(map.parse().expect("a sound map"));
        let mut left_out = Vec::new();
        let found = match mapping.apply(serde_json::from_str(json).expect("the test's own JSON"), &mut left_out) {
            Ok(object) => format!("{} {}", Value::from(object), left_out.join(" ")),
            Err(fault) => fault.to_string(),
        };
        assert_eq!(found.trim_end(), expected, "{map} {json}");
    }

    #[test]
    fn fields_are_made_from_columns_and_templates() {
        let map = r"prompt=ticket,completion={label}\n{reply}{{}}\t\\";
        check(
            map,
            r#"{"id":"1","Ticket":"t","label":"l","reply":"r","day":2}"#,
            r#"{"prompt":"t","completion":"l\nr{}\t\\","id":"1","day":2}"#,
        );
        // A number is a text where a text is needed.
        check(
            "prompt=a,completion={b}!,label=c",
            r#"{"a":7,"b":true,"c":3}"#,
            r#"{"prompt":"7","completion":"true!","label":3}"#,
        );
        for reply in ["null", "\"\"", "\" \""] {
            let json = format!(r#"{{"ticket":"t","label":"l","reply":{reply}}}"#);
            check(map, &json, "the column `reply`, which `completion` is made of, is missing or empty");
        }
        check(map, r#"{"label":"l"}"#, "the column `ticket`, which `prompt` is made of, is missing or empty");
    }

    #[test]
    fn a_path_leads_into_objects_and_lists() {
        let json = r#"{"data":{"ticket":{"text":"t"},"n":1},"a.b":"c","turns":[{"say":"x"}]}"#;
        check("prompt=data.ticket.text", json, r#"{"prompt":"t","data":{"n":1},"a.b":"c","turns":[{"say":"x"}]}"#);
        check("prompt=a.b", json, r#"{"prompt":"c","data":{"ticket":{"text":"t"},"n":1},"turns":[{"say":"x"}]}"#);
        check(
            "prompt={turns.1.say}{data.n}",
            json,
            r#"{"prompt":"x1","data":{"ticket":{"text":"t"}},"a.b":"c","turns":[{"say":"x"}]}"#,
        );
        check("prompt=turns.2.say", json, "the column `turns.2.say`, which `prompt` is made of, is missing or empty");
    }

    #[test]
    fn the_mapped_fields_are_stronger_than_what_the_file_calls_so() {
        check(
            "prompt=title,completion=summary",
            r#"{"title":"t","summary":"s","prompt":"old","messages":[],"text":"x","system":"y"}"#,
            r#"{"prompt":"t","completion":"s","text":"x","system":"y"} prompt messages"#,
        );
        // The file's own fields complete the mapped ones.
        check("completion=b", r#"{"prompt":"a","b":"c"}"#, r#"{"completion":"c","prompt":"a"}"#);
        check("id=nr", r#"{"nr":"a","text":"c"}"#, r#"{"id":"a","text":"c"}"#);
    }
}
