//! Measures whether descriptions use the requested sense.

use std::collections::BTreeSet;

use foehn_corpus::SenseLexicon;
use serde::{Deserialize, Serialize};

use crate::metrics::{mean, share_of};
use crate::{Answer, Suite};

/// How well descriptions keep to a sense, measured by the words of the lexicon.
///
/// Words of the request itself (the scene, the requested label) are not counted. Only the answer's text is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Production {
    /// By all words of the lexicon: the main result.
    pub all: ProductionFigures,
    /// By the words that were used to build the data.
    pub seen: ProductionFigures,
    /// By the words that were not used to build the data, if the suite has them.
    pub unseen: Option<ProductionFigures>,
    /// Every answer, scene by scene, the labels in order.
    pub items: Vec<ProductionItem>,
}

/// Metrics with one lexicon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProductionFigures {
    /// `leakage[asked][found]`: the distribution over labels of the sense words in answers under the requested label. A
    /// row sums to 1; it is 0 if there are no sense words.
    pub leakage: Vec<Vec<f64>>,
    /// The share of the sense words, over all answers, that do not belong to the requested label.
    pub off_target: f64,
    /// The share of the answers with at least one sense word.
    pub coverage: f64,
    /// The share of the answers with a word of the requested label and no word of another one. An empty answer does not
    /// count as pure.
    pub pure: f64,
    /// The same for each label.
    pub pure_per_label: Vec<f64>,
    /// The mean length in words of the answers for each label.
    pub mean_words: Vec<f64>,
}

/// One description.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProductionItem {
    /// The scene.
    pub id: String,
    /// Its group.
    pub group: String,
    /// The index of the requested label.
    pub asked: usize,
    /// The answer and how it ended.
    pub answer: Answer,
    /// For each label, the number of its words that were used to build the data.
    pub seen: Vec<u64>,
    /// For each label, the number of its words that were not used to build the data.
    pub unseen: Vec<u64>,
}

impl ProductionItem {
    /// Scores an answer.
    pub fn new(suite: &Suite, scene: &crate::Scene, asked: usize, answer: Answer) -> Self {
        let count = |lexicon: Option<&SenseLexicon>| {
            let mut counts = vec![0; suite.labels().len()];
            let Some(lexicon) = lexicon else { return counts };
            let given: BTreeSet<String> = lexicon.senses(&answer.question).into_iter().map(|(word, _)| word).collect();
            for (word, class) in lexicon.senses(&answer.text) {
                let label = suite.labels().iter().position(|label| label == class);
                if let Some(count) = label.and_then(|label| counts.get_mut(label))
                    && !given.contains(&word)
                {
                    *count += 1;
                }
            }
            counts
        };
        let (seen, unseen) = (count(Some(suite.lexicon())), count(suite.unseen_lexicon()));
        Self { id: scene.id.clone(), group: scene.group.clone(), asked, answer, seen, unseen }
    }

    /// Whether the answer has a word of the requested label and no word of another one, by all words of the lexicon.
    pub fn is_pure(&self) -> bool {
        is_pure(self.asked, &self.counts())
    }

    /// The number of words of each label.
    fn counts(&self) -> Vec<u64> {
        self.seen.iter().zip(&self.unseen).map(|(seen, unseen)| seen + unseen).collect()
    }
}

impl Production {
    /// The metrics of scored answers.
    pub fn new(items: Vec<ProductionItem>, suite: &Suite) -> Self {
        let labels = suite.labels().len();
        let figures = |counts: fn(&ProductionItem) -> Vec<u64>| {
            let scored: Vec<Scored> = items
                .iter()
                .map(|item| Scored {
                    asked: item.asked,
                    counts: counts(item),
                    words: item.answer.text.split_whitespace().count(),
                })
                .collect();
            ProductionFigures::new(&scored, labels)
        };
        Self {
            all: figures(ProductionItem::counts),
            seen: figures(|item| item.seen.clone()),
            unseen: suite.unseen_lexicon().map(|_| figures(|item| item.unseen.clone())),
            items,
        }
    }
}

/// The part of an answer that the metrics need.
struct Scored {
    asked: usize,
    counts: Vec<u64>,
    words: usize,
}

impl ProductionFigures {
    fn new(answers: &[Scored], labels: usize) -> Self {
        let mut found = vec![vec![0u64; labels]; labels];
        for answer in answers {
            for (sum, count) in found[answer.asked].iter_mut().zip(&answer.counts) {
                *sum += count;
            }
        }
        let total: u64 = found.iter().flatten().sum();
        let on_target: u64 = (0..labels).map(|label| found[label][label]).sum();
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let row = |row: &Vec<u64>| row.iter().map(|count| share(*count, row.iter().sum())).collect();
        let under = |label: usize| answers.iter().filter(move |answer| answer.asked == label);
        let pure = |answer: &&Scored| is_pure(answer.asked, &answer.counts);
        Self {
            leakage: found.iter().map(row).collect(),
            off_target: share(total - on_target, total),
            coverage: share_of(answers, |answer| answer.counts.iter().any(|count| *count > 0)),
            pure: share_of(answers, pure),
            pure_per_label: (0..labels).map(|label| share_of(under(label), pure)).collect(),
            mean_words: (0..labels).map(|label| mean(under(label).map(|answer| answer.words as f64))).collect(),
        }
    }
}

fn is_pure(asked: usize, counts: &[u64]) -> bool {
    counts.iter().enumerate().all(|(label, count)| (*count > 0) == (label == asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leakage_is_counted_by_the_asked_label() {
        let answer = |asked, counts: [u64; 2], words| Scored { asked, counts: counts.to_vec(), words };
        let answers = [
            answer(0, [3, 0], 10), // pure
            answer(0, [2, 1], 20), // leaks
            answer(1, [0, 0], 0),  // empty: neither pure nor covered
            answer(1, [4, 0], 6),  // of the other sense alone
        ];
        let found = ProductionFigures::new(&answers, 2);
        assert_eq!(found.leakage, [[5.0 / 6.0, 1.0 / 6.0], [1.0, 0.0]]);
        assert_eq!(found.off_target, 0.5);
        assert_eq!(found.coverage, 0.75);
        assert_eq!((found.pure, found.pure_per_label), (0.25, vec![0.5, 0.0]));
        assert_eq!(found.mean_words, [15.0, 3.0]);
    }
}
