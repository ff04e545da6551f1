//! JSON with the numbers that it does not have.
//!
//! Python writes `NaN`, `Infinity` and `-Infinity` into JSON unless it is told not to, and some writers numbers that no
//! double holds, such as `1e999`. None of them is a value; what holds one is left out, and the rest of the record stays.

use serde_json::Value;

/// Parses a text; the paths of what is left out are added to the list.
///
/// # Errors
/// The parser's, for what is no JSON otherwise.
pub(super) fn parse(text: &str, left_out: &mut Vec<String>) -> serde_json::Result<Value> {
    serde_json::from_str(text).or_else(|error| {
        // What stands for such a number must not be a text that the record holds.
        let mark = (0..).map(|at| format!("no number {at}")).find(|mark| !text.contains(mark.as_str()));
        let mark = mark.unwrap_or_default();
        let Some(marked) = mark_odd(text, &mark) else { return Err(error) };
        let mut value = serde_json::from_str(&marked)?;
        remove(&mut value, &mark, String::new(), left_out);
        Ok(value)
    })
}

/// The text with each odd number replaced by the mark; none where it has none.
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

/// Takes the entries out whose value is the mark, or a list that holds it; says whether the value itself is such a one.
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
