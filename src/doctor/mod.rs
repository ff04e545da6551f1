//! Finds out what is wrong with an adapter: twelve checks, each with what was looked at and what was found.
//!
//! ```no_run
//! use foehn::{Pretrained, doctor::{Inputs, Severity, diagnose}};
//!
//! let base = Pretrained::load("smollm2-135m-instruct", &foehn::device("flex")?)?;
//! let diagnosis = diagnose(&base, &Inputs::new("runs/mine/adapter"), &mut |_| ())?;
//! for finding in diagnosis.findings.iter().filter(|finding| finding.severity >= Severity::Warning) {
//!     println!("{}: {}. {}", finding.check.name(), finding.found, finding.advice);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod behaviour;
mod case;
mod labels;
mod leak;
mod origin;
mod rendering;
mod scale;
mod talk;
mod values;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{LoadError, Loading, Pretrained};
use case::Case;

/// The files that [`diagnose`] reads. Beside an adapter in the folder of a run (`runs/mine/adapter`), the run's
/// `clean.jsonl` and `metrics.jsonl` are read too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// The adapter's folder.
    pub adapter: PathBuf,
    /// The records that it was trained on, as `clean` writes them. By default those of the run's folder.
    pub data: Option<PathBuf>,
    /// The records that were held out. By default those that the run's recipe held out.
    pub validation: Option<PathBuf>,
    /// A checkpoint that should be the base with the adapter merged into it. By default the adapter is merged in
    /// memory.
    pub merged: Option<PathBuf>,
}

impl Inputs {
    /// The adapter alone, and what lies beside it.
    pub fn new(adapter: impl Into<PathBuf>) -> Self {
        Self { adapter: adapter.into(), data: None, validation: None, merged: None }
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Nothing was found.
    Sound,
    /// Something that the check needs is missing.
    NotChecked,
    /// It may be intended: look at it.
    Warning,
    /// The adapter, the data or a file is wrong.
    Fault,
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// NaN, infinity, or an update that is larger than the weight it changes.
    Values,
    /// Another base than the one that the adapter was trained on.
    Base,
    /// Another tokenizer or chat template than the base's.
    Text,
    /// A stop token outside the loss mask.
    StopToken,
    /// A sample that begins with two BOS.
    DoubledBos,
    /// An adapter that changes nothing.
    Effect,
    /// A loss no better than a guess among all tokens.
    Loss,
    /// A scale that is wrong by the square root of the rank.
    Scale,
    /// A merged checkpoint that differs from base and adapter.
    Merged,
    /// The answer in the text of the prompt.
    Labels,
    /// The same records in training and validation.
    Leak,
    /// Answers that go on to another question.
    SelfTalk,
}

/// The checks, in their order.
const CHECKS: [Check; 12] = [
    Check::Values,
    Check::Base,
    Check::Text,
    Check::StopToken,
    Check::DoubledBos,
    Check::Effect,
    Check::Loss,
    Check::Scale,
    Check::Merged,
    Check::Labels,
    Check::Leak,
    Check::SelfTalk,
];

impl Check {
    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::Base => "base",
            Self::Text => "tokenizer and template",
            Self::StopToken => "stop token",
            Self::DoubledBos => "doubled BOS",
            Self::Effect => "effect",
            Self::Loss => "loss",
            Self::Scale => "scale",
            Self::Merged => "merged checkpoint",
            Self::Labels => "labels in prompts",
            Self::Leak => "leak",
            Self::SelfTalk => "self-talk",
        }
    }

    /// Why a fault of this kind matters.
    pub fn why(self) -> &'static str {
        match self {
            Self::Values => "broken or huge numbers drown what the base knows: answers become noise",
            Self::Base => "an adapter is a correction of one base; on another one it corrects nothing",
            Self::Text => "the model sees other tokens than in training, so it does not recognise what it learned",
            Self::StopToken => "a model that never trained its stop token does not learn to end an answer",
            Self::DoubledBos => "the model was never shown two BOS; answers get worse and nothing says so",
            Self::Effect => "the model answers exactly as before: the training had no effect, or it was not saved",
            Self::Loss => "at this loss the model guesses: it learned nothing from the data, or it was damaged",
            Self::Scale => "the adapter works too weakly or too strongly, although every number in it is right",
            Self::Merged => "what is deployed is not the model that was measured",
            Self::Labels => "the model learns to copy the answer from the prompt, and fails where it is not there",
            Self::Leak => "validation then measures memory: the figures are better than the model is",
            Self::SelfTalk => "users get questions that they did not ask, with answers to them",
        }
    }
}

/// An input that a check needs and does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// [`Inputs::data`].
    Data,
    /// [`Inputs::validation`].
    Validation,
    /// [`Inputs::merged`].
    Merged,
}

/// The result of one check, in sentences without a full stop. What comes from files is escaped.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The check.
    pub check: Check,
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at.
    pub looked_at: String,
    /// What was found, or why nothing was checked.
    pub found: String,
    /// Why it matters; empty if nothing was found.
    pub why: &'static str,
    /// What to do; empty if nothing was found.
    pub advice: String,
    /// The input without which nothing was checked.
    pub missing: Option<Missing>,
}

impl Finding {
    fn new(check: Check, severity: Severity, looked_at: impl Into<String>, found: impl Into<String>) -> Self {
        let (looked_at, found, why) = (looked_at.into(), found.into(), check.why());
        let why = if severity >= Severity::Warning { why } else { "" };
        Self { check, severity, looked_at, found, why, advice: String::new(), missing: None }
    }

    fn sound(check: Check, looked_at: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(check, Severity::Sound, looked_at, found)
    }

    fn not_checked(check: Check, looked_at: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(check, Severity::NotChecked, looked_at, reason)
    }

    fn missing(check: Check, looked_at: impl Into<String>, missing: Missing) -> Self {
        let what = match missing {
            Missing::Data => "there are no training records",
            Missing::Validation => "there are no validation records",
            Missing::Merged => "there is no merged checkpoint",
        };
        Self { missing: Some(missing), ..Self::not_checked(check, looked_at, what) }
    }

    fn advising(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }
}

/// The results of all checks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnosis {
    /// The adapter's folder.
    pub adapter: String,
    /// The base model's name.
    pub base: String,
    /// The worst finding's severity. [`Severity::NotChecked`] counts as [`Severity::Sound`].
    pub severity: Severity,
    /// One finding a check, in the order of [`Check`].
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// The finding of one check.
    pub fn of(&self, check: Check) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.check == check)
    }
}

/// The files cannot be examined at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoctorError {
    /// The adapter's files cannot be read.
    #[error("cannot read the adapter in {}", path.display())]
    Adapter {
        /// The adapter's folder.
        path: PathBuf,
        /// The error.
        #[source]
        source: Box<foehn_lora::Error>,
    },
    /// Records cannot be read, or there are none.
    #[error(transparent)]
    Corpus(#[from] foehn_corpus::Error),
    /// The run's metrics cannot be read.
    #[error("cannot read {}", path.display())]
    Metrics {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The base or the merged checkpoint cannot be read.
    #[error(transparent)]
    Load(#[from] Box<LoadError>),
    /// A template or a tokenizer fails on a conversation.
    #[error(transparent)]
    Generate(#[from] foehn_generate::Error),
}

/// What [`diagnose`] is about to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// To read or to hash a checkpoint.
    Loading(Loading<'a>),
    /// To take the next step.
    Step {
        /// The step, in a few words.
        name: &'static str,
        /// The number of steps that are done.
        done: usize,
        /// The number of all steps.
        total: usize,
    },
}

/// Examines an adapter on the base model that it was trained on. `base` has no adapter attached.
///
/// At most 32 records are computed, so a small model takes less than a minute. Nothing is written.
///
/// # Errors
/// [`DoctorError`] if a file cannot be read at all. Whatever else is wrong is a [`Finding`].
pub fn diagnose(
    base: &Pretrained,
    inputs: &Inputs,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Diagnosis, DoctorError> {
    let total = 1 + CHECKS.len();
    progress(Progress::Step { name: "answers with and without the adapter", done: 0, total });
    let case = Case::open(base, inputs, &mut |loading| progress(Progress::Loading(loading)))?;
    let mut findings = Vec::with_capacity(CHECKS.len());
    for (at, check) in CHECKS.into_iter().enumerate() {
        progress(Progress::Step { name: check.name(), done: 1 + at, total });
        findings.push(match check {
            Check::Values => values::values(&case),
            Check::Base => origin::base(&case),
            Check::Text => origin::text(&case),
            Check::StopToken => rendering::stop_token(&case),
            Check::DoubledBos => rendering::doubled_bos(&case),
            Check::Effect => behaviour::effect(&case),
            Check::Loss => behaviour::loss_check(&case),
            Check::Scale => scale::scale(&case),
            Check::Merged => behaviour::merged(&case, &mut |loading| progress(Progress::Loading(loading)))?,
            Check::Labels => labels::labels(&case),
            Check::Leak => leak::leak(&case),
            Check::SelfTalk => talk::self_talk(&case)?,
        });
    }
    let worst = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Sound);
    let severity = if worst == Severity::NotChecked { Severity::Sound } else { worst };
    let shown = |path: &Path| foehn_files::printable(path.display()).to_string();
    let base = foehn_files::printable(&base.name).to_string();
    Ok(Diagnosis { adapter: shown(&inputs.adapter), base, severity, findings })
}

/// The base that an adapter's files name: the manifest's, or that of `adapter_config.json`. `None` if neither names
/// one.
///
/// # Errors
/// [`DoctorError::Adapter`] if the adapter cannot be read. Numbers that are not finite are no error.
pub fn named_base(adapter: &Path) -> Result<Option<String>, DoctorError> {
    drop(case::load(adapter)?);
    let field = |file: &str, key: &str| {
        let text = foehn_files::read_to_string(adapter.join(file), foehn_files::MAX_TEXT).ok()?;
        let json: serde_json::Value = serde_json::from_str(&text).ok()?;
        json.get(key)?.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
    };
    Ok(field("foehn.json", "base_name").or_else(|| field("adapter_config.json", "base_model_name_or_path")))
}

/// An error with its sources, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    foehn_files::printable(text).to_string()
}

/// `1 record`, `2 records`
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
