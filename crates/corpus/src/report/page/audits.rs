//! Shows the result of an audit, of any structure, as headings, lists and tables.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::text::{escaped, number};
use crate::audit::Section;

/// A longer table shows only its first rows.
const MAX_ROWS: usize = 200;

/// A longer table is collapsed at first.
const OPEN_ROWS: usize = 12;

/// The result of an audit, as a card.
pub(super) fn section(section: &Section) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(section) else {
        return String::new();
    };
    let name = fields.shift_remove("audit").and_then(|name| name.as_str().map(words)).unwrap_or_default();
    format!("<h3>{}</h3>{}", escaped(&name), object(&fields))
}

/// The scalar fields in one sentence, then each list of objects as a table.
fn object(fields: &Map<String, Value>) -> String {
    let mut page = String::new();
    let plain: Vec<String> = fields
        .iter()
        .filter_map(|(key, value)| Some(format!("{}: <b>{}</b>", escaped(&words(key)), plain(value)?)))
        .collect();
    if !plain.is_empty() {
        let _ = write!(page, "<p>{}</p>", plain.join(" · "));
    }
    for (key, value) in fields {
        match value {
            Value::Array(rows) if rows.iter().any(Value::is_object) => page.push_str(&table(key, rows)),
            Value::Object(inner) if plain_object(inner).is_none() => {
                let _ = write!(page, "<h4>{}</h4>{}", escaped(&words(key)), object(inner));
            }
            _ => {}
        }
    }
    page
}

fn table(key: &str, rows: &[Value]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for key in rows.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if !columns.contains(&key.as_str()) {
            columns.push(key);
        }
    }
    let is_number = |column: &&str| rows.iter().all(|row| row.get(column).is_none_or(Value::is_number));
    let class = |column: &&str| if is_number(column) { " class=\"number\"" } else { "" };
    let is_folded = rows.len() > OPEN_ROWS;
    let mut page = if is_folded {
        let (count, name) = (number(rows.len() as u64), escaped(&words(key)));
        format!(
            "<details class=\"card\"><summary>{name} <span class=\"soft\">{count}</span></summary><div class=\"scroll\"><table><tr>"
        )
    } else {
        "<div class=\"card scroll\"><table><tr>".to_owned()
    };
    for column in &columns {
        let _ = write!(page, "<th scope=\"col\"{}>{}</th>", class(column), escaped(&words(column)));
    }
    page.push_str("</tr>");
    for row in rows.iter().take(MAX_ROWS) {
        page.push_str("<tr>");
        for column in &columns {
            let cell = row.get(*column).map(cell).unwrap_or_default();
            let _ = write!(page, "<td{}>{cell}</td>", class(column));
        }
        page.push_str("</tr>");
    }
    page.push_str("</table></div>");
    if rows.len() > MAX_ROWS {
        let _ = write!(page, "<p class=\"inside soft\">The first {MAX_ROWS}. The JSON report has them all.</p>");
    }
    page + if is_folded { "</details>" } else { "" }
}

fn cell(value: &Value) -> String {
    plain(value).unwrap_or_else(|| match value {
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join("<br>"),
        Value::Object(fields) => object(fields),
        _ => String::new(),
    })
}

/// A value that fits in one line.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("none".to_owned()),
        Value::Bool(value) => Some(if *value { "yes" } else { "no" }.to_owned()),
        Value::Number(value) => Some(match (value.as_u64(), value.as_f64()) {
            (Some(whole), _) => number(whole),
            (None, Some(value)) => figure(value),
            (None, None) => value.to_string(),
        }),
        Value::String(text) => Some(escaped(text)),
        Value::Array(items) if items.is_empty() => Some("none".to_owned()),
        Value::Array(items) if items.iter().all(|item| !item.is_array() && !item.is_object()) => {
            Some(items.iter().filter_map(plain).collect::<Vec<_>>().join(", "))
        }
        Value::Array(_) => None,
        Value::Object(fields) => plain_object(fields),
    }
}

/// An object with only numbers and texts: `name 3, other 4`.
fn plain_object(fields: &Map<String, Value>) -> Option<String> {
    let pair = |(key, value): (&String, &Value)| {
        let is_plain = !value.is_array() && !value.is_object();
        let name = if key.is_empty() { "(none)" } else { key };
        is_plain.then(|| plain(value)).flatten().map(|value| format!("{} {value}", escaped(name)))
    };
    fields.iter().map(pair).collect::<Option<Vec<_>>>().map(|pairs| pairs.join(", "))
}

/// A number with about three significant digits.
fn figure(value: f64) -> String {
    let digits = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        3
    };
    format!("{value:.digits$}").replace('-', "−")
}

/// A key as words: `max_words`, `class-balance`.
fn words(key: &str) -> String {
    let text = key.replace(['_', '-'], " ");
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
