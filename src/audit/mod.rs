//! Finds labels that are likely wrong, by the likelihood that a model gives them which has not seen them.
//!
//! The records are put into folds, with whole groups in one fold ([`foehn_corpus::folds()`]). For each fold an adapter is
//! trained on the labelled records of all other folds, and the likelihood of every label is measured as the answer of the
//! fold's records, corrected for labels that this adapter prefers whatever is asked. What the model doubts is data to
//! look at, and not to drop: a hard case that is right ranks high too, and is worth more than an easy one.
//!
//! ```no_run
//! use std::path::Path;
//! use foehn::{Pretrained, audit::{AuditConfig, Source, audit}};
//!
//! let base = Pretrained::load("smollm2-135m-instruct", &foehn::device("flex")?)?;
//! let data = Source::read(Path::new("my-data.jsonl"))?;
//! let audit = audit(&base, &data, &AuditConfig::default(), &mut |_| ())?;
//! for judged in audit.judged.iter().take(20) {
//!     println!("line {}: {} or {}? {}", judged.line, judged.given, judged.other, judged.question);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod decide;
mod error;
mod fold;
mod labels;
mod page;
mod rank;
mod source;

use std::path::PathBuf;

use foehn_evaluate::LabelRule;
use foehn_finetune::{LossMean, TrainingConfig, Validation, Warning};
use serde::{Deserialize, Serialize};

use crate::Pretrained;
use fold::{Cases, Work, score, train};
use labels::Labelled;

pub use decide::{Change, Changed, Review};
pub use error::AuditError;
pub use rank::{Found, auroc};
pub use source::{Entry, Source};

/// The settings of an [`audit`].
#[derive(Clone, Debug, PartialEq)]
pub struct AuditConfig {
    /// The number of folds, at least 2. With more, each adapter learns from more of the data, and the audit takes longer.
    pub folds: usize,
    /// Where an answer has its label; inferred as [`DataConfig`](foehn_evaluate::DataConfig) says if not given.
    pub rule: Option<LabelRule>,
    /// The labels to judge. Records with another label are not judged. If empty, all labels of the records.
    pub labels: Vec<String>,
    /// The instructions of conversations that have none.
    pub system: Option<String>,
    /// Passes over the records of the other folds. If not given, as many as make about [`STEPS`](Self::STEPS) steps, at
    /// most ten: with fewer an adapter learns little, and with more it learns the wrong labels by heart.
    pub epochs: Option<usize>,
    /// How each fold's adapter is trained, but for `epochs`. Its seed also chooses the folds; its validation is not used.
    pub training: TrainingConfig,
    /// The largest number of rows of one scoring pass.
    pub max_rows: usize,
}

impl Default for AuditConfig {
    /// Two folds, and the learning rate of the bundled recipes.
    fn default() -> Self {
        let training = TrainingConfig {
            seed: 1,
            learning_rate: 2e-3,
            loss_mean: LossMean::Samples,
            checkpoint_steps: 0,
            validation: Validation { fraction: 0.0, steps: 0, patience: 0 },
            ..TrainingConfig::default()
        };
        let (rule, labels, system) = (None, Vec::new(), None);
        Self { folds: 2, rule, labels, system, epochs: None, training, max_rows: 512 }
    }
}

/// The progress of an audit.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// Work was done: a step of training, or the scoring of about as many records as a step has.
    Work {
        /// What is done at present.
        what: &'a str,
        /// The work done.
        done: usize,
        /// The whole work.
        total: usize,
    },
    /// A problem or an information for the user; the audit continues.
    Warning(&'a Warning),
}

/// The judged records, the most doubtful first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// The version of Foehn.
    pub foehn: String,
    /// The base model.
    pub model: String,
    /// The data.
    pub data: PathBuf,
    /// SHA-256 of the data.
    pub data_sha256: String,
    /// The number of folds.
    pub folds: usize,
    /// The seed of folds and training.
    pub seed: u64,
    /// What is judged.
    pub tasks: Vec<AuditedTask>,
    /// The number of records that have no label and were not judged.
    pub without_label: usize,
    /// The number of records that cannot be read.
    pub unreadable: usize,
    /// The judged records, by falling doubt.
    pub judged: Vec<Judged>,
}

/// The records with labels of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditedTask {
    /// The value of the records' `task`, or `answers`.
    pub name: String,
    /// Where the answers have their labels, as [`LabelRule`] writes it.
    pub rule: String,
    /// The labels.
    pub labels: Vec<String>,
}

/// A record, and what a model says of its label that has seen neither it nor its group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// The line of the record; see [`Place`](foehn_corpus::Place).
    pub line: u64,
    /// Its id, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The index of its task in [`Audit::tasks`].
    pub task: usize,
    /// Its fold, from 0.
    pub fold: usize,
    /// Its label in the data.
    pub given: String,
    /// The most likely of the other labels.
    pub other: String,
    /// How much likelier the other label is than the given one: `ln p(other) - ln p(given)`. Above 0 the model prefers
    /// the other one.
    pub doubt: f64,
    /// The logarithms of the labels' probabilities, corrected so that in a fold they are on average the labels' shares, in the order of [`AuditedTask::labels`].
    pub log_probabilities: Vec<f64>,
    /// The last message before the answer.
    pub question: String,
    /// The answer.
    pub answer: String,
    /// A hash of the record's messages.
    pub fingerprint: String,
    /// Whether a person has looked at the record and keeps its label.
    #[serde(default)]
    pub is_kept: bool,
}

/// Judges the labels of a file's records. `observe` gets the progress.
///
/// An adapter that is attached to the model is not used. The same data, settings and device give the same audit.
///
/// # Errors
/// [`AuditError`]: a setting, data without labels, a label that is too rare, and the errors of training and scoring.
pub fn audit(
    base: &Pretrained,
    data: &Source,
    config: &AuditConfig,
    observe: &mut dyn FnMut(Progress<'_>),
) -> Result<Audit, AuditError> {
    config.check()?;
    let cases = Cases::new(data, config)?;
    let folds = cases.folds(config)?;
    let mut work = Work::new(&folds, config, observe);
    let mut judged = Vec::with_capacity(cases.list.len());
    for fold in 0..config.folds {
        let (own, others): (Vec<usize>, Vec<usize>) = (0..folds.len()).partition(|case| folds[*case] == fold);
        let trained = train(base, &cases.training(&others), config, &mut work)?;
        let scores = score(base, &trained, &cases, &own, config, &mut work)?;
        judged.extend(own.iter().zip(scores).map(|(case, scores)| cases.judged(*case, fold, &scores)));
        work.next_fold();
    }
    judged.sort_by(|a, b| b.doubt.total_cmp(&a.doubt).then(a.line.cmp(&b.line)));
    let labelled = |of: &Labelled| AuditedTask {
        name: of.task.name.clone(),
        rule: of.rule.to_string(),
        labels: of.task.labels().to_vec(),
    };
    Ok(Audit {
        foehn: env!("CARGO_PKG_VERSION").to_owned(),
        model: base.name.clone(),
        data: data.path.clone(),
        data_sha256: data.sha256.clone(),
        folds: config.folds,
        seed: config.training.seed,
        tasks: cases.tasks.iter().map(labelled).collect(),
        without_label: data.entries.len() - cases.list.len(),
        unreadable: data.unreadable.len(),
        judged,
    })
}

impl AuditConfig {
    /// The steps of a fold's training that suffice, if nothing else is asked for.
    pub const STEPS: usize = 100;

    /// The settings for training on a number of records.
    pub fn training_on(&self, records: usize) -> TrainingConfig {
        let steps = records.div_ceil(self.training.batch_size.max(1)).max(1);
        let epochs = self.epochs.unwrap_or_else(|| Self::STEPS.div_ceil(steps).min(10));
        TrainingConfig { epochs, ..self.training.clone() }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`AuditError::Setting`], and [`AuditError::Training`] for the settings of the training.
    pub fn check(&self) -> Result<(), AuditError> {
        for (field, found, least, expected) in
            [("folds", self.folds, 2, "at least 2"), ("max_rows", self.max_rows, 1, "at least 1")]
        {
            if found < least {
                return Err(AuditError::Setting { field, found, expected });
            }
        }
        Ok(self.training_on(1).check()?)
    }
}

impl Audit {
    /// The records that the model doubts and nobody has looked at yet, the most doubtful first.
    pub fn open(&self) -> impl Iterator<Item = &Judged> {
        self.judged.iter().filter(|judged| !judged.is_kept)
    }

    /// The judged record that a name means: its line, or its id.
    ///
    /// # Errors
    /// [`AuditError::UnknownRecord`].
    pub fn record(&self, name: &str) -> Result<&Judged, AuditError> {
        let by_line = name.parse().ok().and_then(|line: u64| self.judged.iter().find(|judged| judged.line == line));
        let by_id = || self.judged.iter().find(|judged| judged.id.as_deref() == Some(name));
        by_line.or_else(by_id).ok_or_else(|| AuditError::UnknownRecord { name: name.to_owned() })
    }

    /// How often each given label (rows) has each most likely label (columns), of one task.
    pub fn confusion(&self, task: usize) -> Vec<Vec<usize>> {
        let labels = self.tasks.get(task).map_or(&[][..], |task| task.labels.as_slice());
        let place = |label: &str| labels.iter().position(|other| other == label);
        let mut counts = vec![vec![0; labels.len()]; labels.len()];
        for judged in self.judged.iter().filter(|judged| judged.task == task) {
            if let (Some(given), Some(likely)) = (place(&judged.given), place(judged.likeliest())) {
                counts[given][likely] += 1;
            }
        }
        counts
    }
}

impl Judged {
    /// The label that the model prefers: the given one, or another.
    pub fn likeliest(&self) -> &str {
        if self.doubt > 0.0 { &self.other } else { &self.given }
    }
}
