//! The folds: what is in them, the training on all others, the scores of their own records.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::Module;
use foehn_corpus::{Folds, NearDuplicates};
use foehn_evaluate::{EvaluateConfig, Item, Subject, Suite, Task, argmax, evaluate};
use foehn_finetune::{Folder, Run, Trainer};
use foehn_mistral::Mistral;
use foehn_record::Record;

use super::labels::{Labelled, tasks, training_record};
use super::rank::calibrated;
use super::source::{Source, fingerprint};
use super::{AuditConfig, AuditError, Judged, Progress};
use crate::Pretrained;

/// The records that are judged.
pub(super) struct Cases<'a> {
    data: &'a Source,
    pub tasks: Vec<Labelled>,
    pub list: Vec<Case>,
}

/// A record that is judged: its task, its item there, and its entry in the data.
pub(super) struct Case {
    task: usize,
    item: usize,
    entry: usize,
}

impl<'a> Cases<'a> {
    pub fn new(data: &'a Source, config: &AuditConfig) -> Result<Self, AuditError> {
        let tasks = tasks(data, config)?;
        let of_task = |(task, of): (usize, &Labelled)| -> Vec<Case> {
            of.entries.iter().enumerate().map(|(item, entry)| Case { task, item, entry: *entry }).collect()
        };
        let list = tasks.iter().enumerate().flat_map(of_task).collect();
        Ok(Self { data, tasks, list })
    }

    fn item(&self, case: usize) -> &Item {
        let Case { task, item, .. } = self.list[case];
        &self.tasks[task].task.items[item]
    }

    fn line(&self, case: usize) -> u64 {
        self.data.entries[self.list[case].entry].line
    }

    /// The fold of each case. Every label is in at least two of them, so that each adapter learns it.
    pub fn folds(&self, config: &AuditConfig) -> Result<Vec<usize>, AuditError> {
        let key = |case: usize| (self.list[case].task, self.item(case).truth);
        let mut numbers: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for case in 0..self.list.len() {
            let next = numbers.len();
            numbers.entry(key(case)).or_insert(next);
        }
        let labels: Vec<usize> = (0..self.list.len()).map(|case| numbers[&key(case)]).collect();
        let records: Vec<Record> = self.list.iter().map(|case| self.data.entries[case.entry].record.clone()).collect();
        let (count, seed) = (config.folds, config.training.seed);
        let Folds { of_records, families } =
            foehn_corpus::folds(&records, &labels, count, seed, &NearDuplicates::default());
        let values_of = |label: usize, of: &[usize]| -> BTreeSet<usize> {
            labels.iter().zip(of).filter(|(other, _)| **other == label).map(|(_, value)| *value).collect()
        };
        for (number, first) in (0..numbers.len()).filter_map(|n| Some((n, labels.iter().position(|l| *l == n)?))) {
            let (path, line) = (self.data.path.clone(), self.line(first));
            let label = self.tasks[self.list[first].task].task.labels()[self.item(first).truth].clone();
            let groups = values_of(number, &families).len();
            if groups < count {
                return Err(AuditError::TooFewGroups { path, line, label, groups, folds: count });
            }
            if values_of(number, &of_records).len() < 2 {
                return Err(AuditError::OneFold { path, line, label });
            }
        }
        Ok(of_records)
    }

    /// The records of some cases, as an adapter is trained on them.
    pub fn training(&self, cases: &[usize]) -> Vec<Record> {
        let record =
            |case: &usize| training_record(self.item(*case), &self.tasks[self.list[*case].task], self.line(*case));
        cases.iter().map(record).collect()
    }

    /// What the scores of its labels say of a case.
    pub fn judged(&self, case: usize, fold: usize, scores: &[f64]) -> Judged {
        let Case { task, entry, .. } = self.list[case];
        let (item, labels) = (self.item(case), self.tasks[task].task.labels());
        let record = &self.data.entries[entry].record;
        let others: Vec<f64> = scores
            .iter()
            .enumerate()
            .map(|(label, score)| if label == item.truth { f64::NEG_INFINITY } else { *score })
            .collect();
        let other = argmax(&others);
        Judged {
            line: self.line(case),
            id: record.id.clone(),
            task,
            fold,
            given: labels[item.truth].clone(),
            other: labels[other].clone(),
            doubt: scores[other] - scores[item.truth],
            log_probabilities: log_softmax(scores),
            question: item.question().to_owned(),
            answer: item.reference.clone(),
            fingerprint: fingerprint(record),
            is_kept: false,
        }
    }
}

/// The logarithms of the probabilities that are proportional to `exp(scores)`.
fn log_softmax(scores: &[f64]) -> Vec<f64> {
    let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum = best + scores.iter().map(|score| (score - best).exp()).sum::<f64>().ln();
    scores.iter().map(|score| score - sum).collect()
}

/// The model with an adapter that was trained on records. The base stays as it is: the two share the weights.
pub(super) fn train(
    base: &Pretrained,
    records: &[Record],
    config: &AuditConfig,
    work: &mut Work<'_>,
) -> Result<Mistral, AuditError> {
    let training = base.dataset(records)?;
    // A trainer writes its metrics; nobody needs those of a fold.
    let place = std::env::temp_dir();
    let scratch = tempfile::tempdir().map_err(|source| AuditError::File { path: place, source })?;
    let mut model = base.model.clone();
    let run = Run {
        config: &config.training_on(records.len()),
        training: &training,
        validation: None,
        manifest: foehn_lora::Manifest::default(),
        out: Folder::begin(scratch.path())?,
    };
    let mut trainer = Trainer::new(&mut model, run)?;
    while !trainer.is_done() {
        trainer.step()?;
        for warning in trainer.take_warnings() {
            (work.observe)(Progress::Warning(&warning));
        }
        work.add_step();
    }
    Ok(trainer.model().valid())
}

/// The log-likelihoods of the labels of a fold's cases, calibrated.
pub(super) fn score(
    base: &Pretrained,
    model: &Mistral,
    cases: &Cases<'_>,
    own: &[usize],
    config: &AuditConfig,
    work: &mut Work<'_>,
) -> Result<Vec<Vec<f64>>, AuditError> {
    let mut found = vec![Vec::new(); own.len()];
    let subject = Subject { model, tokenizer: &base.tokenizer, template: &base.template, base: None };
    let config = EvaluateConfig { max_rows: config.max_rows, ..EvaluateConfig::default() };
    for (number, labelled) in cases.tasks.iter().enumerate() {
        let places: Vec<usize> = (0..own.len()).filter(|at| cases.list[own[*at]].task == number).collect();
        if places.is_empty() {
            continue;
        }
        let items: Vec<Item> = places.iter().map(|at| cases.item(own[*at]).clone()).collect();
        let (count, mut done) = (items.len(), 0);
        let suite = Suite { name: String::new(), tasks: vec![Task { items, ..labelled.task.clone() }] };
        let evaluation = evaluate("fold", subject, &suite, &config, &mut |part, whole| {
            let reached = count * part / whole.max(1);
            work.add_scored(reached.saturating_sub(done));
            done = done.max(reached);
        })?;
        let runs = evaluation.tasks.into_iter().flat_map(|task| task.items);
        let scores: Vec<Vec<f64>> = runs.map(|mut run| run.scores.swap_remove(0)).collect();
        let given: Vec<usize> = places.iter().map(|at| cases.item(own[*at]).truth).collect();
        for (at, scores) in places.into_iter().zip(calibrated(&scores, &given)) {
            found[at] = scores;
        }
    }
    Ok(found)
}

/// The work of an audit, in steps of training; scoring as many records as a step has counts as much.
pub(super) struct Work<'a> {
    observe: &'a mut dyn FnMut(Progress<'_>),
    fold: usize,
    folds: usize,
    batch: usize,
    steps: usize,
    scored: usize,
    total: usize,
}

impl<'a> Work<'a> {
    pub fn new(folds: &[usize], config: &AuditConfig, observe: &'a mut dyn FnMut(Progress<'_>)) -> Self {
        let batch = config.training.batch_size;
        let held = |fold: usize| folds.iter().filter(|of| **of == fold).count();
        let steps_of = |fold: usize| {
            let others = folds.len() - held(fold);
            config.training_on(others).total_steps(others)
        };
        let steps: usize = (0..config.folds).map(steps_of).sum();
        let total = steps + folds.len() / batch;
        Self { observe, fold: 1, folds: config.folds, batch, steps: 0, scored: 0, total }
    }

    fn add_step(&mut self) {
        self.steps += 1;
        self.tell("training");
    }

    fn add_scored(&mut self, records: usize) {
        self.scored += records;
        self.tell("scoring");
    }

    fn tell(&mut self, what: &str) {
        let what = format!("{what}, fold {} of {}", self.fold, self.folds);
        let done = (self.steps + self.scored / self.batch).min(self.total);
        (self.observe)(Progress::Work { what: &what, done, total: self.total });
    }

    pub fn next_fold(&mut self) {
        self.fold += 1;
    }
}
