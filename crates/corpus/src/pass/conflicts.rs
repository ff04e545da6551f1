//! The same question with different labels.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::duplicates::hash_prefixes;
use super::{Finding, Key, SetPass, Sketch};
use crate::meaning::{exact_form, label};
use crate::similar::combined;
use crate::text::{hash, quoted_span};
use foehn_record::{Record, Role};

/// Rejects all records that answer the same question with different short answers: it is not known which one is right.
/// Nor is it if one pair prefers an answer that another pair rejects for the same other answer.
///
/// The question is the conversation before the answer, in a form that keeps symbols and capitals with a meaning: `\d`
/// and `\D` are two questions. In a record whose `task` is [`span_task`](Self::span_task), the sentence that the prompt
/// quotes is also a question, whatever the rest of the prompt says.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conflicts {
    /// The largest number of words of an answer that counts as a label. Of two longer answers, both may be right.
    pub max_words: usize,
    /// The task whose prompts quote a sentence and ask for its label.
    pub span_task: String,
}

impl Default for Conflicts {
    fn default() -> Self {
        Self { max_words: 4, span_task: "recognise".to_owned() }
    }
}

/// The largest number of records with other answers that a rejection names.
const MAX_OTHERS: usize = 8;

impl SetPass for Conflicts {
    fn name(&self) -> &'static str {
        "conflict"
    }

    /// Two words of a question and one of its answer, for every question with a short answer.
    fn sketch(&self, record: &Record) -> Vec<u64> {
        let mut sketch = Vec::new();
        for (at, (message, [high, low])) in record.messages.iter().zip(hash_prefixes(record)).enumerate() {
            // One question may be looked up in several ways.
            if message.role != Role::Assistant || !message.tool_calls.is_empty() {
                continue;
            }
            if message.content.split_whitespace().count() > self.max_words {
                continue;
            }
            let [answer, _] = hash(&[&label(&message.content)]);
            sketch.extend([high, low, answer]);
            if let Some([high, low]) = self.span(record, at) {
                sketch.extend([high, low, answer]);
            }
        }
        sketch.extend(preference(record).into_iter().flatten());
        sketch
    }

    fn keys(&self, words: &[u64]) -> Option<Vec<Key>> {
        let key = |[high, low, _]: &[u64; 3]| Key { hash: combined([*high, *low]), seeks: true };
        Some(words.as_chunks::<3>().0.iter().map(key).collect())
    }

    fn judge(&self, sketches: &[Sketch<'_>]) -> Vec<Finding> {
        let mut answers: BTreeMap<[u64; 2], Vec<(usize, u64)>> = BTreeMap::new();
        for sketch in sketches {
            for (question, answer) in questions(sketch) {
                answers.entry(question).or_default().push((sketch.index, answer));
            }
        }
        answers.retain(|_, given| given.iter().any(|(_, answer)| *answer != given[0].1));
        let findings = sketches.iter().filter_map(|sketch| {
            let mut others: Vec<usize> = questions(sketch)
                .filter_map(|(question, answer)| Some((answers.get(&question)?, answer)))
                .flat_map(|(given, answer)| {
                    let against = given.iter().filter(move |(_, other)| *other != answer);
                    against.take(MAX_OTHERS).map(|(index, _)| *index)
                })
                .collect();
            others.sort_unstable();
            others.dedup();
            others.truncate(MAX_OTHERS);
            (!others.is_empty()).then(|| Finding {
                index: sketch.index,
                others,
                reason: "the same question has another answer elsewhere".to_owned(),
            })
        });
        findings.collect()
    }
}

impl Conflicts {
    /// The hash of the sentence that is quoted in the user's message before the first answer.
    fn span(&self, record: &Record, answer: usize) -> Option<[u64; 2]> {
        let is_first = record.messages[..answer].iter().all(|message| message.role != Role::Assistant);
        if !is_first || record.text("task") != Some(self.span_task.as_str()) {
            return None;
        }
        let prompt = record.messages[..answer].last()?;
        let span = exact_form(quoted_span(&prompt.content)?);
        Some(hash(&["span", &self.span_task, &span]))
    }
}

/// Which of two answers is better is a question too: the words of the question and one of its answer.
fn preference(record: &Record) -> Option<[u64; 3]> {
    let chosen = record.messages.last().filter(|chosen| chosen.tool_calls.is_empty())?;
    let (chosen, rejected) = (exact_form(&chosen.content), exact_form(record.rejected.as_ref()?));
    let [high, low] = *hash_prefixes(record).get(record.messages.len() - 1)?;
    let (first, second) = if chosen < rejected { (&chosen, &rejected) } else { (&rejected, &chosen) };
    let [high, low] = hash(&["preference", &format!("{high:x} {low:x}"), first, second]);
    let [answer, _] = hash(&[&chosen]);
    Some([high, low, answer])
}

/// The questions of a sketch, with their answers.
fn questions<'a>(sketch: &Sketch<'a>) -> impl Iterator<Item = ([u64; 2], u64)> + use<'a> {
    let (triples, _) = sketch.words.as_chunks::<3>();
    triples.iter().map(|[high, low, answer]| ([*high, *low], *answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use foehn_record::Message;

    fn record(task: &str, prompt: &str, answer: &str) -> Record {
        Record {
            id: None,
            messages: vec![Message::new(Role::User, prompt), Message::new(Role::Assistant, answer)],
            tools: Vec::new(),
            rejected: None,
            metadata: [("task".to_owned(), task.into())].into_iter().collect(),
            group: None,
        }
    }

    #[track_caller]
    fn check(records: &[Record], expected: &[(usize, &[usize])]) {
        let pass = Conflicts::default();
        let sketches: Vec<_> = records.iter().map(|record| pass.sketch(record)).collect();
        let sketches: Vec<_> =
            sketches.iter().enumerate().map(|(index, words)| Sketch { index, words, evidence: &[] }).collect();
        let found = pass.judge(&sketches);
        let found: Vec<_> = found.iter().map(|finding| (finding.index, finding.others.as_slice())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_side_of_a_conflict_goes() {
        check(
            &[
                record("x", "What modality is: 'rain'?", "Auditory"),
                record("x", "what modality is: \"Rain\"", "Visual."),
                record("x", "What modality is: 'rain'?", "auditory."),
                record("x", "What modality is: 'snow'?", "Visual"),
            ],
            &[(0, &[1]), (1, &[0, 2]), (2, &[1])],
        );
    }

    #[test]
    fn a_quoted_sentence_is_one_question_however_it_is_put() {
        let other = |task: &str| {
            [
                record(task, "What modality is: 'That's it'?", "Visual"),
                record(task, "Name the modality of 'that's it'.", "Auditory"),
            ]
        };
        check(&other("recognise"), &[(0, &[1]), (1, &[0])]);
        check(&other("rewrite"), &[]);
    }

    #[test]
    fn questions_that_differ_in_a_symbol_are_two() {
        for (left, right) in [
            ("Which type is ()?", "Which type is []?"),
            (r"What is \w for?", r"What is \W for?"),
            ("What is NO?", "What is No?"),
            ("What is 3² + 4?", "What is 32 + 4?"),
            ("Compute 6!", "Compute 6"),
            ("5 * (1 + 2)", "5 * 1 + 2"),
        ] {
            check(&[record("x", left, "One"), record("x", right, "Two")], &[]);
        }
        check(&[record("x", "Say one.", "It's ok"), record("x", "Say one!", "Its ok")], &[]);
        check(&[record("x", "Negate it.", "not (a)"), record("x", "Negate it.", "(not a)")], &[(0, &[1]), (1, &[0])]);
    }

    #[test]
    fn long_answers_may_differ() {
        check(
            &[
                record("x", "Describe rain.", "Grey threads slide down the glass."),
                record("x", "Describe rain.", "Silver needles cross the dark yard."),
            ],
            &[],
        );
    }
}
