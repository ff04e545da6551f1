//! Measures whether descriptions use the words of the requested class.

use std::collections::BTreeSet;

use foehn_corpus::Lexicon;
use serde::{Deserialize, Serialize};

use crate::measure::{Better, Measure, ratio, share};
use crate::{Answer, Describe, Task};

/// A table of a run: `cells[asked][found]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// What it shows.
    pub name: String,
    /// The names of rows and columns.
    pub labels: Vec<String>,
    /// The cells, row by row.
    pub cells: Vec<Vec<f64>>,
}

/// For each class, the number of its words in an answer.
struct Counts {
    seen: Vec<u64>,
    unseen: Vec<u64>,
}

impl Counts {
    fn all(&self) -> Vec<u64> {
        self.seen.iter().zip(&self.unseen).map(|(seen, unseen)| seen + unseen).collect()
    }
}

/// The figures of descriptions. Words of the request itself are not counted.
///
/// An answer is **in the asked class alone** if it has a word of the requested class and no word of another, so an empty
/// answer is not. The matrix `leakage[asked][found]` has the share of each class among the class words of the answers
/// for a class; a row sums to 1, or it is 0 if there are no such words.
pub(crate) fn figures(task: &Task, describe: &Describe, answers: &[Vec<Answer>]) -> (Vec<Measure>, Matrix) {
    use Better::{Higher, Lower};
    let counted: Vec<Vec<Counts>> = task
        .items
        .iter()
        .zip(answers)
        .map(|(item, answers)| answers.iter().map(|answer| count(describe, item.question(), &answer.text)).collect())
        .collect();
    let each = |value: &dyn Fn(usize, &[u64]) -> f64| -> Vec<Option<f64>> {
        let items = task.items.iter().zip(&counted);
        items
            .map(|(item, counts)| {
                let sum: f64 = counts.iter().map(|counts| value(item.truth, &counts.all())).sum();
                (!counts.is_empty()).then(|| sum / counts.len() as f64)
            })
            .collect()
    };
    let off_target = |name: &str, of: &dyn Fn(&Counts) -> Vec<u64>| {
        let parts = task.items.iter().zip(&counted).map(|(item, counts)| {
            let sum = counts.iter().map(of).fold((0, 0), |(off, all), counts| {
                let total: u64 = counts.iter().sum();
                (off + total - counts[item.truth], all + total)
            });
            (!counts.is_empty()).then_some((sum.0 as f64, sum.1 as f64))
        });
        Measure::new(name, Lower, parts)
    };
    let pure = each(&|asked, counts| share(is_pure(asked, counts)));
    let covered = each(&|_, counts| share(counts.iter().any(|count| *count > 0)));
    let mut measures = vec![
        Measure::mean("description/in the asked class alone", Higher, pure),
        off_target("description/class words off target", &Counts::all),
        Measure::mean("description/with a class word", Higher, covered),
    ];
    if describe.unseen_lexicon.is_some() {
        measures.push(off_target("description/off target, words seen in data", &|counts| counts.seen.clone()));
        measures.push(off_target("description/off target, words held out", &|counts| counts.unseen.clone()));
    }
    (measures, leakage(task, describe, &counted))
}

fn leakage(task: &Task, describe: &Describe, counted: &[Vec<Counts>]) -> Matrix {
    let labels = describe.labels.len();
    let mut found = vec![vec![0u64; labels]; labels];
    for (item, counts) in task.items.iter().zip(counted) {
        for counts in counts {
            found[item.truth].iter_mut().zip(counts.all()).for_each(|(sum, count)| *sum += count);
        }
    }
    let row = |row: &Vec<u64>| {
        let total: u64 = row.iter().sum();
        row.iter().map(|count| ratio(*count as f64, total as f64)).collect()
    };
    Matrix { name: "leakage".to_owned(), labels: describe.labels.clone(), cells: found.iter().map(row).collect() }
}

fn count(describe: &Describe, question: &str, answer: &str) -> Counts {
    let count = |lexicon: Option<&Lexicon>| {
        let mut counts = vec![0; describe.labels.len()];
        let Some(lexicon) = lexicon else { return counts };
        let given: BTreeSet<String> = lexicon.classified(question).into_iter().map(|(word, _)| word).collect();
        for (word, class) in lexicon.classified(answer) {
            let label = describe.labels.iter().position(|label| label == class);
            if let Some(count) = label.and_then(|label| counts.get_mut(label))
                && !given.contains(&word)
            {
                *count += 1;
            }
        }
        counts
    };
    Counts { seen: count(Some(&describe.lexicon)), unseen: count(describe.unseen_lexicon.as_ref()) }
}

fn is_pure(asked: usize, counts: &[u64]) -> bool {
    counts.iter().enumerate().all(|(label, count)| (*count > 0) == (label == asked))
}
