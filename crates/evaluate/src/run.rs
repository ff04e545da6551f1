//! Evaluates one model on one suite.

use std::collections::BTreeSet;

use foehn_mistral::Mistral;
use foehn_record::{Conversation, Message};
use foehn_tokens::{ChatTemplate, Sample, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::calibration::Reliability;
use crate::choice::{self, ChoiceFigures};
use crate::measure::{Better, Classified, Measure, share};
use crate::{
    Answer, Choice, Decoding, Error, Item, Judge, Matrix, Result, Scorer, Suite, Task, answer, describe, fluency,
    reference,
};

/// The model to measure, with or without an adapter, and its tokenizer and template.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The model. If it has an adapter, autodiff must not track it.
    pub model: &'a Mistral,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The template of training.
    pub template: &'a ChatTemplate,
    /// The model without an adapter, which says how fluent texts and descriptions are. `None` leaves that figure out.
    pub base: Option<&'a Mistral>,
}

/// The size of an evaluation, and how answers are generated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateConfig {
    /// The largest number of rows of one scoring pass.
    pub max_rows: usize,
    /// The number of answers generated in one batch.
    pub batch: usize,
    /// The most questions of a task that are answered in words, at equal distances; `None` means all. Likelihoods are
    /// always measured for all.
    pub answers: Option<usize>,
    /// How the answers are generated whose text is judged.
    pub decoding: Decoding,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self { max_rows: 512, batch: 16, answers: None, decoding: Decoding::default() }
    }
}

/// All results of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The name of the model in the report.
    pub name: String,
    /// The results of each task, in the suite's order.
    pub tasks: Vec<TaskRun>,
}

/// The results of one model in one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRun {
    /// Figures that are sums over the items.
    pub measures: Vec<Measure>,
    /// The predicted labels.
    pub classified: Vec<Classified>,
    /// How sure the model is of its labels, and how often it is right; `None` without labels or options.
    pub reliability: Option<Reliability>,
    /// The classes of the words in descriptions for each class.
    pub leakage: Option<Matrix>,
    /// The results of each item, in the task's order.
    pub items: Vec<ItemRun>,
}

/// The results of one model for one item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ItemRun {
    /// The label or option that is most likely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<String>,
    /// `scores[prompt][option]`: summed log-likelihoods of the options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<Vec<f64>>,
    /// The same after the questions without their content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prior: Vec<Vec<f64>>,
    /// The generated answers, one for each seed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
}

impl EvaluateConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Setting`], naming the field, and [`Error::Generate`] for the decoding.
    pub fn check(&self) -> Result<()> {
        let counts = [
            ("max_rows", self.max_rows),
            ("batch", self.batch),
            ("answers", self.answers.unwrap_or(1)),
            ("decoding.seeds", self.decoding.seeds.len()),
        ];
        self.decoding.sampling.check()?;
        match counts.into_iter().find(|(_, count)| *count == 0) {
            None => Ok(()),
            Some((field, found)) => Err(Error::Setting { field, found, expected: "at least 1" }),
        }
    }
}

/// Measures a model. `on_progress` gets the work done and the whole work, in answers: an answer counts as much as eight
/// scored texts.
///
/// Only the decoding is random, and it has seeds: the same model on the same device gives the same result.
///
/// # Errors
/// [`Error::Setting`], [`Error::TokenizerMismatch`], [`Error::Tokens`], [`Error::Render`], [`Error::Generate`],
/// [`Error::NonFiniteScore`], [`Error::LabelNotRendered`].
pub fn evaluate(
    name: &str,
    subject: Subject<'_>,
    suite: &Suite,
    config: &EvaluateConfig,
    on_progress: &mut dyn FnMut(usize, usize),
) -> Result<Evaluation> {
    config.check()?;
    // A model without a chat template can still be measured on texts.
    let asks = suite.tasks.iter().flat_map(|task| &task.items).any(|item| !item.prompts.is_empty());
    subject.check(asks)?;
    let total = suite.tasks.iter().map(|task| work(task, config)).sum::<usize>();
    let (mut done, mut scored) = (0, 0);
    let mut report = |answers: usize, texts: usize| {
        scored += texts;
        done += answers + scored / TEXTS;
        scored %= TEXTS;
        on_progress(done.min(total), total);
    };
    let tasks = suite.tasks.iter().map(|task| run(subject, task, config, &mut report)).collect::<Result<_>>()?;
    on_progress(total, total);
    Ok(Evaluation { name: name.to_owned(), tasks })
}

/// The number of scored texts that take about as long as an answer.
const TEXTS: usize = 8;

/// The work of a task, in answers.
fn work(task: &Task, config: &EvaluateConfig) -> usize {
    let texts = match &task.judge {
        Judge::Choice(choice) => choice::count(choice, &task.items),
        Judge::Text(_) | Judge::Describe(_) => 0,
        Judge::Likelihood => task.items.len(),
    };
    let likelihoods = if task.scorers().contains(&Scorer::Likelihood) { task.items.len() } else { 0 };
    asked(task, config).len() * config.decoding.of(task).seeds.len() + (texts + likelihoods) / TEXTS
}

/// The items whose answers are generated, at equal distances. A scene that is asked for every label is first asked for
/// one, each scene for another, then for a second: the more scenes, the more the answers say.
fn asked(task: &Task, config: &EvaluateConfig) -> Vec<usize> {
    if task.max_new_tokens == 0 {
        return Vec::new();
    }
    let labels = if matches!(task.judge, Judge::Describe(_)) { task.labels().len() } else { 1 };
    spread(task.items.len() / labels, labels, config.answers.unwrap_or(task.items.len()))
}

/// `answers` of the items of scenes that are asked for each label.
fn spread(scenes: usize, labels: usize, answers: usize) -> Vec<usize> {
    let mut left = answers.min(scenes * labels);
    let mut asked = BTreeSet::new();
    for round in 0..labels {
        let count = left.min(scenes);
        left -= count;
        for at in 0..count {
            let scene = at * scenes / count * labels;
            let fresh = (0..labels).map(|turn| scene + (at + round + turn) % labels).find(|item| !asked.contains(item));
            asked.extend(fresh);
        }
    }
    asked.into_iter().collect()
}

fn run(
    subject: Subject<'_>,
    task: &Task,
    config: &EvaluateConfig,
    report: &mut dyn FnMut(usize, usize),
) -> Result<TaskRun> {
    let Task { items, judge, .. } = task;
    let mut found = TaskRun {
        measures: Vec::new(),
        classified: Vec::new(),
        reliability: None,
        leakage: None,
        items: vec![ItemRun::default(); items.len()],
    };
    if let Judge::Choice(choice) = judge {
        let scores = choice::score_options(subject, choice, items, config.max_rows, &mut |texts| report(0, texts))?;
        let figures = ChoiceFigures::new(items, &scores);
        for (((run, item), scores), predicted) in found.items.iter_mut().zip(items).zip(scores).zip(&figures.predicted)
        {
            run.predicted = item.options(&choice.labels).get(*predicted).cloned();
            (run.scores, run.prior) = (scores.given, scores.prior);
        }
        found.measures.extend(figures.measures);
        found.classified = if choice.labels.is_empty() { Vec::new() } else { figures.classified };
        found.reliability = Some(figures.reliability);
    }
    if matches!(judge, Judge::Likelihood) || task.scorers().contains(&Scorer::Likelihood) {
        found.measures.push(likelihood(subject, task, config.max_rows, &mut |texts| report(0, texts))?);
    }
    let asked = asked(task, config);
    if asked.is_empty() {
        return Ok(found);
    }
    let answers = answer::answer(subject, task, &asked, config, &mut |answers| report(answers, 0))?;
    match judge {
        Judge::Choice(choice) => said(choice, items, &answers, &mut found),
        Judge::Describe(judge) => {
            let (measures, leakage) = describe::figures(task, judge, &answers);
            found.measures.extend(measures);
            found.leakage = Some(leakage);
        }
        Judge::Text(_) | Judge::Likelihood => {}
    }
    found.measures.extend(reference::figures(task.scorers(), items, &answers));
    found.measures.extend(answer::figures(&answers));
    if let Some(base) = subject.base.filter(|_| !matches!(judge, Judge::Choice(_))) {
        found.measures.push(fluency::measure(subject, base, task, &answers, config.max_rows)?);
    }
    for (run, answers) in found.items.iter_mut().zip(answers) {
        run.answers = answers;
    }
    Ok(found)
}

/// The labels that answers give.
fn said(choice: &Choice, items: &[Item], answers: &[Vec<Answer>], found: &mut TaskRun) {
    let predicted: Vec<Option<usize>> = items
        .iter()
        .zip(answers)
        .map(|(item, answers)| {
            let options = item.options(&choice.labels);
            let answer = answers.first()?;
            Some(choice.rule.label_of(&answer.text, options).unwrap_or(options.len()))
        })
        .collect();
    let share_of = |holds: &dyn Fn(&Item, usize) -> bool| -> Vec<Option<f64>> {
        items.iter().zip(&predicted).map(|(item, found)| found.map(|found| share(holds(item, found)))).collect()
    };
    let right = share_of(&|item, found| found == item.truth);
    let none = share_of(&|item, found| found == item.options(&choice.labels).len());
    found.measures.push(Measure::mean("generation/accuracy", Better::Higher, right));
    found.measures.push(Measure::mean("generation/without a label", Better::Lower, none));
    if !choice.labels.is_empty() {
        found.classified.push(Classified { by: "generation".to_owned(), predicted, confidence: Vec::new() });
    }
}

/// The mean log-likelihood of a token of the references, in nats; the stop token is one of them.
fn likelihood(
    subject: Subject<'_>,
    task: &Task,
    max_rows: usize,
    on_progress: &mut dyn FnMut(usize),
) -> Result<Measure> {
    let samples = |item: &Item| {
        let Some(prompt) = item.prompts.first() else { return subject.text(item) };
        let answer = Message::assistant(item.reference.as_str());
        let messages: Vec<Message> = prompt.iter().cloned().chain([answer]).collect();
        Ok(vec![subject.sample(item, &messages)?])
    };
    let samples = task.items.iter().map(samples).collect::<Result<Vec<_>>>()?;
    let pieces = task.items.iter().zip(&samples).flat_map(|(item, pieces)| pieces.iter().map(move |_| item));
    let places: Vec<(&Item, &str)> = pieces.map(|item| (item, item.reference.as_str())).collect();
    let counts: Vec<usize> = samples.iter().map(Vec::len).collect();
    let log_probs = score(subject, &samples.concat(), &places, max_rows, on_progress)?;
    let mut left = log_probs.as_slice();
    let parts = counts.into_iter().map(|count| {
        let (own, others) = left.split_at(count);
        left = others;
        Some((own.iter().flatten().copied().map(f64::from).sum(), own.iter().map(Vec::len).sum::<usize>() as f64))
    });
    Ok(Measure::new("likelihood/log-likelihood per token", Better::Higher, parts))
}

/// The log-probabilities of samples; `places` has the item and the text of each, for errors.
pub(crate) fn score(
    subject: Subject<'_>,
    samples: &[Sample],
    places: &[(&Item, &str)],
    max_rows: usize,
    on_progress: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<f32>>> {
    let mut found = Vec::with_capacity(samples.len());
    for pass in foehn_score::passes(subject.model, &samples.iter().collect::<Vec<_>>(), max_rows) {
        let pass = pass.map_err(|foehn_score::NotFinite { sample, value, .. }| {
            let (item, text) = places[sample];
            Error::NonFiniteScore { place: item.place.clone(), text: text.to_owned(), value: value.into() }
        })?;
        on_progress(pass.log_probs.len());
        found.extend(pass.log_probs);
    }
    Ok(found)
}

/// The error of an item that cannot be rendered.
pub(crate) fn rendered(item: &Item, source: foehn_tokens::Error) -> Error {
    Error::Render { place: item.place.clone(), id: item.id.clone(), source: Box::new(source) }
}

impl Subject<'_> {
    /// Checks that model and tokenizer belong together, and also the template if the model is asked something.
    pub(crate) fn check(self, asks: bool) -> Result<()> {
        let (tokens, vocab_size) = (self.tokenizer.vocab_size(), self.model.config().vocab_size);
        // Control tokens come only from the template. A control token without an embedding does no harm if no prompt
        // has it.
        let is_usable = |id: usize| u32::try_from(id).is_ok_and(|id| self.tokenizer.is_control(id));
        let prompt = match asks {
            true => self.template.prompt(self.tokenizer, &[Message::user("?")])?,
            false => Vec::new(),
        };
        let is_known = prompt.iter().all(|&id| (id as usize) < vocab_size);
        match is_known && (vocab_size..tokens).all(is_usable) {
            true => Ok(()),
            false => Err(Error::TokenizerMismatch { tokens, vocab_size }),
        }
    }

    /// A conversation that fits the model's context.
    pub(crate) fn sample(self, item: &Item, messages: &[Message]) -> Result<Sample> {
        let conversation = Conversation { messages, tools: &item.tools };
        let sample = self.template.sample(self.tokenizer, conversation).map_err(|source| rendered(item, source))?;
        let context = self.model.config().max_position_embeddings;
        sample.check_length(context).map_err(|source| rendered(item, source))?;
        Ok(sample)
    }

    /// A text without a conversation around it, in pieces that fit the model's context.
    fn text(self, item: &Item) -> Result<Vec<Sample>> {
        let ids = self.tokenizer.encode_text(&item.reference).map_err(|source| rendered(item, source))?;
        let bos = self.tokenizer.bos_id().filter(|_| self.tokenizer.add_bos());
        let context = self.model.config().max_position_embeddings;
        Sample::pieces(bos.into_iter().chain(ids).collect(), context).map_err(|source| rendered(item, source))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_few_answers_are_about_many_scenes_and_every_label() {
        for (scenes, labels) in [(20, 5), (7, 3), (1, 4), (60, 1), (3, 6)] {
            for answers in 0..=scenes * labels + 2 {
                let found = spread(scenes, labels, answers);
                let count = answers.min(scenes * labels);
                assert_eq!(found.len(), count);
                assert!(found.is_sorted_by(|a, b| a < b) && found.iter().all(|item| *item < scenes * labels));
                let of = |part: fn(usize, usize) -> usize| {
                    let mut counts = BTreeMap::new();
                    found.iter().for_each(|item| *counts.entry(part(*item, labels)).or_insert(0usize) += 1);
                    counts
                };
                assert_eq!(of(|item, labels| item / labels).len(), count.min(scenes), "different scenes first");
                let each = of(|item, labels| item % labels);
                let (least, most) = (each.values().min(), each.values().max());
                assert!(count > scenes || count < labels || most.unwrap() - least.unwrap() <= 1, "{each:?}");
            }
        }
    }
}
