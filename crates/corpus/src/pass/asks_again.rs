//! Answers that go on to ask questions that other prompts ask.

use std::collections::{BTreeMap, BTreeSet};

use super::skeleton::{Skeleton, asks_for_turns, later_requests, leads_in, led_requests, requests};
use super::{Finding, Key, SetPass, Sketch};
use crate::similar::combined;
use crate::text::mask_quotes;
use foehn_record::{Record, Role};

/// Rejects a record whose answer, after its first sentence or its first few words, asks a question of the dataset and
/// then answers it. If the answer asks the question and leaves it unanswered, or introduces it, or if its prompt asks
/// for questions or for turns, the record is flagged.
///
/// A sentence is a question of the dataset in two cases. In the first, it has four words or more and equals another
/// record's prompt, apart from what it quotes. In the second, it is of the same kind as five prompts or more; then, if
/// other text follows it, it counts as answered. Two requests are of the same kind if they have the same first four
/// words, or the same first and last three, and one of these words is a quotation or a name (which may differ): `Which
/// sense is it: 'a bell rang'?` and `Which sense is it: 'smoke'?`.
///
/// For a dataset of articles that intentionally ask and answer questions, leave out this pass, or set its verdict to
/// `flag`.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsksAgain;

/// The smallest number of prompts that form a kind.
const MIN_PROMPTS: usize = 5;

/// The tags of the hashes in a sketch.
const PROMPT: u64 = 0;
const PROMPT_KIND: u64 = 1;
const SENTENCE: u64 = 2;
const SENTENCE_KIND: u64 = 3;
const DOUBTED: u64 = 4;

impl SetPass for AsksAgain {
    fn name(&self) -> &'static str {
        "asks-again"
    }

    /// Pairs of a tag and a hash.
    fn sketch(&self, record: &Record) -> Vec<u64> {
        let (mut sketch, mut own, mut is_asked_for) = (Vec::new(), Vec::new(), false);
        for message in &record.messages {
            let masked = mask_quotes(&message.content);
            match message.role {
                Role::System | Role::Tool => {}
                Role::User => {
                    let prompts = requests(&masked);
                    own.extend(prompts.iter().map(Skeleton::exact));
                    is_asked_for |= asks_for_turns(&masked);
                    sketch.extend(prompts.iter().flat_map(|prompt| [PROMPT, prompt.exact()]));
                    // Two questions of the same kind in one prompt count as one prompt.
                    let kinds: BTreeSet<u64> = prompts.iter().flat_map(Skeleton::kinds).collect();
                    sketch.extend(kinds.into_iter().flat_map(|kind| [PROMPT_KIND, kind]));
                }
                Role::Assistant => {
                    let leads = leads_in(&masked);
                    for sentence in later_requests(&masked).chain(led_requests(&masked)) {
                        let is_own = own.contains(&sentence.exact()) && !sentence.quotes();
                        let goes_on =
                            sentence.is_answered() && !is_asked_for && !is_own && (!leads || sentence.quotes());
                        if goes_on {
                            sketch.extend([SENTENCE, sentence.exact()]);
                            sketch.extend(sentence.kinds().into_iter().flat_map(|kind| [SENTENCE_KIND, kind]));
                        } else if !is_own {
                            sketch.extend([DOUBTED, sentence.exact()]);
                        }
                    }
                }
            }
        }
        sketch
    }

    /// Prompts are looked for, and sentences look for them.
    fn keys(&self, words: &[u64]) -> Option<Vec<Key>> {
        let key = |[tag, hash]: &[u64; 2]| {
            let is_kind = [PROMPT_KIND, SENTENCE_KIND].contains(tag);
            let seeks = ![PROMPT, PROMPT_KIND].contains(tag);
            Key { hash: combined([u64::from(is_kind), *hash]), seeks }
        };
        Some(words.as_chunks::<2>().0.iter().map(key).collect())
    }

    fn judge(&self, sketches: &[Sketch<'_>]) -> Vec<Finding> {
        find(sketches, &[SENTENCE, SENTENCE_KIND], "the answer goes on to ask what the user of another record asks")
    }

    fn doubts(&self, sketches: &[Sketch<'_>]) -> Vec<Finding> {
        find(sketches, &[DOUBTED], "the answer asks what the user of another record asks, which may be meant")
    }
}

/// The records that have a sentence with one of these tags which other records ask.
fn find(sketches: &[Sketch<'_>], tags: &[u64], reason: &str) -> Vec<Finding> {
    // The first record that asks the question, and the number of records that do.
    let mut asked: BTreeMap<[u64; 2], (usize, usize)> = BTreeMap::new();
    for sketch in sketches {
        for pair in pairs(sketch).filter(|[tag, _]| [PROMPT, PROMPT_KIND].contains(tag)) {
            asked.entry(*pair).or_insert((sketch.index, 0)).1 += 1;
        }
    }
    let by = |[tag, hash]: [u64; 2]| match tag {
        SENTENCE | DOUBTED => asked.get(&[PROMPT, hash]).map(|(index, _)| *index),
        SENTENCE_KIND => {
            let (index, count) = asked.get(&[PROMPT_KIND, hash])?;
            (*count >= MIN_PROMPTS).then_some(*index)
        }
        _ => None,
    };
    let finding = |sketch: &Sketch<'_>| {
        let mut wanted = pairs(sketch).filter(|[tag, _]| tags.contains(tag));
        let other = wanted.find_map(|pair| by(*pair))?;
        Some(Finding { index: sketch.index, others: vec![other], reason: reason.to_owned() })
    };
    sketches.iter().filter_map(finding).collect()
}

fn pairs<'a>(sketch: &Sketch<'a>) -> impl Iterator<Item = &'a [u64; 2]> + use<'a> {
    sketch.words.as_chunks::<2>().0.iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = "What modality is: 'Her eyes sparkled'?";

    fn record(prompt: &str, answer: &str) -> Record {
        Record::pair(prompt, answer)
    }

    #[track_caller]
    fn check(records: &[Record], expected: &[(usize, usize)]) {
        let sketches: Vec<_> = records.iter().map(|record| AsksAgain.sketch(record)).collect();
        let sketches: Vec<_> =
            sketches.iter().enumerate().map(|(index, words)| Sketch { index, words, evidence: &[] }).collect();
        let found: Vec<_> = AsksAgain.judge(&sketches).iter().map(|f| (f.index, f.others[0])).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn questions_of_other_records_are_seen() {
        check(
            &[
                record("Which sense does it speak to: 'smoke'?", "Olfactory"),
                record(ASKED, "Visual\nWhich sense does it speak to: 'a bell'?\nAuditory"),
                record("Describe a forge in Auditory language only.", "Hammers clang."),
                record(ASKED, "Visual. Describe a forge in Auditory language only. Hammers clang."),
                record(ASKED, "Visual. Do you want more of this?"),
                record(ASKED, "Visual Which sense does it speak to: 'a bell'? Auditory"),
                record("Which of these is Gustatory?\n1. Salt.\n2. A bell.", "1. Salt."),
                record(ASKED, "Visual\nWhich of these is Gustatory?\n1. A lamp.\n2. Soup.\n\n2. Soup."),
            ],
            &[(1, 0), (3, 2), (5, 0), (7, 6)],
        );
    }

    #[test]
    fn a_kind_is_five_prompts_and_an_answer() {
        let prompts = ["a forge", "an inn", "the sea", "a barn", "a gym"]
            .map(|scene| record(&format!("Describe {scene} in Auditory language only."), "A hum."));
        let runs_on = "Visual. Describe a fair in Visual language only. Flags wave.";
        let with = |count: usize, answer: &str| {
            let mut records = prompts[..count].to_vec();
            records.push(record(ASKED, answer));
            records
        };
        check(&with(5, runs_on), &[(5, 0)]);
        check(&with(4, runs_on), &[]);
        check(&with(5, "Visual. Describe a fair in Visual language only."), &[]);
        check(&with(5, "Visual.\n# Describe a fair in Visual language only\nFlags wave."), &[]);
    }
}
