//! Evaluates one model on one suite.

use foehn_mistral::Mistral;
use foehn_tokens::{ChatTemplate, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::recognition::recognise;
use crate::stopping::answer;
use crate::{Answer, Error, Production, ProductionItem, Recognition, Result, StopFigures, Stopping, Suite};

/// The model to measure, with or without an adapter, and its tokenizer and template.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The model. If it has an adapter, autodiff must not track it.
    pub model: &'a Mistral,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The template of training.
    pub template: &'a ChatTemplate,
}

/// The size of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateConfig {
    /// The largest number of rows of one scoring pass.
    pub max_rows: usize,
    /// The number of answers generated in one batch.
    pub batch: usize,
    /// The longest answer to a recognition question, in tokens.
    pub recognition_tokens: usize,
    /// The longest description, in tokens.
    pub production_tokens: usize,
    /// How many recognition questions are answered, to see whether answers end. They are chosen at equal distances;
    /// `None` means all.
    pub recognition_answers: Option<usize>,
    /// How many scenes are described, each for every label. They are chosen at equal distances; `None` means all.
    pub scenes: Option<usize>,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self {
            max_rows: 512,
            batch: 16,
            recognition_tokens: 48,
            production_tokens: 128,
            recognition_answers: None,
            scenes: None,
        }
    }
}

/// All results of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The name of the model in the report.
    pub name: String,
    /// Recognition of labels.
    pub recognition: Recognition,
    /// Descriptions for labels.
    pub production: Production,
    /// How answers end.
    pub stopping: Stopping,
    /// The answers to recognition questions that `stopping` counts.
    pub answers: Vec<Answer>,
}

impl EvaluateConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Setting`], naming the field.
    pub fn check(&self) -> Result<()> {
        let counts = [
            ("max_rows", self.max_rows),
            ("batch", self.batch),
            ("recognition_tokens", self.recognition_tokens),
            ("production_tokens", self.production_tokens),
            ("recognition_answers", self.recognition_answers.unwrap_or(1)),
            ("scenes", self.scenes.unwrap_or(1)),
        ];
        match counts.into_iter().find(|(_, count)| *count == 0) {
            None => Ok(()),
            Some((field, found)) => Err(Error::Setting { field, found, expected: "at least 1" }),
        }
    }
}

/// Measures a model. `on_progress` gets the number of prompts done and the number of all prompts.
///
/// Nothing is random: the same model on the same device gives the same result.
///
/// # Errors
/// [`Error::Setting`], [`Error::TokenizerMismatch`], [`Error::Tokens`], [`Error::Generate`], [`Error::NonFiniteScore`].
pub fn evaluate(
    name: &str,
    subject: Subject<'_>,
    suite: &Suite,
    config: &EvaluateConfig,
    on_progress: &mut dyn FnMut(usize, usize),
) -> Result<Evaluation> {
    config.check()?;
    let (tokens, vocab_size) = (subject.tokenizer.vocab_size(), subject.model.config().vocab_size);
    // Control tokens come only from the template. A control token without an embedding does no harm if no prompt has
    // it.
    let is_usable = |id: usize| u32::try_from(id).is_ok_and(|id| subject.tokenizer.is_control(id));
    let prompt = subject.template.prompt(subject.tokenizer, &[foehn_record::Message::user("?")])?;
    let is_known = prompt.iter().all(|&id| (id as usize) < vocab_size);
    if !is_known || !(vocab_size..tokens).all(is_usable) {
        return Err(Error::TokenizerMismatch { tokens, vocab_size });
    }
    let labels = suite.labels();
    let asked: Vec<String> = every(suite.probes(), config.recognition_answers)
        .map(|probe| Suite::ask(&suite.questions()[0], &probe.sentence))
        .collect();
    let scenes: Vec<(&crate::Scene, usize)> = every(suite.scenes(), config.scenes)
        .flat_map(|scene| (0..labels.len()).map(move |label| (scene, label)))
        .collect();
    let described: Vec<String> =
        scenes.iter().map(|(scene, label)| suite.ask_scene(&scene.scene, &labels[*label])).collect();
    let total = (suite.probes().len() + 1) * suite.questions().len() + asked.len() + described.len();
    let mut done = 0;
    let mut more = |prompts: usize| {
        done += prompts;
        on_progress(done, total);
    };
    let recognition = recognise(subject, suite, config.max_rows, &mut more)?;
    let answers = answer(subject, suite, &asked, config.recognition_tokens, config.batch, &mut more)?;
    let descriptions = answer(subject, suite, &described, config.production_tokens, config.batch, &mut more)?;
    let stopping = Stopping { recognition: StopFigures::new(&answers), production: StopFigures::new(&descriptions) };
    let items = scenes.into_iter().zip(descriptions);
    let items = items.map(|((scene, label), answer)| ProductionItem::new(suite, scene, label, answer)).collect();
    Ok(Evaluation { name: name.to_owned(), recognition, production: Production::new(items, suite), stopping, answers })
}

/// `limit` items at equal distances, or all items.
fn every<T>(items: &[T], limit: Option<usize>) -> impl Iterator<Item = &T> {
    let count = limit.unwrap_or(items.len()).min(items.len());
    (0..count).filter_map(move |index| items.get(index * items.len() / count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_chooses_by_even_stride() {
        let items: Vec<usize> = (0..10).collect();
        let chosen = |limit| every(&items, limit).copied().collect::<Vec<_>>();
        assert_eq!(chosen(Some(4)), [0, 2, 5, 7]);
        assert_eq!(chosen(Some(1)), [0]);
        assert_eq!(chosen(Some(99)), items);
        assert_eq!(chosen(None), items);
    }
}
