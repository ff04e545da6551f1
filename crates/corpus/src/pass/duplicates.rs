//! The same conversation twice.

use std::collections::BTreeMap;

use super::{Finding, SetPass, Sketch};
use foehn_record::{Record, Role};
use crate::text::{hash, normalised};

/// Rejects all but the first of the records that have the same messages, but for case, spacing, punctuation and
/// compatibility forms of characters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Duplicates;

impl SetPass for Duplicates {
    fn name(&self) -> &'static str {
        "duplicate"
    }

    fn sketch(&self, record: &Record) -> Vec<u64> {
        hash_prefixes(record).pop().unwrap_or_default().to_vec()
    }

    fn judge(&self, sketches: &[Sketch<'_>]) -> Vec<Finding> {
        let mut first = BTreeMap::new();
        let repeats = sketches.iter().filter_map(|sketch| {
            let original = *first.entry(sketch.words).or_insert(sketch.index);
            (original != sketch.index).then(|| Finding {
                index: sketch.index,
                others: vec![original],
                reason: "the same conversation as another record".to_owned(),
            })
        });
        repeats.collect()
    }
}

/// The hash of the conversation before each message, and at last of all of it: roles, and texts in their normal forms.
pub(super) fn hash_prefixes(record: &Record) -> Vec<[u64; 2]> {
    let mut prefix = [0; 2];
    let mut prefixes = vec![prefix];
    for message in &record.messages {
        let role = match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let [high, low] = prefix;
        prefix = hash(&[&format!("{high:x} {low:x}"), role, &normalised(&message.content)]);
        prefixes.push(prefix);
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;
    use foehn_record::Message;

    fn record(prompt: &str, answer: &str) -> Record {
        Record {
            id: None,
            messages: vec![Message::new(Role::User, prompt), Message::new(Role::Assistant, answer)],
            metadata: serde_json::Map::new(),
            group: None,
        }
    }

    #[test]
    fn the_first_of_a_kind_stays() {
        let records = [
            record("What is it?", "Rain."),
            record("what is  IT", "rain"),
            record("What is it?", "Snow."),
            record("What is it", "“Rain”"),
        ];
        let sketches: Vec<_> = records.iter().map(|record| Duplicates.sketch(record)).collect();
        let sketches: Vec<_> =
            sketches.iter().enumerate().map(|(index, words)| Sketch { index, words, evidence: &[] }).collect();
        let found: Vec<_> = Duplicates.judge(&sketches).into_iter().map(|f| (f.index, f.others)).collect();
        assert_eq!(found, [(1, vec![0]), (3, vec![0])]);
    }
}
