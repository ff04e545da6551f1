//! Labels that are not among the allowed ones.

use serde::Deserialize;
use unicode_normalization::UnicodeNormalization;

use super::Pass;
use foehn_record::Record;

/// Rejects a record whose label is not one of a list: `Biling` for `Billing`, `#N/A`, `{{queue}}`, a header that a
/// spreadsheet repeats in the middle, or none.
///
/// The label is the metadata field [`key`](Self::key); in a record without it, the last answer. The reason names the
/// allowed label that is meant, if one differs in capitals and spaces alone or in two letters at most.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// The allowed labels, exactly as they are written.
    pub allowed: Vec<String>,
    /// The metadata field that has the label.
    #[serde(default = "label")]
    pub key: String,
}

fn label() -> String {
    "label".to_owned()
}

/// The most letters that a misspelt label differs in.
const MISSPELT: usize = 2;

impl Pass for Labels {
    fn name(&self) -> &'static str {
        "labels"
    }

    fn check(&self, record: &Record) -> Option<String> {
        let found = match record.metadata.get(&self.key) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(serde_json::Value::Null) | None => {
                record.messages.last().filter(|last| last.is_trained())?.content.clone()
            }
            Some(other) => other.to_string(),
        };
        if self.allowed.contains(&found) {
            return None;
        }
        let shown: String = found.chars().take(60).collect();
        Some(match self.meant(&found) {
            _ if found.trim().is_empty() => "the label is empty".to_owned(),
            Some(meant) => format!("the label `{shown}` is not allowed; `{meant}` is"),
            None => format!("the label `{shown}` is not allowed"),
        })
    }
}

impl Labels {
    /// The allowed label that is meant by another text, if it is only one.
    fn meant(&self, found: &str) -> Option<&str> {
        let plain = |text: &str| -> Vec<char> {
            text.nfkc().filter(|letter| !letter.is_whitespace()).flat_map(char::to_lowercase).collect()
        };
        let found = plain(found);
        let near = |allowed: &&String| {
            let allowed = plain(allowed);
            // Of a short label, two other letters would be another word.
            let most = MISSPELT.min(allowed.len() / 3);
            distance(&found, &allowed) <= most
        };
        let mut near = self.allowed.iter().filter(near);
        match (near.next(), near.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }
}

/// The number of letters to insert, to remove or to replace (Levenshtein 1966).
fn distance(a: &[char], b: &[char]) -> usize {
    if a.len().abs_diff(b.len()) > MISSPELT {
        return a.len().abs_diff(b.len());
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut before = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = before + usize::from(from != to);
            before = row[j + 1];
            row[j + 1] = replaced.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn labels_that_are_not_allowed_are_named_with_what_is_meant() {
        let pass = Labels { allowed: ["Billing", "Delivery", "Returns", "IT"].map(str::to_owned).into(), key: label() };
        let check = |label: Option<&str>, answer: &str, expected: Option<&str>| {
            let mut record = Record::pair("Where is it?", answer);
            record.metadata.extend(label.map(|label| ("label".to_owned(), label.into())));
            assert_eq!(pass.check(&record).as_deref(), expected, "{label:?} {answer}");
        };
        check(Some("Billing"), "x", None);
        check(Some("billing "), "x", Some("the label `billing ` is not allowed; `Billing` is"));
        check(Some("Biling"), "x", Some("the label `Biling` is not allowed; `Billing` is"));
        check(Some("Dleivery"), "x", Some("the label `Dleivery` is not allowed; `Delivery` is"));
        check(Some("#N/A"), "x", Some("the label `#N/A` is not allowed"));
        check(Some("{{queue}}"), "x", Some("the label `{{queue}}` is not allowed"));
        check(Some("label"), "x", Some("the label `label` is not allowed"));
        check(Some("AI"), "x", Some("the label `AI` is not allowed"));
        check(Some(" "), "x", Some("the label is empty"));
        check(None, "Returns", None);
        check(None, "Return", Some("the label `Return` is not allowed; `Returns` is"));
    }

    proptest! {
        /// A metric, and what changes one letter has distance 1.
        #[test]
        fn distances(a in "[ab]{0,6}", b in "[ab]{0,6}", at in 0usize..6) {
            let [a, b] = [a, b].map(|text| text.chars().collect::<Vec<_>>());
            let near = |a: &[char], b: &[char]| distance(a, b).min(MISSPELT + 1);
            prop_assert_eq!(near(&a, &b), near(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            let mut shorter = a.clone();
            if at < a.len() {
                shorter.remove(at);
                prop_assert_eq!(distance(&a, &shorter), 1);
            }
        }
    }
}
