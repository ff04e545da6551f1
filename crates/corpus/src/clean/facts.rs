//! Counts facts about the kept records, for the charts of the report.

use std::collections::BTreeMap;

use super::parts::code::{Code, coded};
use crate::pass::Language;
use crate::report::{Distributions, LabelCounts, Lengths, PairLengths};
use crate::similar::Part;
use foehn_record::{Record, Role};

/// A key with more different texts than this has no labels: its values are names or free text.
const MAX_LABELS: usize = 40;

/// If a set has more metadata keys than this, only the first ones are shown.
const MAX_KEYS: usize = 32;

/// About this many bytes of a record are used to detect its language.
const LANGUAGE_BYTES: usize = 400;

/// Detecting the language takes as long as all the default passes together. After this line of a file, only a sample is
/// examined.
const ALL_LANGUAGES: u64 = 20_000;
const SOME_LANGUAGES: u64 = 16;

/// For a chart, a few wrong languages do no harm; the pass that rejects records is stricter.
const DETECTOR: Language = Language { allowed: Vec::new(), part: Part::Both, min_chars: 40, min_confidence: 0.5 };

/// The facts of one record.
#[derive(Debug)]
pub(super) struct Facts {
    prompt: usize,
    answer: usize,
    turns: usize,
    /// The characters of the chosen and of the rejected answer of a pair.
    pair: Option<[usize; 2]>,
    /// The detected language, if it can be detected. The outer `None` means that the record was not examined.
    language: Option<Option<&'static str>>,
    labels: Vec<(String, String)>,
}

coded!(Facts { prompt, answer, turns, pair, language, labels });

/// A language, by its code.
impl Code for &'static str {
    fn put(&self, to: &mut Vec<u8>) {
        (*self).to_owned().put(to);
    }

    fn get(from: &mut &[u8]) -> Option<Self> {
        whatlang::Lang::from_code(String::get(from)?).map(|lang| lang.code())
    }
}

/// The counts. If a record is rejected later, it is subtracted again.
#[derive(Debug, Default)]
pub(super) struct FactTally {
    prompt: Counts,
    answer: Counts,
    turns: Counts,
    pairs: PairLengths,
    languages: BTreeMap<Option<&'static str>, u64>,
    /// The labels of each key, in the order in which the keys appeared; `None` for a key with too many labels.
    labels: Vec<(String, Option<BTreeMap<String, u64>>)>,
}

/// The number of records with each value.
type Counts = BTreeMap<usize, u64>;

impl Facts {
    /// The facts of a record that was read from the given line.
    pub fn of(record: &Record, line: u64) -> Self {
        let characters = |role: Role| {
            let said = record.messages.iter().filter(|message| message.role == role);
            said.map(|message| message.content.chars().count()).sum()
        };
        let text = |(key, value): (&String, &serde_json::Value)| Some((key.clone(), value.as_str()?.to_owned()));
        let labels = record.metadata.iter().filter_map(text).filter(|(_, value)| value.len() <= 64);
        Self {
            prompt: characters(Role::User),
            answer: characters(Role::Assistant),
            turns: record.messages.iter().filter(|message| message.role == Role::Assistant).count(),
            pair: record
                .rejected
                .as_ref()
                .zip(record.messages.last())
                .map(|(rejected, chosen)| [&chosen.content, rejected].map(|answer| answer.chars().count())),
            language: (line <= ALL_LANGUAGES || line.is_multiple_of(SOME_LANGUAGES)).then(|| language(record)),
            labels: labels.collect(),
        }
    }
}

impl FactTally {
    pub fn add(&mut self, facts: Facts) {
        for (counts, value) in
            [(&mut self.prompt, facts.prompt), (&mut self.answer, facts.answer), (&mut self.turns, facts.turns)]
        {
            *counts.entry(value).or_default() += 1;
        }
        if let Some(lengths) = facts.pair {
            self.pairs.change(lengths, u64::wrapping_add);
        }
        if let Some(language) = facts.language {
            *self.languages.entry(language).or_default() += 1;
        }
        for (key, label) in facts.labels {
            let at = self.labels.iter().position(|(known, _)| *known == key).unwrap_or(self.labels.len());
            if at == MAX_KEYS {
                continue;
            }
            if at == self.labels.len() {
                self.labels.push((key, Some(BTreeMap::new())));
            }
            let (_, counts) = &mut self.labels[at];
            if let Some(known) = counts {
                *known.entry(label).or_default() += 1;
                if known.len() > MAX_LABELS {
                    *counts = None;
                }
            }
        }
    }

    pub fn remove(&mut self, facts: &Facts) {
        let take_from = |counts: &mut Counts, value| take(counts, &value);
        take_from(&mut self.prompt, facts.prompt);
        take_from(&mut self.answer, facts.answer);
        take_from(&mut self.turns, facts.turns);
        if let Some(lengths) = facts.pair {
            self.pairs.change(lengths, u64::wrapping_sub);
        }
        if let Some(language) = &facts.language {
            take(&mut self.languages, language);
        }
        for (key, label) in &facts.labels {
            if let Some((_, Some(counts))) = self.labels.iter_mut().find(|(known, _)| known == key) {
                take(counts, label);
            }
        }
    }

    pub fn finish(self) -> Distributions {
        let mut languages: Vec<(String, u64)> = self
            .languages
            .into_iter()
            .map(|(code, count)| (code.map_or("not told", language_name).to_owned(), count))
            .collect();
        languages.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let labels = self.labels.into_iter().filter_map(|(key, counts)| {
            let mut counts: Vec<(String, u64)> = counts?.into_iter().collect();
            counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            (!counts.is_empty()).then_some(LabelCounts { key, counts })
        });
        Distributions {
            prompt_characters: Lengths::of(&self.prompt),
            answer_characters: Lengths::of(&self.answer),
            answers: Lengths::of(&self.turns),
            pairs: Some(self.pairs).filter(|pairs| pairs.pairs > 0),
            languages,
            labels: labels.collect(),
        }
    }
}

fn take<K: Ord>(counts: &mut BTreeMap<K, u64>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

fn language_name(code: &'static str) -> &'static str {
    whatlang::Lang::from_code(code).map_or(code, |lang| lang.eng_name())
}

/// The language of the conversation, if there is enough text to detect it. For a long conversation, only its beginning
/// is used.
fn language(record: &Record) -> Option<&'static str> {
    let mut text = String::new();
    for message in record.messages.iter().filter(|message| !matches!(message.role, Role::System | Role::Tool)) {
        text.extend(message.content.chars().take(LANGUAGE_BYTES.saturating_sub(text.len())));
        text.push('\n');
    }
    DETECTOR.of(&text)
}
