//! Pairs of a better and a worse answer, from the model's own samples.

mod command;
mod quality;

use std::collections::BTreeMap;

use foehn_generate::{GenerateConfig, SamplingConfig, generate};
use foehn_record::{Conversation, Message, Record, Role};
use serde::{Deserialize, Serialize};

pub use command::CommandScorer;
pub use quality::Quality;

use crate::run::Subject;
use crate::{Answer, Error, Result};

/// How answers are sampled, and which of them make a pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PairsConfig {
    /// The number of answers that are sampled for each prompt, at least 1.
    pub samples: usize,
    /// How they are sampled. The stream is not used: sample `j` of prompt `i` has the stream `i · samples + j`, so that
    /// it does not depend on the batch.
    pub sampling: SamplingConfig,
    /// The longest answer, in tokens.
    pub max_new_tokens: usize,
    /// The number of answers that are computed at once.
    pub batch: usize,
    /// Which answer is the better one of a pair.
    pub chosen: Chosen,
    /// The smallest difference of the two scores.
    pub min_margin: f64,
}

/// Which answer is the better one of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Chosen {
    /// The best sample, if it has no fault; otherwise the record's own answer.
    #[default]
    Best,
    /// The record's own answer.
    Reference,
}

impl Default for PairsConfig {
    fn default() -> Self {
        let sampling = SamplingConfig { temperature: 0.8, min_p: Some(0.05), ..SamplingConfig::default() };
        Self { samples: 4, sampling, max_new_tokens: 128, batch: 32, chosen: Chosen::Best, min_margin: 0.5 }
    }
}

/// What a scorer thinks of an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Larger is better.
    pub value: f64,
    /// What is wrong with the answer, in a few words each.
    pub faults: Vec<String>,
}

/// Scores the answers to a record's question.
pub trait AnswerScorer {
    /// One score for each answer.
    ///
    /// # Errors
    /// Whatever keeps the scorer from judging.
    fn score(&mut self, record: &Record, answers: &[Answer]) -> Result<Vec<Score>>;
}

/// The pairs of a set of records, and how they came about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pairs {
    /// The records with both answers: the last message, and [`Record::rejected`]. Their metadata says where the chosen
    /// answer comes from (`chosen_from`: `sample` or `reference`), the faults of the rejected one (`rejected_faults`),
    /// and the scores of both (`chosen_score`, `rejected_score`).
    #[serde(skip)]
    pub records: Vec<Record>,
    /// The number of prompts.
    pub prompts: usize,
    /// The number of sampled answers.
    pub answers: usize,
    /// The number of pairs.
    pub pairs: usize,
    /// The prompts without a pair, because their answers are the same or their scores are too near to each other.
    pub alike: usize,
    /// The pairs whose chosen answer is the record's own.
    pub chosen_references: usize,
    /// The sampled answers that have a fault.
    pub faulty: usize,
    /// The number of sampled answers with each fault.
    pub faults: BTreeMap<String, usize>,
    /// The share of pairs whose chosen answer has more words than the rejected one. Far from a half, a model learns
    /// from the pairs to be long or short.
    pub chosen_longer: f64,
}

/// Samples answers to the question of each record (all before its last answer) and makes at most one pair of each: the
/// better answer and the worst one by the scorer. `on_progress` gets the sampled answers and their whole number.
///
/// The samples of a prompt share its computation. The same model, records and config give the same pairs, whatever
/// `batch` is, if the scorer does too.
///
/// # Errors
/// [`Error::Setting`], [`Error::NoAnswer`] for a record that does not end with an answer, [`Error::Tokens`] and
/// [`Error::Generate`], and those of the scorer.
pub fn pairs(
    subject: Subject<'_>,
    records: &[Record],
    config: &PairsConfig,
    scorer: &mut dyn AnswerScorer,
    on_progress: &mut dyn FnMut(usize, usize),
) -> Result<Pairs> {
    config.check()?;
    subject.check(true)?;
    let questions = records.iter().enumerate().map(question).collect::<Result<Vec<_>>>()?;
    let prompts = records
        .iter()
        .zip(&questions)
        .map(|(record, messages)| Conversation::from(record).with_messages(messages))
        .map(|question| Ok(subject.template.prompt(subject.tokenizer, question)?))
        .collect::<Result<Vec<_>>>()?;
    let (mut found, total) = (Pairs::default(), records.len() * config.samples);
    let at_once = (config.batch / config.samples).max(1);
    for (chunk, prompts) in prompts.chunks(at_once).enumerate() {
        let first = chunk * at_once;
        let copies: Vec<Vec<u32>> =
            prompts.iter().flat_map(|prompt| std::iter::repeat_n(prompt.clone(), config.samples)).collect();
        let sampling = SamplingConfig { stream: (first * config.samples) as u64, ..config.sampling.clone() };
        let generate_config =
            GenerateConfig { max_new_tokens: config.max_new_tokens, sampling, ..GenerateConfig::default() };
        let generations = generate(subject.model, subject.tokenizer, &copies, &generate_config)?;
        let mut generations = generations.into_iter();
        for record in &records[first..first + prompts.len()] {
            let question = question_text(record);
            let answers: Vec<Answer> = generations
                .by_ref()
                .take(config.samples)
                .map(|generation| Answer::of(subject, &[], &[], question, generation))
                .collect();
            found.add(record, answers, config, scorer)?;
        }
        on_progress((first + prompts.len()) * config.samples, total);
    }
    let longer = |record: &&Record| {
        let rejected = record.rejected.as_deref().unwrap_or_default();
        reference(record).split_whitespace().count() > rejected.split_whitespace().count()
    };
    found.pairs = found.records.len();
    found.chosen_longer = crate::measure::ratio(found.records.iter().filter(longer).count() as f64, found.pairs as f64);
    Ok(found)
}

impl PairsConfig {
    fn check(&self) -> Result<()> {
        self.sampling.check()?;
        let counts = [("samples", self.samples), ("max_new_tokens", self.max_new_tokens), ("batch", self.batch)];
        match counts.into_iter().find(|(_, count)| *count == 0) {
            None => Ok(()),
            Some((field, found)) => Err(Error::Setting { field, found, expected: "at least 1" }),
        }
    }
}

impl Pairs {
    fn add(
        &mut self,
        record: &Record,
        answers: Vec<Answer>,
        config: &PairsConfig,
        scorer: &mut dyn AnswerScorer,
    ) -> Result<()> {
        self.prompts += 1;
        self.answers += answers.len();
        let own = Answer::whole(reference(record));
        let all: Vec<Answer> = answers.into_iter().chain([own]).collect();
        let mut scores = scorer.score(record, &all)?;
        if scores.len() != all.len() || scores.iter().any(|score| !score.value.is_finite()) {
            let found = scores.iter().map(|score| score.value).collect();
            return Err(Error::Scores { record: name(record), found, expected: all.len() });
        }
        let (own_score, own) = (scores.pop(), all.last());
        for score in &scores {
            self.faulty += usize::from(!score.faults.is_empty());
            score.faults.iter().for_each(|fault| *self.faults.entry(fault.clone()).or_default() += 1);
        }
        let scored = || scores.iter().zip(&all);
        let by_value = |a: &(&Score, &Answer), b: &(&Score, &Answer)| a.0.value.total_cmp(&b.0.value);
        let sound = scored().filter(|(score, _)| score.faults.is_empty() && config.chosen == Chosen::Best);
        let (best, worst) = (sound.max_by(by_value), scored().min_by(by_value));
        let is_sample = best.is_some();
        let chosen = best.or(own_score.as_ref().zip(own));
        let pair = chosen.zip(worst).filter(|((better, chosen), (worse, rejected))| {
            chosen.text.trim() != rejected.text.trim() && better.value - worse.value >= config.min_margin
        });
        let Some(((better, chosen), (worse, rejected))) = pair else {
            self.alike += 1;
            return Ok(());
        };
        self.chosen_references += usize::from(!is_sample);
        let mut pair = record.clone();
        pair.messages.pop();
        pair.messages.push(Message::assistant(chosen.text.trim()));
        pair.rejected = Some(rejected.text.clone());
        for (key, value) in [
            ("chosen_from", if is_sample { "sample".into() } else { "reference".into() }),
            ("chosen_score", rounded(better.value).into()),
            ("rejected_score", rounded(worse.value).into()),
            ("rejected_faults", worse.faults.clone().into()),
        ] {
            pair.metadata.insert(key.to_owned(), value);
        }
        self.records.push(pair);
        Ok(())
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn name(record: &Record) -> String {
    record.id.clone().unwrap_or_else(|| question_text(record).to_owned())
}

/// The text of a record's own answer, its last message.
fn reference(record: &Record) -> &str {
    record.messages.last().map_or("", |message| message.content.as_str())
}

/// The text of the message that a record's own answer is for.
fn question_text(record: &Record) -> &str {
    record.messages.iter().rev().nth(1).map_or("", |message| message.content.as_str())
}

/// All messages of a record before its own answer.
fn question((at, record): (usize, &Record)) -> Result<&[Message]> {
    let is_text = |last: &Message| last.tool_calls.is_empty() && last.reasoning_content.is_none();
    match record.messages.split_last() {
        Some((last, before)) if last.role == Role::Assistant && is_text(last) && !before.is_empty() => Ok(before),
        _ => Err(Error::NoAnswer { record: record.id.clone().unwrap_or_else(|| (at + 1).to_string()) }),
    }
}
