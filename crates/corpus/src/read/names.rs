//! Names of columns as people write them: in capitals, with spaces around them.

use serde_json::{Map, Value};

use super::shape::{is_known, is_needed};

/// A name without capitals, and without spaces around it.
pub(super) fn simple(name: &str) -> String {
    name.trim().to_lowercase()
}

/// Renames keys such as `Prompt` and ` COMPLETION ` to the names that readers know, if the object has no known shape
/// otherwise. In a table, `ID`, `Group` and `System` are always renamed.
pub(super) fn canonical(object: Map<String, Value>, is_table: bool) -> Map<String, Value> {
    let is_sound = is_known(|key| object.contains_key(key));
    let new_name = |key: &str| {
        let name = simple(key);
        let is_wanted = if is_sound { is_table && BESIDE.contains(&name.as_str()) } else { is_needed(&name) };
        (name != key && is_wanted && !object.contains_key(&name)).then_some(name)
    };
    let names: Vec<Option<String>> = object.keys().map(|key| new_name(key)).collect();
    if names.iter().all(Option::is_none) {
        return object;
    }
    let mut renamed = Map::new();
    for ((key, value), name) in object.into_iter().zip(names) {
        // Of two names that differ in capitals alone, the first is the column.
        let name = name.filter(|name| !renamed.contains_key(name));
        renamed.insert(name.unwrap_or(key), value);
    }
    renamed
}

const BESIDE: [&str; 3] = ["id", "group", "system"];

/// Whether a table with these columns has records, with [`canonical`] names.
pub(super) fn are_known(columns: &[String]) -> bool {
    let names: Vec<String> = columns.iter().map(|column| simple(column)).collect();
    is_known(|key| names.iter().any(|name| name == key))
}

/// A map for a table of unknown columns, as an example: its own columns, without those that name or count the rows.
pub(super) fn example(columns: &[String]) -> String {
    const ASIDE: [&str; 20] = [
        "id",
        "ids",
        "nr",
        "no",
        "no.",
        "number",
        "key",
        "uuid",
        "index",
        "row",
        "date",
        "time",
        "timestamp",
        "label",
        "class",
        "category",
        "group",
        "split",
        "lang",
        "language",
    ];
    let is_text = |column: &&String| !column.is_empty() && !ASIDE.contains(&simple(column).as_str());
    let mut texts: Vec<&String> = columns.iter().filter(is_text).collect();
    if texts.len() < 2 {
        texts = columns.iter().filter(|column| !column.is_empty()).collect();
    }
    match texts.as_slice() {
        [] => "text=column".to_owned(),
        [only] => format!("text={only}"),
        [first, .., last] => format!("prompt={first},completion={last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, is_table: bool, expected: &str) {
        let object = serde_json::from_str(json).expect("the test's own JSON");
        assert_eq!(Value::from(canonical(object, is_table)).to_string(), expected);
    }

    #[test]
    fn names_in_capitals_are_known() {
        for is_table in [true, false] {
            check(
                r#"{"ID":1," Prompt":"a","COMPLETION ":"b","Day":2}"#,
                is_table,
                r#"{"id":1,"prompt":"a","completion":"b","Day":2}"#,
            );
            check(
                r#"{"prompt":"a","completion":"b","Text":"c"}"#,
                is_table,
                r#"{"prompt":"a","completion":"b","Text":"c"}"#,
            );
            check(r#"{"Text":"a","TEXT":"b"}"#, is_table, r#"{"text":"a","TEXT":"b"}"#);
        }
        check(r#"{"text":"a","ID":"b"}"#, true, r#"{"text":"a","id":"b"}"#);
        check(r#"{"text":"a","ID":"b"}"#, false, r#"{"text":"a","ID":"b"}"#);
    }

    #[test]
    fn the_example_has_the_tables_own_columns() {
        for (columns, expected) in [
            (&["id", "ticket", "label", "reply"][..], "prompt=ticket,completion=reply"),
            (&["ticket", "label"], "prompt=ticket,completion=label"),
            (&["Nr", "story"], "prompt=Nr,completion=story"),
            (&["story"], "text=story"),
            (&[""], "text=column"),
        ] {
            let columns: Vec<String> = columns.iter().map(|&column| column.to_owned()).collect();
            assert_eq!(example(&columns), expected);
        }
    }
}
