//! Duplicate conversations.

use std::collections::BTreeMap;

use super::{Finding, Key, SetPass, Sketch};
use crate::meaning::{exact_form, folded_form, is_caseless};
use crate::said::{calls_form, tools_form};
use crate::similar::combined;
use crate::text::hash;
use foehn_record::Record;

/// Of records with the same messages, rejects all but the first. Differences in spacing, in the punctuation of prose,
/// and in capitals without meaning are ignored. Capitals have no meaning in a text that is entirely in lower case or
/// entirely in capitals.
///
/// Records that differ in their tools, in a call or in the reasoning are not duplicates. The ids of calls do not matter.
///
/// Texts that differ in a symbol, a digit or the case of a name are not duplicates: `[]` and `{}`, `\d` and `\D`, `Co`
/// and `CO`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Duplicates;

impl SetPass for Duplicates {
    fn name(&self) -> &'static str {
        "duplicate"
    }

    /// The hash of the exact form, the hash of the folded form, and whether the record's case has no meaning.
    fn sketch(&self, record: &Record) -> Vec<u64> {
        let exact = hash_prefixes(record).pop().unwrap_or_default();
        let folded = prefixes(record, folded_form).pop().unwrap_or_default();
        let is_caseless = record.messages.iter().any(|message| is_caseless(&message.content));
        vec![exact[0], exact[1], folded[0], folded[1], u64::from(is_caseless)]
    }

    fn keys(&self, words: &[u64]) -> Option<Vec<Key>> {
        let [high, low, folded_high, folded_low, _] = *words else { return Some(Vec::new()) };
        let hashes = [combined([0, high, low]), combined([1, folded_high, folded_low])];
        Some(hashes.map(|hash| Key { hash, seeks: true }).to_vec())
    }

    fn judge(&self, sketches: &[Sketch<'_>]) -> Vec<Finding> {
        // The kept records by exact form; and by folded form, the first of all and the first whose case has no meaning.
        let (mut exact, mut folded, mut caseless) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut findings = Vec::new();
        for sketch in sketches {
            let [high, low, folded_high, folded_low, is_caseless] = *sketch.words else { continue };
            let (key, folded_key) = ([high, low], [folded_high, folded_low]);
            let among = if is_caseless == 1 { &folded } else { &caseless };
            if let Some(original) = exact.get(&key).or_else(|| among.get(&folded_key)) {
                let reason = "the same conversation as another record".to_owned();
                findings.push(Finding { index: sketch.index, others: vec![*original], reason });
                continue;
            }
            exact.insert(key, sketch.index);
            folded.entry(folded_key).or_insert(sketch.index);
            if is_caseless == 1 {
                caseless.entry(folded_key).or_insert(sketch.index);
            }
        }
        findings
    }
}

/// The hash of the conversation before each message, and of the whole conversation with a rejected answer: tools, roles,
/// calls, and texts in their exact forms.
pub(super) fn hash_prefixes(record: &Record) -> Vec<[u64; 2]> {
    prefixes(record, exact_form)
}

fn prefixes(record: &Record, form: impl Fn(&str) -> String) -> Vec<[u64; 2]> {
    let mut prefix = tools_form(record).map_or([0; 2], |tools| hash(&["tools", &tools]));
    let mut prefixes = vec![prefix];
    for message in &record.messages {
        let role = message.role.name();
        let [high, low] = prefix;
        let before = format!("{high:x} {low:x}");
        let text = form(&message.content);
        let (reasoning, calls) = (message.reasoning_content.as_deref().map(&form), calls_form(message));
        prefix = match (reasoning, calls) {
            (None, None) => hash(&[&before, role, &text]),
            (reasoning, calls) => {
                hash(&[&before, role, &text, &reasoning.unwrap_or_default(), &calls.unwrap_or_default()])
            }
        };
        prefixes.push(prefix);
    }
    if let (Some(rejected), Some([high, low])) = (&record.rejected, prefixes.last_mut()) {
        [*high, *low] = hash(&[&format!("{high:x} {low:x}"), "rejected", &form(rejected)]);
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(prompt: &str, answer: &str) -> Record {
        Record::pair(prompt, answer)
    }

    #[test]
    fn the_first_of_a_kind_stays() {
        let records = [
            record("What is it?", "Rain."),
            record("WHAT  IS IT", "rain"),
            record("What is it?", "Snow."),
            record("What is it", "“Rain”"),
            record("Empty list?", "x = []"),
            record("Empty list?", "x = {}"),
            record("Negate it.", "not (a or b)"),
            record("Negate it.", "(not a) or b"),
            record("What does Polish mean?", "A tongue."),
            record("what does polish mean", "A tongue."),
            record("What does polish mean?", "A Tongue."),
        ];
        let sketches: Vec<_> = records.iter().map(|record| Duplicates.sketch(record)).collect();
        let sketches: Vec<_> =
            sketches.iter().enumerate().map(|(index, words)| Sketch { index, words, evidence: &[] }).collect();
        let found: Vec<_> = Duplicates.judge(&sketches).into_iter().map(|f| (f.index, f.others)).collect();
        assert_eq!(found, [(1, vec![0]), (3, vec![0]), (9, vec![8])]);
    }
}
