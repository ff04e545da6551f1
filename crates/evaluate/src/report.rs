//! Several runs over the same suite, compared.

mod figures;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::measure::{Classified, Measure};
use crate::power::smallest_difference;
use crate::{
    Better, ClassFigures, Error, EvaluateConfig, Evaluation, Interval, McNemar, Result, Suite, TaskRun, holm, table,
};

/// The level below which a p-value says that there is a difference.
const LEVEL: f64 = 0.05;

/// A base model and any number of adapters over the same suite.
///
/// [`Display`](std::fmt::Display) prints tables of up to 100 columns; [`Report::page`] makes an HTML page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The suite's name.
    pub suite: String,
    /// The names of the runs. The others are compared with the first.
    pub runs: Vec<String>,
    /// The tasks, in the suite's order.
    pub tasks: Vec<TaskReport>,
    /// What else belongs to the runs: manifests, settings. Shown at the end of the page.
    #[serde(default)]
    pub about: BTreeMap<String, Value>,
}

/// The results of all runs in one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// The task's name.
    pub name: String,
    /// `choice`, `text`, `describe` or `likelihood`.
    pub kind: String,
    /// The SHA-256 of its files.
    pub hashes: BTreeMap<String, String>,
    /// Where an answer has its label; `None` if there are no labels.
    pub rule: Option<String>,
    /// The labels, in the order of every matrix.
    pub labels: Vec<String>,
    /// The texts of its prompts; empty if every item has its own.
    pub prompts: Vec<String>,
    /// How its answers were generated; `None` if there are none.
    pub decoding: Option<String>,
    /// The name of the figure that the verdict is about.
    pub headline: String,
    /// The verdict on each run after the first.
    pub verdicts: Vec<Verdict>,
    /// All figures.
    pub figures: Vec<Figure>,
    /// The metrics of each label; empty if there are none.
    pub classes: Vec<ClassReport>,
    /// What was asked.
    pub items: Vec<ItemReport>,
    /// The results of each run.
    pub runs: Vec<TaskRun>,
}

/// A figure of all runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The part of the report and the name: `likelihood/accuracy`.
    pub name: String,
    /// The slice that it is about; `None` for all items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
    /// The number of items that it is about.
    pub items: usize,
    /// Whether more is better.
    pub better: Better,
    /// The value of each run, with its 95% interval from the bootstrap over groups.
    pub values: Vec<Interval>,
    /// Each run after the first, compared with the first; empty for figures that have no test.
    pub compared: Vec<Compared>,
}

/// A figure of a run compared with the first run's, over the same items.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// The difference, with its 95% interval from the paired bootstrap over groups.
    pub difference: Interval,
    /// The exact test, if every item is right or wrong.
    pub mcnemar: Option<McNemar>,
    /// The p-value of the exact test, or else of the paired permutation test over groups.
    pub p_value: f64,
    /// The same, adjusted by Holm's method for all headline figures of the report; `None` for other figures.
    pub p_holm: Option<f64>,
}

/// Whether a run is better than the first in a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The run.
    pub run: String,
    /// What the comparison shows.
    pub outcome: Outcome,
    /// The smallest difference that so many items could have shown.
    pub smallest: f64,
    /// The items whose headline figure rose, the largest differences first: for right and wrong, from wrong to right.
    pub gained: Vec<usize>,
    /// The items whose headline figure fell.
    pub lost: Vec<usize>,
    /// The accuracy of one label for all items, if the run is not shown to be better than that: it guesses. A run that
    /// has only learned what labels there are is better than one that names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guess: Option<f64>,
}

/// What a comparison shows. A difference counts if the test says so after Holm's adjustment and the interval has no 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The run is better.
    Better,
    /// The run is worse.
    Worse,
    /// So many items show no difference.
    NoDifference,
}

/// One label's metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// The label.
    pub label: String,
    /// The metrics of each run, from the likelihoods.
    pub values: Vec<ClassFigures>,
    /// The exact test of the recall of each run after the first, adjusted by Holm's method for the number of labels.
    pub tests: Vec<ClassTest>,
}

/// The test for one of several labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassTest {
    /// The difference of the label's recall.
    pub difference: f64,
    /// The exact test.
    pub test: McNemar,
    /// The p-value, adjusted by Holm's method for the number of labels.
    pub p_holm: f64,
}

/// An item of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemReport {
    /// Its name.
    pub id: String,
    /// Its file and line.
    pub place: String,
    /// Its group.
    pub group: String,
    /// Its slice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
    /// The last message before the answer.
    pub question: String,
    /// The right answer, or the text; empty if there is none.
    pub reference: String,
    /// The right label or option, or the requested class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The number of its own options; 0 if it has none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub options: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(options: &usize) -> bool {
    *options == 0
}

impl Report {
    /// Compares runs over one suite, the first with every other. `seed` is the seed of bootstrap and permutations.
    ///
    /// # Errors
    /// [`Error::DifferentItems`].
    pub fn new(suite: &Suite, config: &EvaluateConfig, runs: Vec<Evaluation>, seed: u64) -> Result<Self> {
        for run in &runs {
            let sizes = run.tasks.iter().map(|task| task.items.len());
            if !sizes.eq(suite.tasks.iter().map(|task| task.items.len())) {
                let (first, second) = (suite.name.clone(), run.name.clone());
                return Err(Error::DifferentItems { first, second, what: "the tasks of the suite" });
            }
        }
        let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
        let mut by_task: Vec<Vec<TaskRun>> = vec![Vec::new(); suite.tasks.len()];
        for run in runs {
            by_task.iter_mut().zip(run.tasks).for_each(|(of_task, task)| of_task.push(task));
        }
        let pairs = suite.tasks.iter().zip(by_task);
        let mut tasks: Vec<TaskReport> =
            pairs.map(|(task, runs)| figures::task_report(task, &config.decoding, runs, seed)).collect();
        adjust(&mut tasks);
        tasks.iter_mut().for_each(|task| task.judge(&names));
        Ok(Self { suite: suite.name.clone(), runs: names, tasks, about: BTreeMap::new() })
    }

    /// Writes the report as JSON, whole or not at all; it can be printed.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let failed = |source| Error::Write { path: path.to_owned(), source };
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.into()))?;
        let text = format!("{}\n", foehn_files::printable_json(text));
        foehn_files::write(path, text.as_bytes()).map_err(failed)
    }

    /// A task by its name.
    pub fn task(&self, name: &str) -> Option<&TaskReport> {
        self.tasks.iter().find(|task| task.name == name)
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", foehn_files::printable_text(table::render(self)))
    }
}

impl TaskReport {
    /// A figure by its name and slice.
    pub fn figure(&self, name: &str, slice: Option<&str>) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name && figure.slice.as_deref() == slice)
    }

    /// The true label of each item; empty if there are no labels.
    fn truth(&self) -> Vec<usize> {
        let label = |item: &ItemReport| self.labels.iter().position(|label| Some(label) == item.label.as_ref());
        self.items.iter().filter_map(label).collect()
    }

    /// The accuracy of the most frequent label for all items, or, if the items have options of their own, that of
    /// guesses; `None` if there is nothing to choose from.
    pub fn constant(&self) -> Option<f64> {
        let options = self.items.iter().map(|item| item.options);
        if self.labels.is_empty() && options.clone().all(|options| options > 0) {
            return Some(options.map(|options| 1.0 / options as f64).sum::<f64>() / self.items.len().max(1) as f64);
        }
        let truth = self.truth();
        let most = (0..self.labels.len()).map(|label| truth.iter().filter(|truth| **truth == label).count()).max()?;
        (!truth.is_empty()).then(|| most as f64 / truth.len() as f64)
    }

    /// The confusion of a run: `[true][predicted]`.
    pub fn confusion(&self, run: usize, by: &str) -> Option<Vec<Vec<u64>>> {
        let classified = self.runs.get(run)?.classified.iter().find(|classified| classified.by == by)?;
        Some(confusion(classified, &self.truth(), self.labels.len()))
    }

    fn judge(&mut self, names: &[String]) {
        let Some(headline) = self.figure(&self.headline, None).cloned() else { return };
        let measure = |run: &TaskRun| run.measures.iter().find(|measure| measure.name == self.headline).cloned();
        let Some(first) = self.runs.first().and_then(measure) else { return };
        let others = self.runs.iter().skip(1).filter_map(measure);
        let constant = self.constant().filter(|_| self.headline.ends_with("/accuracy"));
        let values = headline.compared.iter().zip(headline.values.iter().skip(1));
        let verdicts = others.zip(values).zip(names.iter().skip(1)).map(|((second, (compared, value)), run)| {
            let (gained, lost) = changed(&first, &second);
            Verdict {
                run: run.clone(),
                outcome: outcome(compared, headline.better),
                smallest: smallest(compared, headline.items),
                gained,
                lost,
                guess: constant.filter(|constant| value.low <= *constant),
            }
        });
        self.verdicts = verdicts.collect();
    }
}

/// What a comparison shows.
fn outcome(compared: &Compared, better: Better) -> Outcome {
    let Interval { estimate, low, high } = compared.difference;
    let is_shown = compared.p_holm.unwrap_or(compared.p_value) < LEVEL && (low > 0.0 || high < 0.0);
    match (is_shown, (estimate > 0.0) == (better != Better::Lower)) {
        (false, _) => Outcome::NoDifference,
        (true, true) => Outcome::Better,
        (true, false) => Outcome::Worse,
    }
}

/// The smallest difference that a test over so many items can show: exact for right and wrong, else half the interval.
fn smallest(compared: &Compared, items: usize) -> f64 {
    let half = (compared.difference.high - compared.difference.low) / 2.0;
    let Some(test) = compared.mcnemar else { return half };
    smallest_difference(items as u64, test.only_first + test.only_second).unwrap_or(1.0)
}

/// The items whose value rose and those whose value fell, the largest differences first.
fn changed(first: &Measure, second: &Measure) -> (Vec<usize>, Vec<usize>) {
    let value = |measure: &Measure, at: usize| measure.sums[at] / measure.counts[at];
    let asked = first.asked().filter(|at| second.counts[*at] > 0.0);
    let mut differences: Vec<(usize, f64)> = asked.map(|at| (at, value(second, at) - value(first, at))).collect();
    differences.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
    let of = |is: fn(f64) -> bool| differences.iter().filter(|(_, by)| is(*by)).map(|(at, _)| *at).collect();
    (of(|by| by > 0.0), of(|by| by < 0.0))
}

/// Adjusts the p-values of all headline figures together.
fn adjust(tasks: &mut [TaskReport]) {
    let mut tests: Vec<&mut Compared> = Vec::new();
    for TaskReport { figures, headline, .. } in tasks {
        let headline = figures.iter_mut().filter(|figure| figure.name == *headline && figure.slice.is_none());
        tests.extend(headline.flat_map(|figure| &mut figure.compared));
    }
    let adjusted = holm(&tests.iter().map(|test| test.p_value).collect::<Vec<_>>());
    tests.into_iter().zip(adjusted).for_each(|(test, p_holm)| test.p_holm = Some(p_holm));
}

/// `[true][predicted]`, with one more column for no label if a prediction has none.
fn confusion(classified: &Classified, truth: &[usize], labels: usize) -> Vec<Vec<u64>> {
    let columns = labels + usize::from(classified.predicted.contains(&Some(labels)));
    let mut cells = vec![vec![0; columns]; labels];
    for (truth, predicted) in truth.iter().zip(&classified.predicted) {
        if let Some(cell) = predicted.and_then(|predicted| cells.get_mut(*truth)?.get_mut(predicted)) {
            *cell += 1;
        }
    }
    cells
}
