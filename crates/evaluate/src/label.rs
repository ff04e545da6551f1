//! Where an answer has its label.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use foehn_record::{Message, Record, Role};
use regex::Regex;
use serde_json::Value;

use crate::text::{normalised, words};

/// Where an answer has its label. The text form is `whole`, `first-line`, `field:NAME`, `json:PATH` or `regex:PATTERN`.
#[derive(Clone, Debug)]
pub enum LabelRule {
    /// The answer is the label.
    Whole,
    /// The answer's first line is the label.
    FirstLine,
    /// The field of this name of a record is its label. In an answer, the label that stands first as whole words counts.
    Field(String),
    /// The answer is a JSON value, and the label stands at this path: keys and positions, separated by full stops.
    Json(String),
    /// The first group of the first match, or the whole match of a pattern without groups.
    Regex(Regex),
}

impl PartialEq for LabelRule {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl fmt::Display for LabelRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => formatter.write_str("whole"),
            Self::FirstLine => formatter.write_str("first-line"),
            Self::Field(name) => write!(formatter, "field:{name}"),
            Self::Json(path) => write!(formatter, "json:{path}"),
            Self::Regex(pattern) => write!(formatter, "regex:{pattern}"),
        }
    }
}

/// A text that is no label rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "`{found}` says no place of a label ({why}): expected whole, first-line, field:NAME, json:PATH or regex:PATTERN"
)]
pub struct LabelRuleError {
    found: String,
    why: String,
}

impl FromStr for LabelRule {
    type Err = LabelRuleError;

    fn from_str(text: &str) -> Result<Self, LabelRuleError> {
        let failed = |why: String| LabelRuleError { found: text.to_owned(), why };
        match text.split_once(':') {
            None if text == "whole" => Ok(Self::Whole),
            None if text == "first-line" => Ok(Self::FirstLine),
            Some((_, "")) => Err(failed("nothing follows the colon".to_owned())),
            Some(("field", name)) => Ok(Self::Field(name.to_owned())),
            Some(("json", path)) => Ok(Self::Json(path.to_owned())),
            Some(("regex", pattern)) => match Regex::new(pattern) {
                Ok(pattern) => Ok(Self::Regex(pattern)),
                Err(error) => Err(failed(error.to_string().lines().last().unwrap_or_default().to_owned())),
            },
            _ => Err(failed("unknown".to_owned())),
        }
    }
}

impl LabelRule {
    /// The label of an answer by itself. `None` if the answer has none there, and for [`Field`](Self::Field), whose
    /// label the record says.
    pub fn label(&self, answer: &str) -> Option<String> {
        self.find(answer, &[]).map(|place| self.read(answer, place))
    }

    /// The label of a record: that of its last answer, or for [`Field`](Self::Field) what the field says, if the answer
    /// has it. `None` if there is none, or if the record does not end with an answer.
    pub fn of_record(&self, record: &Record) -> Option<String> {
        let Message { content, .. } = record.messages.last().filter(|message| message.role == Role::Assistant)?;
        match self {
            Self::Field(name) => {
                let label = record.text(name)?.to_owned();
                self.find(content, std::slice::from_ref(&label)).map(|_| label)
            }
            _ => self.label(content),
        }
    }

    /// The place of the label in an answer, in bytes. `labels` are the labels that it may be; only
    /// [`Field`](Self::Field) needs them.
    pub fn find(&self, answer: &str, labels: &[String]) -> Option<Range<usize>> {
        match self {
            Self::Whole => trimmed(answer, 0..answer.len()),
            Self::FirstLine => {
                let start = answer.len() - answer.trim_start().len();
                let end = answer[start..].find('\n').map_or(answer.len(), |at| start + at);
                trimmed(answer, start..end)
            }
            Self::Field(_) => first_label(answer, labels),
            Self::Json(path) => json_place(answer, path),
            Self::Regex(pattern) => {
                let found = pattern.captures(answer)?;
                let place = found.get(1).or_else(|| found.get(0))?;
                trimmed(answer, place.range())
            }
        }
    }

    /// The label at a place that [`find`](Self::find) gave.
    pub(crate) fn read(&self, answer: &str, place: Range<usize>) -> String {
        let text = &answer[place];
        let unescaped = || serde_json::from_str::<String>(&format!("\"{text}\"")).ok();
        if matches!(self, Self::Json(_)) { unescaped().unwrap_or_else(|| text.to_owned()) } else { text.to_owned() }
    }

    /// A label in the form in which an answer has it: for [`Json`](Self::Json), with its escapes.
    pub fn written(&self, label: &str) -> String {
        match self {
            Self::Json(_) => {
                let quoted = Value::from(label).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            }
            _ => label.to_owned(),
        }
    }

    /// The index of the label that an answer gives: the label itself, or, if none is the same, one that is the same
    /// ignoring case and punctuation.
    pub(crate) fn label_of(&self, answer: &str, labels: &[String]) -> Option<usize> {
        let said = self.read(answer, self.find(answer, labels)?);
        let same = |said: &str| labels.iter().position(|label| label == said);
        same(&said).or_else(|| {
            let said = normalised(&said);
            let mut alike = (0..labels.len()).filter(|at| normalised(&labels[*at]) == said);
            alike.next().filter(|_| alike.next().is_none())
        })
    }
}

/// A range without white space at its ends; `None` if nothing is left.
fn trimmed(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    let len = part.trim().len();
    (len > 0).then_some(start..start + len)
}

/// The label that stands first in a text as whole words, ignoring case; the longest if several begin at the same place.
fn first_label(text: &str, labels: &[String]) -> Option<Range<usize>> {
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let stands = |label: &String| {
        // Places in a text in lower case would be others: some letters change their length.
        let pattern = Regex::new(&format!("(?i){}", regex::escape(label))).ok()?;
        let found = pattern.find_iter(text).map(|found| found.range()).find(|place| {
            !is_word(text[..place.start].chars().next_back()) && !is_word(text[place.end..].chars().next())
        });
        found.filter(|_| !words(label).is_empty())
    };
    labels.iter().filter_map(stands).min_by_key(|place| (place.start, usize::MAX - place.end))
}

/// The place of the value at a path of a JSON text; for a text value, without its quotation marks.
fn json_place(text: &str, path: &str) -> Option<Range<usize>> {
    // The walk below relies on sound JSON.
    serde_json::from_str::<Value>(text).ok()?;
    let mut place = spaces(text, 0)..text.trim_end().len();
    for key in path.split('.') {
        place = member(text, place.start, key)?;
    }
    let raw = &text[place.clone()];
    if raw.starts_with(['{', '[']) {
        return None;
    }
    let place = if raw.starts_with('"') { place.start + 1..place.end - 1 } else { place };
    (!place.is_empty()).then_some(place)
}

/// The place of the value under a key of an object, or at a position of a list, that begins at `at`. The last one
/// counts if a key stands twice, as in `serde_json`.
fn member(text: &str, at: usize, key: &str) -> Option<Range<usize>> {
    let is_list = match text.as_bytes().get(at)? {
        b'[' => true,
        b'{' => false,
        _ => return None,
    };
    let (mut at, mut position, mut found) = (spaces(text, at + 1), 0usize, None);
    while !text[at..].starts_with(['}', ']']) {
        let name = match is_list {
            true => position.to_string(),
            false => {
                let end = value_end(text, at);
                let name = serde_json::from_str(&text[at..end]).ok()?;
                at = spaces(text, spaces(text, end) + 1);
                name
            }
        };
        let end = value_end(text, at);
        if name == key {
            found = Some(at..end);
        }
        at = spaces(text, end);
        if text[at..].starts_with(',') {
            at = spaces(text, at + 1);
        }
        position += 1;
    }
    found
}

/// Where the value that begins at `at` ends.
fn value_end(text: &str, at: usize) -> usize {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for (offset, byte) in text.as_bytes()[at..].iter().enumerate() {
        let end = at + offset;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' if in_text && depth == 0 => return end + 1,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return end + 1,
            b'}' | b']' if depth == 0 => return end,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return end,
            byte if byte.is_ascii_whitespace() && depth == 0 => return end,
            _ => {}
        }
    }
    text.len()
}

/// The first place from `at` on that is no white space.
fn spaces(text: &str, at: usize) -> usize {
    text.len() - text[at..].trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rule: &str, answer: &str, expected: Option<&str>) {
        let labels = ["ship", "shipping", "billing", "a \"b\""].map(str::to_owned);
        let found: LabelRule = rule.parse().unwrap();
        let label = found.label_of(answer, &labels).map(|at| labels[at].as_str());
        assert_eq!(label, expected, "{rule}: {answer}");
    }

    #[test]
    fn a_label_is_found_where_the_rule_says() {
        check("whole", " billing ", Some("billing"));
        check("whole", "Billing.", Some("billing"));
        check("whole", "billing\nWe will look.", None);
        check("first-line", "\nshipping\nIt is on its way.", Some("shipping"));
        check("first-line", "It is shipping\n", None);
        check("field:queue", "This is a question of Shipping, not of billing.", Some("shipping"));
        check("field:queue", "membership", None);
        check("field:queue", "ship: no", Some("ship"));
        // Letters whose lower case is longer or shorter.
        check("field:queue", "\u{212a}\u{130}\u{130} é Billing", Some("billing"));
        check("json:queue", r#"{"reply": "x", "queue": "billing"}"#, Some("billing"));
        check("json:a.1.q", r#"{"a": [0, {"q" : "ship"}]}"#, Some("ship"));
        check("json:q", r#"{"q": "a \"b\""}"#, Some("a \"b\""));
        check("json:1", r#" [{"queue": "ship", "x": ["}"]} , "billing"] "#, Some("billing"));
        check("json:q", r#"{"x": {"q": "ship"}, "q": "\u0062illing", "y": 1}"#, Some("billing"));
        check("json:queue", r#"{"queue": "billing""#, None);
        check("json:queue", r#"{"queue": ["billing"]}"#, None);
        check("regex:Queue: (\\w+)", "Dear team,\nQueue: shipping", Some("shipping"));
        check("regex:b\\w+", "our billing", Some("billing"));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in ["", "first", "field:", "json", "regex:(", "whole:x"] {
            assert!(text.parse::<LabelRule>().is_err(), "{text}");
        }
        for text in ["whole", "first-line", "field:label", "json:a.0", "regex:(x)"] {
            assert_eq!(text.parse::<LabelRule>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_place_covers_the_label_as_it_is_written() {
        for (rule, answer, expected) in
            [("json:q", "{\"q\":\"a \\\"b\\\"\"}", "a \\\"b\\\""), ("json:n", "{ \"n\" : 12 }", "12")]
        {
            let found: LabelRule = rule.parse().unwrap();
            let place = found.find(answer, &[]).unwrap();
            assert_eq!(&answer[place.clone()], expected);
            assert_eq!(found.written(&found.read(answer, place)), expected);
        }
    }
}
