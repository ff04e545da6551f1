//! How much of a JSON value is right.

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

/// An answer that should be a JSON value, compared with the right one leaf by leaf.
///
/// A leaf is a string, a number, a boolean, null, or an empty object or array. Its path leads through the keys of
/// objects, in any order, and the indices of arrays. Numbers are compared by value: 1 is 1.0.
///
/// The answer has the same value as the reference exactly if `valid`, `right == fields` and `extra == 0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonMatch {
    /// Whether the answer is one JSON value alone, but for white space and one code fence of Markdown around it.
    pub valid: bool,
    /// Whether that code fence is there (three or more backticks or tildes, each on its line).
    pub fenced: bool,
    /// The leaves of the reference.
    pub fields: usize,
    /// Those of them that the answer has at the same path with the same value; none if it is not valid.
    pub right: usize,
    /// The leaves of the answer for whose path the reference has no value at all; none if it is not valid.
    pub extra: usize,
}

impl JsonMatch {
    /// Compares an answer with the right value. Of a key that stands twice in an object, the last one counts.
    pub fn new(answer: &str, reference: &Value) -> Self {
        let text = answer.trim();
        let inside = inside_fence(text);
        let fields = leaves(reference);
        let (right, extra) = match serde_json::from_str(inside.unwrap_or(text)) {
            Ok(value) => compare(&value, reference),
            Err(_) => return Self { valid: false, fenced: inside.is_some(), fields, right: 0, extra: 0 },
        };
        Self { valid: true, fenced: inside.is_some(), fields, right, extra }
    }

    /// Whether the answer has the same value as the reference.
    pub fn is_equal(&self) -> bool {
        self.valid && self.right == self.fields && self.extra == 0
    }
}

/// What stands between the fences, if a text begins and ends with one. Source: CommonMark 0.31, section 4.5.
fn inside_fence(text: &str) -> Option<&str> {
    let mark = text.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let (first, rest) = text.split_once('\n')?;
    let (inside, last) = rest.rsplit_once('\n')?;
    let language = first.trim_start_matches(mark);
    let (opening, closing) = (first.len() - language.len(), last.trim());
    let closes = closing.len() >= opening && closing.chars().all(|c| c == mark);
    (opening >= 3 && closes && !language.contains('`')).then_some(inside)
}

/// The leaves of the reference that are right, and those of the answer that are too many.
fn compare(answer: &Value, reference: &Value) -> (usize, usize) {
    let add = |(right, extra): (usize, usize), (more, too_many)| (right + more, extra + too_many);
    match (answer, reference) {
        (Value::Object(answer), Value::Object(reference)) if !answer.is_empty() && !reference.is_empty() => {
            let pairs = answer.iter().map(|(key, value)| match reference.get(key) {
                Some(reference) => compare(value, reference),
                None => (0, leaves(value)),
            });
            pairs.fold((0, 0), add)
        }
        (Value::Array(answer), Value::Array(reference)) if !answer.is_empty() && !reference.is_empty() => {
            let pairs = answer.iter().enumerate().map(|(index, value)| match reference.get(index) {
                Some(reference) => compare(value, reference),
                None => (0, leaves(value)),
            });
            pairs.fold((0, 0), add)
        }
        (Value::Number(answer), Value::Number(reference)) => (usize::from(same_number(answer, reference)), 0),
        // A leaf in the place of what has parts is wrong, not too much; parts in the place of a leaf are too many.
        _ if is_leaf(answer) => (usize::from(answer == reference), 0),
        _ => (0, leaves(answer)),
    }
}

fn is_leaf(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    }
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::Object(fields) if !fields.is_empty() => fields.values().map(leaves).sum(),
        Value::Array(items) if !items.is_empty() => items.iter().map(leaves).sum(),
        _ => 1,
    }
}

/// Whether two numbers have one value. Whole numbers are compared exactly, also beyond 2⁵³.
fn same_number(one: &Number, other: &Number) -> bool {
    let whole = |number: &Number| number.as_i128().or_else(|| whole_float(number.as_f64()?));
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => one.as_f64() == other.as_f64(),
        _ => false,
    }
}

fn whole_float(value: f64) -> Option<i128> {
    (value.fract() == 0.0 && value.abs() < 1e38).then_some(value as i128)
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Fields, right and extra ones of a valid answer without a fence.
    #[track_caller]
    fn check(answer: &str, reference: Value, (fields, right, extra): (usize, usize, usize)) {
        let found = JsonMatch::new(answer, &reference);
        assert_eq!(found, JsonMatch { valid: true, fenced: false, fields, right, extra }, "{answer}");
    }

    #[test]
    fn leaves_are_compared_at_their_paths() {
        let order = || json!({"id": 7, "to": {"city": "Bern", "zip": null}, "items": ["a", "b"]});
        check(r#"{"items":["a","b"],"to":{"zip":null,"city":"Bern"},"id":7.0}"#, order(), (5, 5, 0));
        check(r#" {"id": "7", "to": {"city": "bern"}, "items": ["b", "a"]} "#, order(), (5, 0, 0));
        check(r#"{"id": 7, "to": "Bern", "items": ["a", "b", "c"]}"#, order(), (5, 3, 1));
        check(r#"{"id": {"value": 7, "kind": 1}, "more": [[], {}]}"#, order(), (5, 0, 4));
        check("[]", order(), (5, 0, 0));
        check("null", order(), (5, 0, 0));
        check(r#"{"0":1}"#, json!([1]), (1, 0, 1));
        check(r#"{"a":1,"a":2}"#, json!({"a": 2}), (1, 1, 0));
    }

    #[test]
    fn leaves_of_every_kind() {
        check("{}", json!({}), (1, 1, 0));
        check("[]", json!({}), (1, 0, 0));
        check(r#"{"a": 1}"#, json!({}), (1, 0, 1));
        check(r#"{"a": {}}"#, json!({"a": {}}), (1, 1, 0));
        check("true", json!(true), (1, 1, 0));
        check("\"true\"", json!(true), (1, 0, 0));
        check("null", json!(null), (1, 1, 0));
        check("\"\\u00e9\"", json!("é"), (1, 1, 0));
    }

    #[test]
    fn numbers_have_values() {
        for (answer, reference, same) in [
            ("1", json!(1.0), true),
            ("-0.0", json!(0), true),
            ("1e3", json!(1000), true),
            ("0.10", json!(0.1), true),
            ("1.5", json!(1), false),
            ("9007199254740993", json!(9_007_199_254_740_992_i64), false),
            ("9007199254740993", json!(9_007_199_254_740_992.0), false),
            ("18446744073709551615", json!(u64::MAX), true),
            ("-1", json!(u64::MAX), false),
            ("1e300", json!(1e300), true),
            ("1e300", json!(1), false),
        ] {
            check(answer, reference, (1, usize::from(same), 0));
        }
    }

    #[test]
    fn an_answer_is_one_value_in_at_most_one_fence() {
        for (answer, valid, fenced) in [
            ("{\"a\":1}", true, false),
            ("\n {\"a\":1}\t", true, false),
            ("```json\n{\"a\":1}\n```", true, true),
            ("```\n{\n\"a\":1\n}\n```\n", true, true),
            ("~~~~ json\n{\"a\":1}\n~~~~~", true, true),
            ("```json\r\n{\"a\":1}\r\n```", true, true),
            ("```json\n{\"a\":}\n```", false, true),
            ("```json\n\n```", false, true),
            // An open fence, one of another kind or length, one in a line, words around it, two fences.
            ("```json\n{\"a\":1}", false, false),
            ("```json\n{\"a\":1}\n~~~", false, false),
            ("````json\n{\"a\":1}\n```", false, false),
            ("```{\"a\":1}```", false, false),
            ("``\n{\"a\":1}\n``", false, false),
            ("Here it is:\n```json\n{\"a\":1}\n```", false, false),
            ("```\n{\"a\":1}\n```\n```\n{\"a\":1}\n```", false, true),
            ("{\"a\":1} {\"a\":1}", false, false),
            ("{\"a\":1}.", false, false),
            ("{'a':1}", false, false),
            ("{\"a\":1,}", false, false),
            ("", false, false),
            ("```", false, false),
            ("```\n```", false, false),
            ("1e999", false, false),
        ] {
            let found = JsonMatch::new(answer, &json!({"a": 1}));
            let right = usize::from(valid);
            assert_eq!(found, JsonMatch { valid, fenced, fields: 1, right, extra: 0 }, "{answer}");
        }
        let deep = "[".repeat(100_000);
        assert!(!JsonMatch::new(&deep, &json!([])).valid);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-2i64..3).prop_map(Value::from),
            (-2i32..3).prop_map(|half| Value::from(f64::from(half) / 2.0)),
            "[ab]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 3, |inner| {
            let fields = btree_map("[abc]", inner.clone(), 0..3);
            prop_oneof![
                vec(inner, 0..3).prop_map(Value::from),
                fields.prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// A value with all its numbers written as floats, so that `==` compares values.
    fn as_floats(value: &Value) -> Value {
        match value {
            Value::Number(number) => json!(number.as_f64().unwrap() + 0.0),
            Value::Array(items) => items.iter().map(as_floats).collect(),
            Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), as_floats(value))).collect(),
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn all_right_and_nothing_more_is_equal(answer in value(), reference in value()) {
            let found = JsonMatch::new(&answer.to_string(), &reference);
            prop_assert_eq!(found.is_equal(), as_floats(&answer) == as_floats(&reference));
            prop_assert!(found.valid && found.right <= found.fields);
            let back = JsonMatch::new(&reference.to_string(), &answer);
            prop_assert_eq!(found.right, back.right);
        }

        #[test]
        fn a_value_equals_itself_in_any_dress(reference in value()) {
            let pretty = serde_json::to_string_pretty(&reference).unwrap();
            for (text, fenced) in [(pretty.clone(), false), (format!("```json\n{pretty}\n```"), true)] {
                let found = JsonMatch::new(&text, &reference);
                prop_assert!(found.is_equal());
                prop_assert_eq!(found.fenced, fenced);
            }
        }

        #[test]
        fn no_text_is_too_odd(answer in "\\PC*|[`~\\[\\]{}\",:1a\n ]*", reference in value()) {
            let found = JsonMatch::new(&answer, &reference);
            prop_assert!(found.valid || found.right + found.extra == 0);
        }
    }
}
