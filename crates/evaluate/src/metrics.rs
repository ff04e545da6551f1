//! Classification metrics: pure functions of true and predicted labels.

use serde::{Deserialize, Serialize};

/// Metrics of a classification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classification {
    /// `confusion[true][predicted]`, in the order of the labels.
    pub confusion: Vec<Vec<u64>>,
    /// Share of correct predictions.
    pub accuracy: f64,
    /// Mean of the labels' F1 scores.
    pub macro_f1: f64,
    /// The multi-class Matthews correlation R_K; 0 if all true or all predicted labels are the same.
    pub mcc: f64,
    /// The metrics of each label, in order.
    pub per_class: Vec<ClassFigures>,
}

/// Metrics of one label. A share of zero items is 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassFigures {
    /// The number of items with this label.
    pub support: u64,
    /// The share of correct items among those predicted to have this label.
    pub precision: f64,
    /// The share of correct items among those that have this label.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
}

impl Classification {
    /// The metrics of predictions over `labels` labels. The prediction `labels` stands for none of them: it is wrong.
    ///
    /// R_K is Gorodkin's: `(c·s − Σ pₖtₖ) / √((s² − Σ pₖ²)(s² − Σ tₖ²))`, with `c` correct items of `s`, and `pₖ`
    /// predicted and `tₖ` true items of label `k`. Source: Gorodkin 2004, "Comparing two K-category assignments by a
    /// K-category correlation coefficient"; scikit-learn's `matthews_corrcoef`, and `f1_score` with `zero_division=0`.
    ///
    /// # Panics
    /// When the two differ in length, a true label is not below `labels`, or a prediction is above it.
    pub fn new(truth: &[usize], predicted: &[usize], labels: usize) -> Self {
        assert_eq!(truth.len(), predicted.len(), "classification: truth and predictions differ in length");
        let mut confusion = vec![vec![0u64; labels + 1]; labels];
        for (&truth, &predicted) in truth.iter().zip(predicted) {
            confusion[truth][predicted] += 1;
        }
        let none: u64 = confusion.iter_mut().filter_map(Vec::pop).sum();
        let right = |label: usize| confusion[label][label];
        let mut actual = vec![0u64; labels];
        truth.iter().for_each(|label| actual[*label] += 1);
        let given: Vec<u64> = (0..labels).map(|label| confusion.iter().map(|row| row[label]).sum()).collect();
        let figures = |label: usize| ClassFigures {
            support: actual[label],
            precision: share(right(label), given[label]),
            recall: share(right(label), actual[label]),
            f1: share(2 * right(label), given[label] + actual[label]),
        };
        let per_class: Vec<ClassFigures> = (0..labels).map(figures).collect();
        let total = truth.len() as u64;
        Self {
            accuracy: share((0..labels).map(right).sum(), total),
            macro_f1: mean(per_class.iter().map(|class| class.f1)),
            mcc: r_k(
                (0..labels).map(right).sum(),
                total,
                &[&given[..], &[none]].concat(),
                &[&actual[..], &[0]].concat(),
            ),
            per_class,
            confusion,
        }
    }
}

/// Turns log-likelihoods into probabilities that sum to 1.
pub fn softmax(scores: &[f64]) -> Vec<f64> {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// The index of the largest score; the first one if several are equal; 0 if there is no score.
pub fn argmax(scores: &[f64]) -> usize {
    let best = scores.iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map_or(0, |(index, _)| index)
}

/// The mean; 0 if there are no values.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0u64), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn r_k(right: u64, total: u64, given: &[u64], actual: &[u64]) -> f64 {
    let (right, total) = (right as f64, total as f64);
    let product = |left: &[u64], right: &[u64]| left.iter().zip(right).map(|(l, r)| *l as f64 * *r as f64).sum::<f64>();
    let spread = |counts: &[u64]| total * total - product(counts, counts);
    let scale = (spread(given) * spread(actual)).sqrt();
    if scale == 0.0 { 0.0 } else { (right * total - product(given, actual)) / scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
    }

    /// By scikit-learn 1.9.1 on the same lists: `matthews_corrcoef`, `precision_recall_fscore_support` and the macro
    /// `f1_score`, with `labels=range(5)` and `zero_division=0`.
    #[test]
    fn figures_are_those_of_scikit_learn() {
        let truth = [0, 0, 0, 1, 1, 2, 2, 2, 2, 3];
        let predicted = [0, 0, 1, 1, 2, 2, 2, 0, 2, 2];
        let found = Classification::new(&truth, &predicted, 5);
        assert_eq!(found.confusion[2], [1, 0, 3, 0, 0]);
        close(found.accuracy, 0.6);
        close(found.mcc, 0.4098442999852685);
        close(found.macro_f1, 0.3666666666666666);
        let two_thirds = 2.0 / 3.0;
        let classes = [
            (two_thirds, two_thirds, two_thirds, 3),
            (0.5, 0.5, 0.5, 2),
            (0.6, 0.75, two_thirds, 4),
            (0.0, 0.0, 0.0, 1),
            (0.0, 0.0, 0.0, 0),
        ];
        for (found, (precision, recall, f1, support)) in found.per_class.iter().zip(classes) {
            close(found.precision, precision);
            close(found.recall, recall);
            close(found.f1, f1);
            assert_eq!(found.support, support);
        }
    }
    #[test]
    fn the_ends_of_the_scales() {
        let perfect = Classification::new(&[0, 1, 2], &[0, 1, 2], 3);
        assert_eq!((perfect.accuracy, perfect.macro_f1, perfect.mcc), (1.0, 1.0, 1.0));
        // A model that always predicts the same label has a correlation of 0.
        let constant = Classification::new(&[0, 1, 2, 2], &[2; 4], 3);
        assert_eq!((constant.accuracy, constant.mcc), (0.5, 0.0));
        let nothing = Classification::new(&[], &[], 3);
        assert_eq!((nothing.accuracy, nothing.macro_f1, nothing.mcc), (0.0, 0.0, 0.0));
    }

    #[test]
    fn softmax_survives_long_answers() {
        let found = softmax(&[-1000.0, -1000.0 + 3f64.ln(), f64::NEG_INFINITY]);
        close(found[0], 0.25);
        close(found[1], 0.75);
        assert_eq!(found[2], 0.0);
        assert_eq!(argmax(&[-2.0, -1.0, -1.0]), 1);
    }
}
