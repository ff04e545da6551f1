//! Which label does the model find most likely?

use std::collections::BTreeMap;

use foehn_record::{Message, Role};
use foehn_tokens::Sample;
use serde::{Deserialize, Serialize};

use crate::metrics::{argmax, brier, mean, share_of, softmax};
use crate::{Classification, Error, Result, Subject, Suite};

/// What stands for the sentence where the question is to say nothing: the prior of a label is its likelihood there.
const CONTENT_FREE: &str = "…";

/// How well a model recognises the labels of sentences.
///
/// The score of a label is the summed log-likelihood of the label as the assistant's answer, its stop token included,
/// in the template of training. A probe has *one* prediction: the label of the best mean score over all paraphrases of
/// the question. All figures are of these predictions, but for `per_question`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recognition {
    /// From the scores as they are: the headline.
    pub likelihood: LabelFigures,
    /// From the scores minus those of the same label after the question about `…`: domain-conditional PMI (Holtzman et
    /// al. 2021, "Surface Form Competition"), which forgives a model that finds one label likely after anything.
    pub pmi: LabelFigures,
    /// `prior[question][label]`: the scores after the question about `…`.
    pub prior: Vec<Vec<f64>>,
    /// Every probe, in the suite's order.
    pub items: Vec<RecognitionItem>,
}

/// Figures of one way to score labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelFigures {
    /// Accuracy, F1, R_K and confusion.
    pub classification: Classification,
    /// Brier's score of the softmax over the labels' mean scores.
    pub brier: f64,
    /// Share of the probes to which all paraphrases, each by itself, give the same label.
    pub consistency: f64,
    /// Accuracy of each paraphrase by itself.
    pub per_question: Vec<f64>,
    /// Probes and accuracy of each kind.
    pub slices: BTreeMap<String, Slice>,
}

/// The probes of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Their number.
    pub probes: usize,
    /// Share recognised.
    pub accuracy: f64,
}

/// One probe's scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecognitionItem {
    /// The probe.
    pub id: String,
    /// Its group.
    pub group: String,
    /// The index of its label.
    pub truth: usize,
    /// The index of the label predicted from the likelihoods.
    pub predicted: usize,
    /// `scores[question][label]`: summed log-likelihoods.
    pub scores: Vec<Vec<f64>>,
}

impl RecognitionItem {
    /// Whether the predicted label is the true one.
    pub fn is_right(&self) -> bool {
        self.predicted == self.truth
    }
}

/// Scores every label for every probe and paraphrase.
///
/// `max_rows` is the most rows of one pass, of which several probes share what their prompts share; a single probe may
/// have more. `on_progress` gets the number of prompts scored since the last call.
///
/// # Errors
/// [`Error::Tokens`] where the template refuses a question, [`Error::NonFiniteScore`] for broken weights.
pub fn recognise(
    subject: Subject<'_>,
    suite: &Suite,
    max_rows: usize,
    on_progress: &mut dyn FnMut(usize),
) -> Result<Recognition> {
    let sentences = || suite.probes().iter().map(|probe| probe.sentence.as_str()).chain([CONTENT_FREE]);
    let prompts: Vec<String> =
        suite.questions().iter().flat_map(|question| sentences().map(|text| Suite::ask(question, text))).collect();
    let scores = score_labels(subject, &prompts, suite.labels(), max_rows, on_progress)?;
    // One row of probes a question, the content-free prompt last.
    let by_question: Vec<&[Vec<f64>]> = scores.chunks_exact(suite.probes().len() + 1).collect();
    let prior: Vec<Vec<f64>> = by_question.iter().filter_map(|scores| scores.last().cloned()).collect();
    let item = |(index, probe): (usize, &crate::Probe)| {
        let scores: Vec<Vec<f64>> = by_question.iter().map(|question| question[index].clone()).collect();
        RecognitionItem {
            id: probe.id.clone(),
            group: probe.group.clone(),
            truth: suite.truth()[index],
            predicted: argmax(&mean_scores(&scores)),
            scores,
        }
    };
    let items: Vec<RecognitionItem> = suite.probes().iter().enumerate().map(item).collect();
    let kinds: Vec<&str> = suite.probes().iter().map(|probe| probe.kind.as_str()).collect();
    let raw: Vec<Vec<Vec<f64>>> = items.iter().map(|item| item.scores.clone()).collect();
    let lifted: Vec<Vec<Vec<f64>>> = raw.iter().map(|scores| minus(scores, &prior)).collect();
    Ok(Recognition {
        likelihood: LabelFigures::new(&raw, suite.truth(), &kinds, suite.labels().len()),
        pmi: LabelFigures::new(&lifted, suite.truth(), &kinds, suite.labels().len()),
        prior,
        items,
    })
}

/// The summed log-likelihood of each label as the answer to each prompt, `[prompt][label]`, stop tokens included.
///
/// # Errors
/// As [`recognise`].
pub fn score_labels(
    subject: Subject<'_>,
    prompts: &[String],
    labels: &[String],
    max_rows: usize,
    on_progress: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<f64>>> {
    if labels.is_empty() {
        return Ok(vec![Vec::new(); prompts.len()]);
    }
    let samples = prompts.iter().map(|prompt| answers(subject, prompt, labels)).collect::<Result<Vec<_>>>()?.concat();
    let (mut sums, mut done) = (Vec::with_capacity(samples.len()), 0);
    for pass in foehn_score::passes(subject.model, &samples.iter().collect::<Vec<_>>(), max_rows) {
        let pass = pass.map_err(|foehn_score::NotFinite { sample, value, .. }| Error::NonFiniteScore {
            label: labels[sample % labels.len()].clone(),
            question: prompts[sample / labels.len()].clone(),
            value: value.into(),
        })?;
        sums.extend(pass.log_probs.iter().map(|log_probs| log_probs.iter().copied().map(f64::from).sum::<f64>()));
        let prompts = sums.len() / labels.len();
        on_progress(prompts - done);
        done = prompts;
    }
    Ok(sums.chunks_exact(labels.len()).map(<[f64]>::to_vec).collect())
}

impl LabelFigures {
    /// The figures of `scores[probe][question][label]`.
    ///
    /// # Panics
    /// When scores, truth and kinds differ in length.
    pub fn new(scores: &[Vec<Vec<f64>>], truth: &[usize], kinds: &[&str], labels: usize) -> Self {
        assert_eq!(kinds.len(), truth.len(), "label figures: kinds and truth differ in length");
        let means: Vec<Vec<f64>> = scores.iter().map(|scores| mean_scores(scores)).collect();
        let predicted: Vec<usize> = means.iter().map(|mean| argmax(mean)).collect();
        let probabilities: Vec<Vec<f64>> = means.iter().map(|mean| softmax(mean)).collect();
        let agrees = |scores: &&Vec<Vec<f64>>| {
            let mut said = scores.iter().map(|scores| argmax(scores));
            said.next().is_none_or(|first| said.all(|label| label == first))
        };
        let questions = scores.first().map_or(0, Vec::len);
        let right_by = |question: usize| {
            share_of(scores.iter().zip(truth), |(scores, truth)| argmax(&scores[question]) == **truth)
        };
        let mut right: BTreeMap<String, Vec<bool>> = BTreeMap::new();
        for ((kind, truth), predicted) in kinds.iter().zip(truth).zip(&predicted) {
            right.entry((*kind).to_owned()).or_default().push(truth == predicted);
        }
        let slice = |right: Vec<bool>| Slice { probes: right.len(), accuracy: share_of(&right, |right| **right) };
        Self {
            classification: Classification::new(truth, &predicted, labels),
            brier: brier(&probabilities, truth),
            consistency: share_of(scores, agrees),
            per_question: (0..questions).map(right_by).collect(),
            slices: right.into_iter().map(|(kind, right)| (kind, slice(right))).collect(),
        }
    }
}

/// A question with each label as its answer.
fn answers(subject: Subject<'_>, prompt: &str, labels: &[String]) -> Result<Vec<Sample>> {
    let context = subject.model.config().max_position_embeddings;
    let sample = |label: &String| {
        let messages = [Message::new(Role::User, prompt), Message::new(Role::Assistant, label.as_str())];
        let sample = subject.template.sample(subject.tokenizer, &messages)?;
        sample.check_length(context)?;
        Ok(sample)
    };
    labels.iter().map(sample).collect()
}

/// The mean over the questions.
fn mean_scores(scores: &[Vec<f64>]) -> Vec<f64> {
    let labels = scores.first().map_or(0, Vec::len);
    (0..labels).map(|label| mean(scores.iter().map(|question| question[label]))).collect()
}

fn minus(scores: &[Vec<f64>], prior: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let lifted = |(scores, prior): (&Vec<f64>, &Vec<f64>)| scores.iter().zip(prior).map(|(s, p)| s - p).collect();
    scores.iter().zip(prior).map(lifted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_has_one_prediction() {
        // Two questions, three labels; the first probe's questions disagree and their mean says label 1.
        let scores = [
            vec![vec![-1.0, -1.5, -9.0], vec![-8.0, -2.0, -9.0]],
            vec![vec![-3.0, -2.0, -1.0], vec![-3.0, -2.0, -1.0]],
            vec![vec![-1.0, -2.0, -3.0], vec![-1.0, -2.0, -3.0]],
        ];
        let found = LabelFigures::new(&scores, &[1, 2, 1], &["literal", "idiom", "literal"], 3);
        assert_eq!(found.classification.confusion, [[0, 0, 0], [1, 1, 0], [0, 0, 1]]);
        assert_eq!(found.consistency, 2.0 / 3.0);
        assert_eq!(found.per_question, [1.0 / 3.0, 2.0 / 3.0]);
        assert_eq!(found.slices["literal"], Slice { probes: 2, accuracy: 0.5 });
        assert_eq!(found.slices["idiom"], Slice { probes: 1, accuracy: 1.0 });
    }

    #[test]
    fn pmi_takes_the_prior_away() {
        // The model finds label 0 likelier than label 1 after anything; beyond that, this sentence speaks for label 1.
        let scores = vec![vec![-1.0, -2.0]];
        let prior = vec![vec![-0.5, -4.0]];
        assert_eq!(argmax(&mean_scores(&scores)), 0);
        assert_eq!(minus(&scores, &prior), [[-0.5, 2.0]]);
        assert_eq!(argmax(&mean_scores(&minus(&scores, &prior))), 1);
    }
}
