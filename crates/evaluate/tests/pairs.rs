//! Pairs from the samples of a tiny random model.

#[path = "../../generate/tests/common/mod.rs"]
mod model;

use std::collections::BTreeMap;

use foehn_corpus::{Lexicon, OffTarget};
use foehn_evaluate::{
    Answer, AnswerScorer, Chosen, CommandScorer, Error, Pairs, PairsConfig, Quality, Result, Score, Subject, pairs,
};
use foehn_generate::{SamplingConfig, StopReason};
use foehn_record::{Message, Record};
use model::Tiny;
use serde_json::json;

impl Tiny {
    fn subject(&self) -> Subject<'_> {
        Subject { model: &self.model, tokenizer: &self.tokenizer, template: &self.template, base: None }
    }

    fn pairs(&self, config: &PairsConfig, scorer: &mut dyn AnswerScorer) -> Result<Pairs> {
        pairs(self.subject(), &records(), config, scorer, &mut |_, _| {})
    }
}

/// Longer answers are better.
struct Longest;

impl AnswerScorer for Longest {
    fn score(&mut self, _: &Record, answers: &[Answer]) -> Result<Vec<Score>> {
        let score = |answer: &Answer| Score { value: answer.text.trim().len() as f64, faults: Vec::new() };
        Ok(answers.iter().map(score).collect())
    }
}

fn records() -> Vec<Record> {
    let of = |n: usize| {
        let mut record = Record::pair(format!("Is it {n}?"), "a reference of some words in a row");
        record.id = Some(format!("r{n}"));
        record.group = Some(format!("g{n}"));
        record
    };
    (0..7).map(of).collect()
}

fn config() -> PairsConfig {
    let sampling = SamplingConfig { temperature: 1.0, seed: 5, ..SamplingConfig::default() };
    PairsConfig { samples: 3, sampling, max_new_tokens: 10, batch: 32, min_margin: 1.0, ..PairsConfig::default() }
}

#[test]
fn a_pair_is_the_best_and_the_worst_sample_whatever_the_batch() {
    let tiny = Tiny::new(3, 1.0);
    let found = tiny.pairs(&config(), &mut Longest).unwrap();
    assert_eq!((found.prompts, found.answers, found.pairs + found.alike), (7, 21, 7));
    assert!(found.pairs > 3 && found.chosen_longer > 0.0, "{found:?}");
    for pair in &found.records {
        let number = |key: &str| pair.metadata[key].as_f64().unwrap();
        let (chosen, rejected) = (&pair.messages.last().unwrap().content, pair.rejected.as_deref().unwrap());
        assert_eq!(number("chosen_score"), chosen.len() as f64);
        assert_eq!(number("rejected_score"), rejected.trim().len() as f64);
        assert!(chosen.len() > rejected.trim().len());
        assert_eq!(pair.metadata["chosen_from"], "sample");
        let source = records().into_iter().find(|record| record.id == pair.id).unwrap();
        assert_eq!((&pair.messages[0], &pair.group), (&source.messages[0], &source.group));
    }
    for batch in [1, 3, 7, 12] {
        assert_eq!(tiny.pairs(&PairsConfig { batch, ..config() }, &mut Longest).unwrap(), found, "{batch}");
    }
    let sampling = SamplingConfig { seed: 6, ..config().sampling };
    assert_ne!(tiny.pairs(&PairsConfig { sampling, ..config() }, &mut Longest).unwrap().records, found.records);
}

#[test]
fn the_reference_can_be_the_chosen_answer() {
    let tiny = Tiny::new(3, 1.0);
    let found = tiny.pairs(&PairsConfig { chosen: Chosen::Reference, ..config() }, &mut Longest).unwrap();
    assert_eq!(found.chosen_references, found.pairs);
    let own = records()[0].messages[1].content.clone();
    assert!(found.records.iter().all(|pair| pair.messages[1].content == own));

    // A best sample with a fault is no example: the reference takes its place.
    struct Faulty;
    impl AnswerScorer for Faulty {
        fn score(&mut self, record: &Record, answers: &[Answer]) -> Result<Vec<Score>> {
            let scores = Longest.score(record, answers)?;
            Ok(scores.into_iter().map(|score| Score { faults: vec!["bad".into()], ..score }).collect())
        }
    }
    let found = tiny.pairs(&config(), &mut Faulty).unwrap();
    assert!(found.pairs > 0 && found.chosen_references == found.pairs);
    assert_eq!((found.faulty, found.faults.clone()), (21, BTreeMap::from([("bad".to_owned(), 21)])));
}

#[test]
fn what_cannot_be_sampled_or_scored_is_an_error() {
    let tiny = Tiny::new(3, 1.0);
    let unanswered = [Record::new(vec![Message::user("Why?")])];
    let said = |found: Result<Pairs>| found.unwrap_err().to_string();
    let alone = pairs(tiny.subject(), &unanswered, &config(), &mut Longest, &mut |_, _| {});
    assert!(said(alone).contains("record 1 does not end with an answer"));
    assert!(said(tiny.pairs(&PairsConfig { samples: 0, ..config() }, &mut Longest)).contains("samples"));

    struct Broken(f64);
    impl AnswerScorer for Broken {
        fn score(&mut self, _: &Record, answers: &[Answer]) -> Result<Vec<Score>> {
            Ok(vec![Score { value: self.0, faults: Vec::new() }; answers.len() - usize::from(self.0 == 0.0)])
        }
    }
    assert!(said(tiny.pairs(&config(), &mut Broken(f64::NAN))).contains("r0"));
    assert!(said(tiny.pairs(&config(), &mut Broken(0.0))).contains("expected 4 finite numbers"));
}

#[test]
fn a_program_can_be_the_scorer() {
    let tiny = Tiny::new(3, 1.0);
    // A constant list is enough to see that the lines go back and forth.
    let mut constant = CommandScorer::new("while read -r line; do echo '[3, 2, 1, 0]'; done").unwrap();
    let found = tiny.pairs(&config(), &mut constant).unwrap();
    for pair in &found.records {
        assert_eq!((&pair.metadata["chosen_score"], &pair.metadata["rejected_score"]), (&json!(3.0), &json!(1.0)));
    }
    let said = |command: &str| {
        let mut scorer = CommandScorer::new(command).unwrap();
        match tiny.pairs(&config(), &mut scorer).unwrap_err() {
            Error::Scorer { reason, .. } => reason,
            other => panic!("{other}"),
        }
    };
    assert!(said("read line; echo nonsense").contains("`nonsense`, expected a list of numbers"));
    assert!(said("exit 1").contains("ended before it scored the answers to r0"));
    assert!(said("read line").contains("ended before it scored the answers to r0"));
}

/// Faults that can be seen without a model, and the fluency as the mean of the model's own log-probabilities.
#[test]
fn quality_is_fluency_less_faults() {
    let tiny = Tiny::new(3, 1.0);
    let lexicon = [("Visual", vec!["red", "glow"]), ("Auditory", vec!["loud", "hum"])];
    let lexicon = lexicon.map(|(class, words)| (class.to_owned(), words.into_iter().map(str::to_owned).collect()));
    let off_target = Some(OffTarget::new(Lexicon::new(lexicon.into()).unwrap()));
    let mut quality = Quality { subject: tiny.subject(), judge: &tiny.model, off_target, fault_cost: 2.0 };
    let mut record = Record::pair("Describe a lamp.", "The lamp is red and it has a soft glow at night.");
    record.metadata.insert("task".into(), "describe".into());
    record.metadata.insert("sense".into(), "Visual".into());
    let answer =
        |text: &str| Answer { text: text.into(), tokens: 0, stop: StopReason::Eos, goes_on: None, control_text: None };
    let cases = [
        (answer("The lamp is red, and its light lies on the table."), &[][..]),
        (answer("A red, loud lamp hangs over the table in the hall."), &["words of another class"]),
        (answer("The lamp hangs over the long table in the hall."), &["no word of its class"]),
        (answer("The red lamp is the red lamp is the lamp."), &["repeats three words"]),
        (answer("Red."), &["too short"]),
        (answer(""), &["too short", "no word of its class"]),
        (answer("A red lamp \"of glass\" hangs over the table in the hall."), &["quotes what is not said"]),
        (
            Answer { stop: StopReason::MaxTokens, ..answer("The red lamp hangs in the hall and then") },
            &["does not end"],
        ),
        (Answer { goes_on: Some("so".into()), ..answer("The red lamp is on. Is it on? It is on.") }, &["goes on"]),
    ];
    let answers: Vec<Answer> = cases.iter().map(|(answer, _)| answer.clone()).collect();
    let scores = quality.score(&record, &answers).unwrap();
    for ((answer, faults), score) in cases.iter().zip(&scores) {
        assert_eq!(score.faults, *faults, "{}", answer.text);
        let fluency = score.value + 2.0 * faults.len() as f64;
        if answer.text.is_empty() {
            assert_eq!(fluency, -20.0);
            continue;
        }
        let messages = [record.messages[0].clone(), Message::assistant(answer.text.as_str())];
        let sample = tiny.template.sample(&tiny.tokenizer, &messages).unwrap();
        let expected = foehn_score::log_probs(&tiny.model, &[&sample], 1000).unwrap().remove(0);
        let mean = expected.iter().copied().map(f64::from).sum::<f64>() / expected.len() as f64;
        assert!((fluency - mean).abs() < 1e-4, "{}: {fluency} {mean}", answer.text);
    }

    // An answer that is a label, or one of those in the question, is right or wrong.
    let label = Record::pair("What sense is 'a red lamp'?", "Visual");
    let option =
        Record::pair("Which is red?\n1. The lamp glows in the hall.\n2. A bell.", "1. The lamp glows in the hall.");
    for (record, right, wrong) in
        [(label, "visual.", "Auditory"), (option, "1. The lamp glows in the hall.", "2. A bell.")]
    {
        let scores = quality.score(&record, &[answer(right), answer(wrong)]).unwrap();
        assert_eq!((scores[0].faults.len(), scores[1].faults.as_slice()), (0, &["another answer".to_owned()][..]));
    }
}
