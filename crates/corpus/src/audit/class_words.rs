//! Finds words that reveal the class.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Audit, Section, Tally};
use crate::similar::Part;
use crate::text::words;
use foehn_record::Record;

/// Finds words that reveal a record's class, so that a model could learn these words instead of the task.
///
/// For every word and class it computes the log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi and
/// Quinn, "Fightin' Words", Political Analysis 16, 2008) between the class and all other classes, over the number of
/// records with the word. A word is reported if the ratio is at least [`min_z`](Self::min_z) standard deviations above
/// 0. A rare word needs a strong association to reach this; a word that all classes use equally never does. Memory
/// holds one number for each word and class with it.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassWords {
    /// The metadata key whose text is the class.
    pub class: String,
    /// The part of the conversation whose words are counted.
    pub part: Part,
    /// The tasks whose records are counted; an empty list means all records.
    pub tasks: Vec<String>,
    /// The smallest number of records of the class with a reported word.
    pub min_records: u64,
    /// The smallest number of standard deviations.
    pub min_z: f64,
    /// The largest number of words per class.
    pub top: usize,
    /// The weight of the prior: the number of words, distributed as in the whole set, that are added to each class.
    pub prior: f64,
}

impl Default for ClassWords {
    /// For each `label`, the 20 words of the prompts with the strongest association that are in 3 records or more
    /// and at least 2.58 standard deviations above 0 (a chance of 0.5% for a word without association); a prior of 500
    /// words.
    fn default() -> Self {
        Self {
            class: "label".to_owned(),
            part: Part::Prompt,
            tasks: Vec::new(),
            min_records: 3,
            min_z: 2.58,
            top: 20,
            prior: 500.0,
        }
    }
}

/// The result of [`ClassWords`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassWordsReport {
    /// The key whose text is the class.
    pub class: String,
    /// The part whose words were counted.
    pub part: Part,
    /// The tasks whose records were counted; an empty list means all records.
    pub tasks: Vec<String>,
    /// The number of records counted.
    pub records: u64,
    /// The words, the strongest association first.
    pub words: Vec<ClassWord>,
}

/// A word that reveals a class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassWord {
    /// The word, case-folded.
    pub word: String,
    /// The class.
    pub class: String,
    /// The number of records of the class with the word.
    pub records: u64,
    /// The number of records of all classes with the word.
    pub all_records: u64,
    /// The pointwise mutual information of word and class, in bits. It is 1 if a word is twice as frequent in the class
    /// as in all records.
    pub pmi: f64,
    /// The log-odds ratio, in nats.
    pub log_odds: f64,
    /// The log-odds ratio in standard deviations.
    pub z: f64,
}

impl Audit for ClassWords {
    fn name(&self) -> &'static str {
        "class-words"
    }

    fn tally(&self) -> Box<dyn Tally> {
        Box::new(Counts { audit: self.clone(), classes: BTreeMap::new(), words: BTreeMap::new() })
    }
}

struct Counts {
    audit: ClassWords,
    /// The number of records of each class.
    classes: BTreeMap<String, u64>,
    /// For each word, the number of records of each class with the word.
    words: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Tally for Counts {
    fn add(&mut self, record: &Record) {
        let ClassWords { class, part, tasks, .. } = &self.audit;
        let Some(class) = record.text(class) else {
            return;
        };
        if !tasks.is_empty() && !record.text("task").is_some_and(|task| tasks.iter().any(|known| known == task)) {
            return;
        }
        *self.classes.entry(class.to_owned()).or_default() += 1;
        let texts = record.messages.iter().filter(|message| part.holds(message.role));
        // A word counts once per record, however often the record has it.
        let found: BTreeSet<String> = texts.flat_map(|message| words(&message.content)).collect();
        for word in found {
            *self.words.entry(word).or_default().entry(class.to_owned()).or_default() += 1;
        }
    }

    fn section(self: Box<Self>) -> Section {
        let Self { audit, classes, words } = *self;
        let mut of_class: BTreeMap<&str, f64> = BTreeMap::new();
        for (class, records) in words.values().flatten() {
            *of_class.entry(class).or_default() += *records as f64;
        }
        let counted =
            Counted { prior: audit.prior.max(1e-9), all: of_class.values().sum(), of_class, classes: &classes };
        let mut found: BTreeMap<&str, Vec<ClassWord>> = BTreeMap::new();
        for (word, by_class) in &words {
            for (class, records) in by_class.iter().filter(|(_, records)| **records >= audit.min_records) {
                let judged = counted.judge(word, class, *records, by_class.values().sum());
                if judged.z >= audit.min_z {
                    found.entry(class).or_default().push(judged);
                }
            }
        }
        let more_telling = |a: &ClassWord, b: &ClassWord| b.z.total_cmp(&a.z).then_with(|| a.word.cmp(&b.word));
        for words in found.values_mut() {
            words.sort_by(more_telling);
            words.truncate(audit.top);
        }
        let mut found: Vec<ClassWord> = found.into_values().flatten().collect();
        found.sort_by(more_telling);
        let records = classes.values().sum();
        let ClassWords { class, part, tasks, .. } = audit;
        Section::ClassWords(ClassWordsReport { class, part, tasks, records, words: found })
    }
}

/// The totals: the number of words counted in each class, and in all classes.
struct Counted<'a> {
    prior: f64,
    all: f64,
    of_class: BTreeMap<&'a str, f64>,
    classes: &'a BTreeMap<String, u64>,
}

impl Counted<'_> {
    /// The word's association with the class, given the number of records of the class and of all classes with the
    /// word.
    fn judge(&self, word: &str, class: &str, records: u64, all_records: u64) -> ClassWord {
        let (here, elsewhere) = (records as f64, (all_records - records) as f64);
        let in_class = self.of_class.get(class).copied().unwrap_or_default();
        let prior = self.prior * all_records as f64 / self.all;
        let odds = |word: f64, all: f64| (word + prior) / (all + self.prior - word - prior);
        let log_odds = (odds(here, in_class) / odds(elsewhere, self.all - in_class)).ln();
        let z = log_odds / (1.0 / (here + prior) + 1.0 / (elsewhere + prior)).sqrt();
        let total: u64 = self.classes.values().sum();
        let in_share = here / self.classes.get(class).copied().unwrap_or(1) as f64;
        let pmi = (in_share / (all_records as f64 / total as f64)).log2();
        ClassWord { word: word.to_owned(), class: class.to_owned(), records, all_records, pmi, log_odds, z }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foehn_record::{Message, Role};

    const CLASSES: [&str; 3] = ["Auditory", "Gustatory", "Visual"];

    fn record(at: usize, prompt: &str) -> Record {
        Record {
            id: None,
            messages: vec![Message::new(Role::User, prompt), Message::new(Role::Assistant, CLASSES[at % 3])],
            tools: Vec::new(),
            rejected: None,
            metadata: [("label".to_owned(), CLASSES[at % 3].into())].into_iter().collect(),
            group: None,
        }
    }

    fn report(audit: ClassWords, records: &[Record]) -> ClassWordsReport {
        let mut tally = audit.tally();
        records.iter().for_each(|record| tally.add(record));
        match tally.section() {
            Section::ClassWords(report) => report,
            other => panic!("{other:?}"),
        }
    }

    /// Prompts in which every class has every word equally often, except the planted words.
    fn records(plants: &[(&str, usize)]) -> Vec<Record> {
        let mut records: Vec<Record> = (0..90)
            .map(|at| {
                record(at, &format!("What is it: the word{} of a day and word{}", letter(at / 3), letter(at / 6)))
            })
            .collect();
        for (word, class) in plants {
            for record in records.iter_mut().skip(*class).step_by(3).take(9) {
                record.messages[0].content.push_str(&format!(" {word}, {word}"));
            }
        }
        records
    }

    fn letter(at: usize) -> char {
        char::from(b'a' + (at % 26) as u8)
    }

    #[test]
    fn planted_words_are_found_and_no_others() {
        assert_eq!(report(ClassWords::default(), &records(&[])).words, []);
        let plants = [("harbour", 0), ("thyme", 1), ("slates", 2)];
        let found = report(ClassWords::default(), &records(&plants));
        assert_eq!(found.records, 90);
        let mut words: Vec<_> = found.words.iter().map(|w| (w.word.as_str(), w.class.as_str(), w.records)).collect();
        words.sort_unstable();
        assert_eq!(words, [("harbour", "Auditory", 9), ("slates", "Visual", 9), ("thyme", "Gustatory", 9)]);
        // A word that occurs in only one of three equal classes: log2 3.
        assert!(found.words.iter().all(|word| (word.pmi - 3f64.log2()).abs() < 1e-12 && word.all_records == 9));
    }

    #[test]
    fn the_log_odds_are_those_of_the_paper() {
        // By hand: 4 of 8 words in the class, 1 of 8 elsewhere, a prior of 16 words: 5 of them this one.
        let classes = [("a".to_owned(), 1), ("b".to_owned(), 1)].into();
        let counted = Counted { prior: 16.0, all: 16.0, of_class: [("a", 8.0), ("b", 8.0)].into(), classes: &classes };
        let found = counted.judge("w", "a", 4, 5);
        let expected = (9f64 / 15.0).ln() - (6f64 / 18.0).ln();
        assert!((found.log_odds - expected).abs() < 1e-12);
        assert!((found.z - expected / (1.0 / 9.0 + 1.0 / 6.0f64).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn parts_and_tasks_are_told_apart() {
        let records = records(&[("harbour", 0)]);
        let answers = ClassWords { part: Part::Answer, ..ClassWords::default() };
        let mut words: Vec<_> = report(answers, &records).words.into_iter().map(|word| word.word).collect();
        words.sort_unstable();
        assert_eq!(words, ["auditory", "gustatory", "visual"]);
        let elsewhere = ClassWords { tasks: vec!["describe".to_owned()], ..ClassWords::default() };
        assert_eq!(report(elsewhere, &records).records, 0);
    }
}
