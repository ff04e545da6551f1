//! Parses JSON that contains numbers which are not valid JSON.
//!
//! By default, Python writes `NaN`, `Infinity` and `-Infinity` into JSON, and some programs write numbers that do not
//! fit in a double, such as `1e999`. Values with such numbers are left out; the rest of the record is kept.

use serde_json::Value;

/// Parses a text. The paths of values that are left out are added to the list.
///
/// # Errors
/// The parser's error, if the text is otherwise not JSON.
pub(super) fn parse(text: &str, left_out: &mut Vec<String>) -> serde_json::Result<Value> {
    serde_json::from_str(text).or_else(|error| {
        // The placeholder for such a number must not be a text of the record.
        let mark = (0..).map(|at| format!("no number {at}")).find(|mark| !text.contains(mark.as_str()));
        let mark = mark.unwrap_or_default();
        let Some(marked) = mark_odd(text, &mark) else { return Err(error) };
        let mut value = serde_json::from_str(&marked)?;
        remove(&mut value, &mark, String::new(), left_out);
        Ok(value)
    })
}

/// The text with each invalid number replaced by the placeholder; `None` if there is no such number.
fn mark_odd(text: &str, mark: &str) -> Option<String> {
    let (mut marked, mut in_string, mut is_escaped, mut end) = (String::new(), false, false, 0);
    let bytes = text.as_bytes();
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            byte if !in_string && is_part(&byte) => {
                let length = bytes[at..].iter().take_while(|byte| is_part(byte)).count();
                if is_odd(&text[at..at + length]) {
                    marked.push_str(&text[end..at]);
                    marked.push_str(&format!("\"{mark}\""));
                    end = at + length;
                }
                at += length;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    marked.push_str(&text[end..]);
    (end > 0).then_some(marked)
}

fn is_odd(word: &str) -> bool {
    let is_huge = || {
        let digits = word.trim_start_matches('-');
        digits.starts_with(|c: char| c.is_ascii_digit()) && word.parse::<f64>().is_ok_and(f64::is_infinite)
    };
    matches!(word, "NaN" | "-NaN" | "Infinity" | "-Infinity" | "nan" | "inf" | "-inf") || is_huge()
}

/// Removes the entries whose value is the placeholder, or a list that contains it. Returns whether the value itself is
/// one of these.
fn remove(value: &mut Value, mark: &str, path: String, left_out: &mut Vec<String>) -> bool {
    match value {
        Value::String(text) => text == mark,
        Value::Array(elements) => {
            let mut is_odd = false;
            for element in elements {
                is_odd |= remove(element, mark, format!("{path}[]"), left_out);
            }
            is_odd
        }
        Value::Object(entries) => {
            let path_of = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            entries.retain(|key, value| {
                let is_odd = remove(value, mark, path_of(key), left_out);
                left_out.extend(is_odd.then(|| path_of(key)));
                !is_odd
            });
            false
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_numbers_are_left_out_by_name_and_the_rest_stays() {
        for (text, expected, names) in [
            (r#"{"a": NaN, "b": "NaN, Infinity"}"#, r#"{"b":"NaN, Infinity"}"#, "a"),
            (r#"{"a": {"x": -Infinity, "y": 1}, "b": 1e999}"#, r#"{"a":{"y":1}}"#, "a.x b"),
            (r#"{"a": [1, [NaN]], "m": [{"c": "q\" NaN", "w": NaN}]}"#, r#"{"m":[{"c":"q\" NaN"}]}"#, "a m[].w"),
            (r#"{"a": "no number 0", "b": Infinity}"#, r#"{"a":"no number 0"}"#, "b"),
            (r#"{"a": 1e308}"#, r#"{"a":1e+308}"#, ""),
        ] {
            let mut left_out = Vec::new();
            let found = parse(text, &mut left_out).expect("JSON but for its numbers");
            assert_eq!((found.to_string().as_str(), left_out.join(" ").as_str()), (expected, names), "{text}");
        }
        for text in [r#"{"a": NaN"#, r#"{"a": nope}"#, r#"{"a": NaN,}"#, "", "{\"a\": \"NaN}"] {
            assert!(parse(text, &mut Vec::new()).is_err(), "{text}");
        }
    }
}
