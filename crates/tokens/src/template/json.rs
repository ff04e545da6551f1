//! JSON as Python's `json` reads and writes it with `ensure_ascii=False`, as transformers and mistral-common do.
//!
//! It differs from `serde_json` in numbers: integers may have any length, and floats are written as by Python's `repr`.

use std::collections::HashMap;

use serde::ser::{Error as _, Serialize, Serializer};

/// The largest nesting depth.
const DEPTH: usize = 64;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    /// A number, `true`, `false`, `null`, `NaN` or an infinity, as Python writes it.
    Scalar(String),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Self>),
    /// An object, in its order.
    Map(Vec<(String, Self)>),
}

impl Json {
    /// Parses a text; `None` if it is not JSON, or nests too deeply.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parser = Parser { rest: text };
        let value = parser.value(0)?;
        parser.blank();
        parser.rest.is_empty().then_some(value)
    }

    /// Converts a parsed value.
    pub fn of(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::String(text) => Self::Text(text.clone()),
            serde_json::Value::Array(items) => Self::List(items.iter().map(Self::of).collect()),
            serde_json::Value::Object(map) => {
                Self::Map(map.iter().map(|(key, value)| (key.clone(), Self::of(value))).collect())
            }
            serde_json::Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
                Some(float) => Self::Scalar(repr(float)),
                None => Self::Scalar(number.to_string()),
            },
            serde_json::Value::Bool(_) | serde_json::Value::Null => Self::Scalar(value.to_string()),
        }
    }

    /// The text, with a space after each comma and colon.
    pub fn dump(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    /// The value with another text for each of its strings and keys, in the order of the text.
    pub fn with_texts(&self, change: &mut dyn FnMut(&str) -> String) -> Self {
        match self {
            Self::Scalar(scalar) => Self::Scalar(scalar.clone()),
            Self::Text(text) => Self::Text(change(text)),
            Self::List(items) => Self::List(items.iter().map(|item| item.with_texts(change)).collect()),
            Self::Map(entries) => {
                let entry = |(key, value): &(String, Self)| (change(key), value.with_texts(change));
                Self::Map(entries.iter().map(entry).collect())
            }
        }
    }

    fn write(&self, text: &mut String) {
        match self {
            Self::Scalar(scalar) => text.push_str(scalar),
            Self::Text(inner) => quote(inner, text),
            Self::List(items) => {
                text.push('[');
                for (index, item) in items.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { ", " });
                    item.write(text);
                }
                text.push(']');
            }
            Self::Map(entries) => {
                text.push('{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { ", " });
                    quote(key, text);
                    text.push_str(": ");
                    value.write(text);
                }
                text.push('}');
            }
        }
    }
}

/// For the template engine, which has integers of 128 bits.
impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(entries) => serializer.collect_map(entries.iter().map(|(key, value)| (key, value))),
            Self::Scalar(scalar) => match scalar.as_str() {
                "null" => serializer.serialize_unit(),
                "true" => serializer.serialize_bool(true),
                "false" => serializer.serialize_bool(false),
                _ if scalar.contains(['.', 'e']) => serializer.serialize_f64(scalar.parse().map_err(S::Error::custom)?),
                _ => match (scalar.parse::<i64>(), scalar.parse::<i128>()) {
                    (Ok(small), _) => serializer.serialize_i64(small),
                    (_, Ok(large)) => serializer.serialize_i128(large),
                    _ => Err(S::Error::custom(format!("{scalar} is beyond the numbers that a template can hold"))),
                },
            },
        }
    }
}

/// A float as Python's `json` writes it.
pub(super) fn repr(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Appends a text as a JSON string.
pub(super) fn quote(inner: &str, text: &mut String) {
    text.push('"');
    for letter in inner.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            control if control < ' ' => text.push_str(&format!("\\u{:04x}", u32::from(control))),
            letter => text.push(letter),
        }
    }
    text.push('"');
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn blank(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.rest.strip_prefix(word);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        self.blank();
        if depth > DEPTH {
            return None;
        }
        match self.rest.chars().next()? {
            '"' => self.string().map(Json::Text),
            '[' => self.list(depth),
            '{' => self.map(depth),
            _ => {
                let words = ["null", "true", "false", "NaN", "Infinity", "-Infinity"];
                match words.into_iter().find(|word| self.take(word)) {
                    Some(word) => Some(Json::Scalar(word.to_owned())),
                    None => self.number(),
                }
            }
        }
    }

    fn list(&mut self, depth: usize) -> Option<Json> {
        self.take("[");
        let mut items = Vec::new();
        self.blank();
        if self.take("]") {
            return Some(Json::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.blank();
            if self.take("]") {
                return Some(Json::List(items));
            }
            self.take(",").then_some(())?;
        }
    }

    /// Of a repeated key, the last value counts.
    fn map(&mut self, depth: usize) -> Option<Json> {
        self.take("{");
        let mut entries: Vec<(String, Json)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        self.blank();
        if self.take("}") {
            return Some(Json::Map(Vec::new()));
        }
        loop {
            self.blank();
            let key = self.string()?;
            self.blank();
            self.take(":").then_some(())?;
            let value = self.value(depth + 1)?;
            match places.get(&key).and_then(|place| entries.get_mut(*place)) {
                Some(entry) => entry.1 = value,
                None => {
                    places.insert(key.clone(), entries.len());
                    entries.push((key, value));
                }
            }
            self.blank();
            if self.take("}") {
                return Some(Json::Map(entries));
            }
            self.take(",").then_some(())?;
        }
    }

    fn number(&mut self) -> Option<Json> {
        let end = self.rest.find(|letter: char| !matches!(letter, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'));
        let (number, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        let digits = number.strip_prefix('-').unwrap_or(number);
        let leading = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
        let (whole, fraction) = digits.split_at(leading);
        if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) {
            return None;
        }
        if fraction.is_empty() {
            return Some(Json::Scalar(if number == "-0" { "0".to_owned() } else { number.to_owned() }));
        }
        // `1.` and `1.e5` are floats in Rust, not in JSON.
        let after_dot = fraction.strip_prefix('.').map(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()));
        if after_dot == Some(false) {
            return None;
        }
        number.parse().ok().map(|float| Json::Scalar(repr(float)))
    }

    fn string(&mut self) -> Option<String> {
        self.take("\"").then_some(())?;
        let mut text = String::new();
        loop {
            let letter = self.rest.chars().next()?;
            self.rest = self.rest.get(letter.len_utf8()..)?;
            match letter {
                '"' => return Some(text),
                '\\' => text.push(self.escape()?),
                control if control < ' ' => return None,
                letter => text.push(letter),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let letter = self.rest.chars().next()?;
        self.rest = self.rest.get(letter.len_utf8()..)?;
        Some(match letter {
            '"' | '\\' | '/' => letter,
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => {
                let first = self.hex()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first);
                }
                self.take("\\u").then_some(())?;
                let second = self.hex().filter(|second| (0xdc00..0xe000).contains(second))?;
                return char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
            }
            _ => return None,
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        self.rest = rest;
        digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `json.dumps(json.loads(text), ensure_ascii=False)` gives in Python 3.11; `None` where it raises.
    #[test]
    fn json_is_written_as_python_writes_it() {
        let cases = [
            (r#"{"a":1,"b":[true,null,"x"],"a":2}"#, Some(r#"{"a": 2, "b": [true, null, "x"]}"#)),
            (
                " [ 1 ,\t2.50 , -0 , -0.0, 1e5, 1E16, 1e15, 0.00001, 0.0001, 1.5e-7 ] ",
                Some("[1, 2.5, 0, -0.0, 100000.0, 1e+16, 1000000000000000.0, 1e-05, 0.0001, 1.5e-07]"),
            ),
            ("123456789012345678901234567890", Some("123456789012345678901234567890")),
            ("0.1000000000000000055511151231257827", Some("0.1")),
            ("[NaN, Infinity, -Infinity, 1e999]", Some("[NaN, Infinity, -Infinity, Infinity]")),
            (r#""\u00e9\/\ud83d\ude00\b\f\u0001\u007f""#, Some("\"é/😀\\b\\f\\u0001\u{7f}\"")),
            ("[]", Some("[]")),
            ("{}", Some("{}")),
            (r#"{"": ""}"#, Some(r#"{"": ""}"#)),
            ("", None),
            ("01", None),
            ("1.", None),
            ("1.e5", None),
            ("-", None),
            ("+1", None),
            ("[1,]", None),
            ("{\"a\" 1}", None),
            ("\"a\nb\"", None),
            ("nul", None),
            ("1 2", None),
            ("{1: 2}", None),
            ("'a'", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Json::parse(text).map(|json| json.dump()).as_deref(), expected, "{text}");
        }
        assert!(Json::parse(&"[".repeat(100_000)).is_none());
    }
}
