//! Measures which label the model finds most likely for a sentence.

use std::collections::BTreeMap;

use foehn_record::{Message, Role};
use foehn_tokens::Sample;
use serde::{Deserialize, Serialize};

use crate::metrics::{argmax, brier, mean, share_of, softmax};
use crate::{Classification, Error, Result, Subject, Suite};

/// Replaces the sentence in the content-free question. A label's prior is its likelihood as the answer to that
/// question.
const CONTENT_FREE: &str = "…";

/// How well a model recognises the labels of sentences.
///
/// The score of a label is the sum of the log-likelihoods of its tokens as the assistant's answer, including the stop
/// token, in the template of training. A probe has *one* prediction: the label with the highest mean score over all
/// paraphrases of the question. All metrics are of these predictions, except `per_question`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recognition {
    /// From the scores without correction: the main result.
    pub likelihood: LabelFigures,
    /// From the scores minus the label's prior, which is its score after the question about `…`. This is
    /// domain-conditional PMI (Holtzman et al. 2021, "Surface Form Competition"). It corrects for a label that the
    /// model finds likely after any question.
    pub pmi: LabelFigures,
    /// `prior[question][label]`: the scores after the question about `…`.
    pub prior: Vec<Vec<f64>>,
    /// Every probe, in the suite's order.
    pub items: Vec<RecognitionItem>,
}

/// Metrics of one way to score labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelFigures {
    /// Accuracy, F1, R_K and confusion.
    pub classification: Classification,
    /// The Brier score of the softmax over the labels' mean scores.
    pub brier: f64,
    /// The share of the probes for which every paraphrase gives the same label.
    pub consistency: f64,
    /// The accuracy of each paraphrase alone.
    pub per_question: Vec<f64>,
    /// The number of probes and the accuracy for each kind.
    pub slices: BTreeMap<String, Slice>,
}

/// The probes of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// The number of probes.
    pub probes: usize,
    /// The share of correct predictions.
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
/// `max_rows` is the largest number of rows per pass. The probes of a pass share the common parts of their prompts. A
/// single longer probe is allowed. `on_progress` gets the number of prompts scored since the last call.
///
/// # Errors
/// [`Error::Tokens`] if the template refuses a question, [`Error::NonFiniteScore`] for broken weights.
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
    // For each question, the probes and then the content-free prompt.
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

/// The summed log-likelihood of each label as the answer to each prompt, `[prompt][label]`, including stop tokens.
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
    /// The metrics of `scores[probe][question][label]`.
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
        // Two questions, three labels. The two questions of the first probe disagree; their mean predicts label 1.
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
        // The model finds label 0 more likely than label 1 after any question. Corrected for that, this sentence has
        // label 1.
        let scores = vec![vec![-1.0, -2.0]];
        let prior = vec![vec![-0.5, -4.0]];
        assert_eq!(argmax(&mean_scores(&scores)), 0);
        assert_eq!(minus(&scores, &prior), [[-0.5, 2.0]]);
        assert_eq!(argmax(&mean_scores(&minus(&scores, &prior))), 1);
    }
}
