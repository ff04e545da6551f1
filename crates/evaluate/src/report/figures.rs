//! Computes the figures of a task from the results of its runs.

use std::collections::BTreeSet;

use super::{ClassReport, ClassTest, Compared, Figure, ItemReport, TaskReport};
use crate::calibration::Reliability;
use crate::measure::{Classified, Measure};
use crate::statistics::{Clusters, Part};
use crate::{Better, ClassFigures, Classification, Decoding, Item, Judge, McNemar, Task, TaskRun, holm};

/// Bootstrap resamples of a figure that is a sum, and of one that is computed anew from every resample.
const RESAMPLES: usize = 10_000;
const RECOMPUTED: usize = 1_000;

pub(super) fn task_report(task: &Task, decoding: &Decoding, runs: Vec<TaskRun>, seed: u64) -> TaskReport {
    let groups: Vec<&str> = task.items.iter().map(|item| item.group.as_str()).collect();
    let context = Context { task, seed, groups: &groups, clusters: Clusters::new(&groups), runs: &runs };
    let headline = headline(&runs);
    let mut figures = Vec::new();
    let names: Vec<&str> =
        runs.first().map_or(Vec::new(), |run| run.measures.iter().map(|m| m.name.as_str()).collect());
    for name in names {
        figures.extend(context.figure(name, None));
        let is_sliced = name == headline || matches!(name, "likelihood/accuracy" | "generation/accuracy");
        let slices: BTreeSet<&str> = task.items.iter().filter_map(|item| item.slice.as_deref()).collect();
        figures.extend(slices.into_iter().filter(|_| is_sliced).filter_map(|slice| context.figure(name, Some(slice))));
        if let Some(by) = name.strip_suffix("/accuracy") {
            figures.extend(context.derived(by));
        }
    }
    // Figures of one part stand together, in the order in which the parts first appear.
    let part = |figure: &Figure| figure.name.split('/').next().unwrap_or_default().to_owned();
    let mut parts: Vec<String> = figures.iter().map(part).collect();
    parts.dedup();
    figures.sort_by_key(|figure| parts.iter().position(|other| *other == part(figure)));
    let rule = match &task.judge {
        Judge::Choice(choice) if !choice.labels.is_empty() => Some(choice.rule.to_string()),
        _ => None,
    };
    let (classes, items) = (context.classes(), items(task));
    TaskReport {
        name: task.name.clone(),
        kind: task.kind().to_owned(),
        hashes: task.hashes.clone(),
        rule,
        labels: task.labels().to_vec(),
        prompts: task.patterns.clone(),
        decoding: (task.max_new_tokens > 0).then(|| decoding.of(task).to_string()),
        headline,
        verdicts: Vec::new(),
        figures,
        classes,
        items,
        runs,
    }
}

fn items(task: &Task) -> Vec<ItemReport> {
    let has_label = matches!(task.judge, Judge::Choice(_) | Judge::Describe(_));
    let item = |item: &Item| ItemReport {
        id: item.id.clone(),
        place: item.place.clone(),
        group: item.group.clone(),
        slice: item.slice.clone(),
        question: item.question().to_owned(),
        reference: item.reference.clone(),
        label: item.options(task.labels()).get(item.truth).filter(|_| has_label).cloned(),
        options: item.options.len(),
    };
    task.items.iter().map(item).collect()
}

/// The figure of a task that its verdict is about: the first of these that it has. The label that a model says counts
/// if every item was answered: that is what a user gets. With fewer answers, the likelihoods know more.
fn headline(runs: &[TaskRun]) -> String {
    let order = [
        "generation/accuracy",
        "likelihood/accuracy",
        "description/in the asked class alone",
        "text/contains an accepted answer",
        "text/has all that is needed",
        "text/JSON values right",
        "likelihood/log-likelihood per token",
    ];
    let measures = runs.first().map_or(&[][..], |run| run.measures.as_slice());
    let is_whole = |measure: &Measure| measure.asked().count() == measure.counts.len();
    let has = |name: &&str| {
        let needs_all = name.starts_with("generation/");
        measures.iter().any(|measure| measure.name == **name && (!needs_all || is_whole(measure)))
    };
    order.into_iter().find(has).or(measures.first().map(|first| first.name.as_str())).unwrap_or_default().to_owned()
}

/// What the figures of a task are computed from.
struct Context<'a> {
    task: &'a Task,
    seed: u64,
    groups: &'a [&'a str],
    clusters: Clusters,
    runs: &'a [TaskRun],
}

impl Context<'_> {
    /// A measure of all runs; `None` if a run lacks it or no item of the slice has it.
    fn figure(&self, name: &str, slice: Option<&str>) -> Option<Figure> {
        let of = |run: &TaskRun| run.measures.iter().find(|measure| measure.name == name).cloned();
        let mut measures = self.runs.iter().map(of).collect::<Option<Vec<Measure>>>()?;
        for measure in &mut measures {
            for (at, item) in self.task.items.iter().enumerate() {
                if slice.is_some() && item.slice.as_deref() != slice {
                    (measure.sums[at], measure.counts[at]) = (0.0, 0.0);
                }
            }
        }
        let (first, others) = measures.split_first()?;
        let asked: Vec<usize> =
            (0..self.groups.len()).filter(|at| measures.iter().any(|measure| measure.counts[*at] > 0.0)).collect();
        if asked.is_empty() && slice.is_some() {
            return None;
        }
        let parts = |measure: &Measure| -> Vec<Part> {
            measure.sums.iter().copied().zip(measure.counts.iter().copied()).collect()
        };
        // Groups without an item of the slice would only make the interval depend on the other slices.
        let clusters = match asked.len() == self.groups.len() {
            true => None,
            false => Some(Clusters::new(&asked.iter().map(|at| self.groups[*at]).collect::<Vec<_>>())),
        };
        let parts = |measure: &Measure| -> Vec<Part> { asked.iter().map(|at| parts(measure)[*at]).collect() };
        let clusters = clusters.as_ref().unwrap_or(&self.clusters);
        let base = parts(first);
        let value = |measure: &Measure| clusters.bootstrap_ratio(&parts(measure), RESAMPLES, self.seed);
        let compared = |measure: &Measure| {
            let other = parts(measure);
            let is_binary =
                [first, measure].iter().all(|measure| measure.is_binary() && measure.asked().eq(asked.iter().copied()));
            let right = |measure: &Measure| asked.iter().map(|at| measure.sums[*at] == 1.0).collect::<Vec<bool>>();
            let mcnemar = is_binary.then(|| McNemar::new(&right(first), &right(measure)));
            let p_value = mcnemar.map_or_else(
                || clusters.permutation_test(&base, &other, RESAMPLES, self.seed),
                |mcnemar| mcnemar.p_value,
            );
            let difference = clusters.bootstrap_difference(&base, &other, RESAMPLES, self.seed);
            Compared { difference, mcnemar, p_value, p_holm: None }
        };
        Some(Figure {
            name: name.to_owned(),
            slice: slice.map(str::to_owned),
            items: asked.len(),
            better: first.better,
            values: measures.iter().map(value).collect(),
            compared: others.iter().map(compared).collect(),
        })
    }

    /// Macro-F1, R_K and the calibration of predictions, which are no sums over items.
    fn derived(&self, by: &str) -> Vec<Figure> {
        let labels = self.task.labels().len();
        let truth: Vec<usize> = self.task.items.iter().map(|item| item.truth).collect();
        let of = |run: &TaskRun| run.classified.iter().find(|classified| classified.by == by).cloned();
        let classified: Vec<Classified> = self.runs.iter().filter_map(of).collect();
        let Some(first) = classified.first() else { return Vec::new() };
        let items = first.predicted.iter().flatten().count();
        let figure = |name: &str, value: fn(&Classification) -> f64| {
            let of = |classified: &Classified| {
                let statistic =
                    |items: &[usize]| value(&classified.classification(&truth, labels, items.iter().copied()));
                self.clusters.bootstrap(RECOMPUTED, self.seed, statistic)
            };
            Figure {
                name: format!("{by}/{name}"),
                slice: None,
                items,
                better: Better::Higher,
                values: classified.iter().map(of).collect(),
                compared: Vec::new(),
            }
        };
        let mut figures = vec![figure("macro-F1", |found| found.macro_f1), figure("MCC (R_K)", |found| found.mcc)];
        if classified.iter().all(|classified| classified.confidence.len() == truth.len()) {
            let error = |classified: &Classified| {
                let is_right = |item: &usize| classified.predicted[*item] == Some(truth[*item]);
                let of = |items: &[usize]| {
                    let confidence: Vec<f64> = items.iter().map(|item| classified.confidence[*item]).collect();
                    Reliability::new(&confidence, &items.iter().map(is_right).collect::<Vec<bool>>()).ece
                };
                self.clusters.bootstrap(RECOMPUTED, self.seed, of)
            };
            let (name, values) = (format!("{by}/calibration error"), classified.iter().map(error).collect());
            figures.push(Figure { name, slice: None, items, better: Better::Lower, values, compared: Vec::new() });
        }
        figures
    }

    /// The metrics of each label, from the likelihoods.
    fn classes(&self) -> Vec<ClassReport> {
        let labels = self.task.labels();
        let truth: Vec<usize> = self.task.items.iter().map(|item| item.truth).collect();
        let of = |run: &TaskRun| run.classified.iter().find(|classified| classified.by == "likelihood").cloned();
        let classified: Vec<Classified> = self.runs.iter().filter_map(of).collect();
        let Some(first) = classified.first() else { return Vec::new() };
        let all = |classified: &Classified| classified.classification(&truth, labels.len(), 0..truth.len()).per_class;
        let figures: Vec<Vec<ClassFigures>> = classified.iter().map(all).collect();
        let right = |classified: &Classified, label: usize| -> Vec<bool> {
            let of_label = (0..truth.len()).filter(|at| truth[*at] == label);
            of_label.map(|at| classified.predicted[at] == Some(label)).collect()
        };
        let tests = |other: usize| -> Vec<ClassTest> {
            let test = |label| McNemar::new(&right(first, label), &right(&classified[other], label));
            let tests: Vec<McNemar> = (0..labels.len()).map(test).collect();
            let adjusted = holm(&tests.iter().map(|test| test.p_value).collect::<Vec<_>>());
            let joined = tests.into_iter().zip(adjusted).enumerate();
            joined
                .map(|(label, (test, p_holm))| {
                    let difference = figures[other][label].recall - figures[0][label].recall;
                    ClassTest { difference, test, p_holm }
                })
                .collect()
        };
        let tests: Vec<Vec<ClassTest>> = (1..classified.len()).map(tests).collect();
        let report = |(at, label): (usize, &String)| ClassReport {
            label: label.clone(),
            values: figures.iter().map(|run| run[at]).collect(),
            tests: tests.iter().map(|run| run[at]).collect(),
        };
        labels.iter().enumerate().map(report).collect()
    }
}
