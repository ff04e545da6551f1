//! The metrics of a run: one JSON object per line in `metrics.jsonl`.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
#[cfg(feature = "curve")]
use std::path::Path;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Error, Rewards};

/// One optimiser step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// The step, from 1.
    pub step: usize,
    /// The epoch that the step belongs to, from 1.
    pub epoch: usize,
    /// The step's loss before the update: the mean negative log-likelihood in nats, over what the setting `loss_mean`
    /// says, or the mean loss of its pairs.
    pub loss: f64,
    /// The learning rate of the update.
    pub learning_rate: f64,
    /// The global norm of all gradients before clipping.
    pub grad_norm: f64,
    /// Examples in the step.
    pub examples: usize,
    /// Supervised tokens in the step.
    pub supervised_tokens: usize,
    /// Tokens of the step's samples, counted as if each sample were computed alone.
    pub tokens: usize,
    /// Tokens that were computed; shared prefixes count once.
    pub rows: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// How the answers of the step's pairs compare, before the update.
    #[serde(flatten)]
    pub rewards: Option<Rewards>,
}

/// One pass over the validation set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationMetrics {
    /// The number of steps taken before.
    pub step: usize,
    /// The validation set's loss, averaged as the losses of the steps.
    pub validation_loss: f64,
    /// How the answers of its pairs compare.
    #[serde(flatten)]
    pub rewards: Option<Rewards>,
}

/// `metrics.jsonl`, open for appending.
pub(crate) struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Opens the file, and removes the lines of steps after `step` and of validations after step `validated`: an
    /// interrupted run wrote them, and this run will write them again.
    pub fn open(path: PathBuf, step: usize, validated: usize) -> Result<Self, Error> {
        let failed = |source| Error::File { path: path.clone(), source };
        if path.is_file() {
            let text = fs::read(&path).map_err(failed)?;
            let text = String::from_utf8_lossy(&text);
            let is_kept = |line: &&str| match step_of(line) {
                Some((of, false)) => of <= step,
                Some((of, true)) => of <= validated,
                None => false,
            };
            let kept: String = text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect();
            crate::checkpoint::write_file(&path, kept.as_bytes())?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        Ok(Self { path, file })
    }

    pub fn append(&mut self, metrics: &impl Serialize) -> Result<(), Error> {
        let failed = |source| Error::File { path: self.path.clone(), source };
        let mut line = serde_json::to_vec(metrics).map_err(|source| failed(source.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(failed)
    }
}

/// The losses and validation losses in a `metrics.jsonl`, as `(step, loss)`.
#[cfg(feature = "curve")]
pub(crate) fn losses(path: &Path) -> Result<[Vec<(usize, f64)>; 2], Error> {
    let mut curves = [Vec::new(), Vec::new()];
    // A pipe or a device could be read forever.
    if !path.is_file() {
        return Ok(curves);
    }
    let text = fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    let text = String::from_utf8_lossy(&text);
    for line in text.lines() {
        if let Ok(step) = serde_json::from_str::<StepMetrics>(line) {
            curves[0].push((step.step, step.loss));
        } else if let Ok(validation) = serde_json::from_str::<ValidationMetrics>(line) {
            curves[1].push((validation.step, validation.validation_loss));
        }
    }
    Ok(curves)
}

/// The step of a line, and whether it is a validation; `None` if the line cannot be read, for example because a crash
/// cut it off.
fn step_of(line: &str) -> Option<(usize, bool)> {
    let value = serde_json::from_str::<serde_json::Value>(line).ok()?;
    Some((value["step"].as_u64()? as usize, value.get("validation_loss").is_some()))
}
