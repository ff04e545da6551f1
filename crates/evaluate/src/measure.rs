//! Figures that are sums over items, so that they can be compared item by item.

use serde::{Deserialize, Serialize};

use crate::Classification;

/// Whether more is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// Neither: the figure describes the answers.
    Neither,
}

/// A figure of one run: the sum of `sums` divided by the sum of `counts`.
///
/// For a share of items, an item's sum is 0 or 1 and its count 1. An item that was not asked has count 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Its name with the part of the report that it is in: `likelihood/accuracy`.
    pub name: String,
    /// Whether more is better.
    pub better: Better,
    /// For each item, what it adds to the numerator.
    pub sums: Vec<f64>,
    /// For each item, what it adds to the denominator.
    pub counts: Vec<f64>,
}

impl Measure {
    /// A figure of items that are asked or not.
    pub(crate) fn new(name: &str, better: Better, items: impl IntoIterator<Item = Option<(f64, f64)>>) -> Self {
        let (sums, counts) = items.into_iter().map(Option::unwrap_or_default).unzip();
        Self { name: name.to_owned(), better, sums, counts }
    }

    /// The mean of a value per item.
    pub(crate) fn mean(name: &str, better: Better, items: impl IntoIterator<Item = Option<f64>>) -> Self {
        Self::new(name, better, items.into_iter().map(|value| value.map(|value| (value, 1.0))))
    }

    /// The figure; 0 if there is nothing to divide by.
    pub fn value(&self) -> f64 {
        self.value_of(0..self.sums.len())
    }

    /// The figure of some of the items.
    pub(crate) fn value_of(&self, items: impl IntoIterator<Item = usize>) -> f64 {
        let add = |(sum, count): (f64, f64), at: usize| (sum + self.sums[at], count + self.counts[at]);
        let (sum, count) = items.into_iter().fold((0.0, 0.0), add);
        ratio(sum, count)
    }

    /// The items that were asked.
    pub(crate) fn asked(&self) -> impl Iterator<Item = usize> {
        (0..self.counts.len()).filter(|at| self.counts[*at] > 0.0)
    }

    /// Whether every item is right or wrong.
    pub fn is_binary(&self) -> bool {
        self.asked().all(|at| self.counts[at] == 1.0 && (self.sums[at] == 0.0 || self.sums[at] == 1.0))
    }
}

/// Predicted and true labels of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classified {
    /// How labels were predicted: `likelihood`, `prior-corrected` or `generation`.
    pub by: String,
    /// The index of the predicted label of each item. The number of labels stands for none, and `None` for an item that
    /// was not asked.
    pub predicted: Vec<Option<usize>>,
    /// The probability that each label predicted was given; empty if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confidence: Vec<f64>,
}

impl Classified {
    /// The metrics over some of the items. `truth` has every item's label.
    pub fn classification(
        &self,
        truth: &[usize],
        labels: usize,
        items: impl IntoIterator<Item = usize>,
    ) -> Classification {
        let pairs = items.into_iter().filter_map(|at| Some((truth[at], self.predicted[at]?)));
        let (truth, predicted): (Vec<usize>, Vec<usize>) = pairs.unzip();
        Classification::new(&truth, &predicted, labels)
    }
}

pub(crate) fn ratio(sum: f64, count: f64) -> f64 {
    if count == 0.0 { 0.0 } else { sum / count }
}

pub(crate) fn share(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}
