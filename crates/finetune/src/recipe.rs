//! What a run does, as a TOML file.

use std::path::{Path, PathBuf};

use foehn_lora::LoraConfig;
use foehn_mistral::Base;
use serde::{Deserialize, Serialize};

use crate::{AdamWConfig, Error, LossMean, Schedule};

/// More is a slip of the finger, and times the samples it could be more steps than a number holds.
const MAX_EPOCHS: usize = 1_000_000;

/// A training run's settings. Every key has a default; an unknown key is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// The base model: a folder, a `.gguf` file, a repository id or a short name.
    pub model: String,
    /// The form in which the base's matrices are kept: `stored`, `f32`, `bf16`, `q8_0`, `q4_k` or `nf4`.
    pub base: Base,
    /// The training data: a file of any format that `foehn-corpus` reads.
    pub data: PathBuf,
    /// The passes that clean the data, a TOML file as `foehn-corpus` reads it; its default pipeline where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<PathBuf>,
    /// A sense lexicon, `{class: [words]}`: a description with words of another class than its `modality` is rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lexicon: Option<PathBuf>,
    /// The folder of an adapter to start from, in place of a fresh one. Where `[lora]` is left out, its settings are the
    /// adapter's; otherwise the two have to agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_adapter: Option<PathBuf>,
    /// The seed of all randomness.
    pub seed: u64,
    /// How often the training set is seen, at most a million times.
    pub epochs: usize,
    /// Stops after this many steps, whatever `epochs` says. 0 is no limit.
    pub max_steps: usize,
    /// Examples in an optimiser step.
    pub batch_size: usize,
    /// What a step's loss is the mean over: `tokens`, or `samples`, where answers of very different lengths are to be learnt
    /// equally well.
    pub loss_mean: LossMean,
    /// Tokens computed at once: a step with more is cut into micro-batches, whose gradients add up to the same.
    pub micro_batch_rows: usize,
    /// Keeps only the output of each half of a layer for the backward pass, and computes the rest again: about a third
    /// more work for a third of the memory that a token needs. The result is the same.
    pub recompute: bool,
    /// The longest sample that is accepted, in tokens; 0 is the model's own limit.
    pub max_length: usize,
    /// The peak learning rate.
    pub learning_rate: f64,
    /// The shape of the learning rate after warm-up.
    pub schedule: Schedule,
    /// The share of all steps over which the learning rate rises from 0.
    pub warmup_ratio: f64,
    /// The learning rate at the end, as a share of the peak.
    pub min_learning_rate_ratio: f64,
    /// Gradients are scaled so that their norm together is at most this; 0 is no limit.
    pub max_grad_norm: f64,
    /// Writes a checkpoint every so many steps, and when the run ends or is interrupted; 0 writes those two alone.
    pub checkpoint_steps: usize,
    /// So many checkpoints stay, and where `validation.patience` decides, the one of the best step too.
    pub keep_checkpoints: usize,
    /// The adapter.
    pub lora: LoraConfig,
    /// The optimiser.
    pub optimizer: AdamWConfig,
    /// The held-out share, and what it decides.
    pub validation: Validation,
}

/// Validation and early stopping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Validation {
    /// The share of the groups that is held out of training.
    pub fraction: f64,
    /// Computes the validation loss every so many steps, and after the last; 0 never does.
    pub steps: usize,
    /// Stops after this many validations without a better loss, and keeps the best adapter; 0 keeps the last.
    pub patience: usize,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            model: "smollm2-135m-instruct".into(),
            base: Base::default(),
            data: PathBuf::new(),
            pipeline: None,
            lexicon: None,
            init_adapter: None,
            seed: 0,
            epochs: 3,
            max_steps: 0,
            batch_size: 16,
            loss_mean: LossMean::default(),
            micro_batch_rows: 1024,
            recompute: false,
            max_length: 0,
            learning_rate: 1e-3,
            schedule: Schedule::Cosine,
            warmup_ratio: 0.06,
            min_learning_rate_ratio: 0.1,
            max_grad_norm: 1.0,
            checkpoint_steps: 50,
            keep_checkpoints: 2,
            lora: LoraConfig::default(),
            optimizer: AdamWConfig::default(),
            validation: Validation::default(),
        }
    }
}

impl Default for Validation {
    fn default() -> Self {
        Self { fraction: 0.05, steps: 50, patience: 0 }
    }
}

impl Recipe {
    /// Reads a recipe's file.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Recipe`] naming an unknown key, [`Error::Setting`] naming a value out of its range.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = foehn_files::read_to_string(path, foehn_files::MAX_TEXT)
            .map_err(|source| Error::File { path: path.to_owned(), source })?;
        Self::from_toml(&text, path)
    }

    /// Reads a recipe's text; `path` stands in errors.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_toml(text: &str, path: &Path) -> Result<Self, Error> {
        let recipe: Self =
            toml::from_str(text).map_err(|source| Error::Recipe { path: path.to_owned(), source: Box::new(source) })?;
        recipe.check()?;
        Ok(recipe)
    }

    /// Checks the ranges of the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the first setting out of its range, and those of [`LoraConfig::check`].
    pub fn check(&self) -> Result<(), Error> {
        self.lora.check()?;
        let counts = [
            ("epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("micro_batch_rows", self.micro_batch_rows),
            ("keep_checkpoints", self.keep_checkpoints),
        ];
        for (field, value) in counts {
            if value == 0 {
                return Err(Error::Setting { field, found: value.to_string(), expected: "at least 1" });
            }
        }
        if self.epochs > MAX_EPOCHS {
            let expected = "at most 1000000";
            return Err(Error::Setting { field: "epochs", found: self.epochs.to_string(), expected });
        }
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.optimizer;
        let numbers = [
            ("learning_rate", self.learning_rate, self.learning_rate > 0.0, "a positive number"),
            ("warmup_ratio", self.warmup_ratio, (0.0..=1.0).contains(&self.warmup_ratio), "from 0 to 1"),
            (
                "min_learning_rate_ratio",
                self.min_learning_rate_ratio,
                (0.0..=1.0).contains(&self.min_learning_rate_ratio),
                "from 0 to 1",
            ),
            ("max_grad_norm", self.max_grad_norm, self.max_grad_norm >= 0.0, "at least 0"),
            ("optimizer.beta1", beta1, (0.0..1.0).contains(&beta1), "at least 0 and below 1"),
            ("optimizer.beta2", beta2, (0.0..1.0).contains(&beta2), "at least 0 and below 1"),
            ("optimizer.eps", eps, eps > 0.0, "a positive number"),
            ("optimizer.weight_decay", weight_decay, weight_decay >= 0.0, "at least 0"),
            (
                "validation.fraction",
                self.validation.fraction,
                (0.0..1.0).contains(&self.validation.fraction),
                "at least 0 and below 1",
            ),
        ];
        for (field, value, holds, expected) in numbers {
            if !(value.is_finite() && holds) {
                return Err(Error::Setting { field, found: value.to_string(), expected });
            }
        }
        Ok(())
    }

    /// The number of optimiser steps over `samples` training samples.
    pub fn total_steps(&self, samples: usize) -> usize {
        let all = samples.div_ceil(self.batch_size).saturating_mul(self.epochs);
        if self.max_steps == 0 { all } else { all.min(self.max_steps) }
    }

    /// The learning rate of a step (from 0) of `total`.
    pub fn learning_rate_at(&self, step: usize, total: usize) -> f64 {
        let warmup = (self.warmup_ratio * total as f64).ceil() as usize;
        // Step 0 of a warm-up has rate 0 in transformers and learns nothing; here the rise ends one step sooner.
        let (step, total) = if warmup > 0 { (step + 1, total + 1) } else { (step, total) };
        self.schedule.learning_rate(step, warmup, total, self.learning_rate, self.min_learning_rate_ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_or_a_bad_value_is_named() {
        let check = |text: &str, expected: &str| {
            let error = Recipe::from_toml(text, "r.toml".as_ref()).unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let said = format!("{error}: {source}");
            assert!(said.contains(expected), "{text}: {said}");
        };
        check("learning_rat = 1", "learning_rat");
        check("[lora]\nranc = 1", "ranc");
        check("[validation]\nevery = 1", "every");
        check("batch_size = 0", "batch_size");
        check("keep_checkpoints = 0", "keep_checkpoints");
        check("epochs = 1000001", "epochs");
        check("learning_rate = -1.0", "learning_rate");
        check("learning_rate = nan", "learning_rate");
        check("[lora]\nr = 0", "r`");
        check("schedule = \"cosin\"", "cosin");
        check("loss_mean = \"sample\"", "sample");
        check("epochs = \"three\"", "epochs");
        check("epochs = 1000001", "at most 1000000");
        check("[lora]\nr = 65537", "from 1 to 65536");
    }

    #[test]
    fn a_recipes_patterns_keep_their_order() {
        let text = "[lora.rank_pattern]\nq_proj = 4\n\"layers.0.self_attn.q_proj\" = 2\n";
        let recipe = Recipe::from_toml(text, "r.toml".as_ref()).unwrap();
        assert_eq!(recipe.lora.rank("model.layers.0.self_attn.q_proj").unwrap(), 4);
        let back = serde_json::to_value(&recipe).unwrap();
        assert_eq!(serde_json::from_value::<Recipe>(back).unwrap(), recipe);
    }

    #[test]
    fn steps_and_rates() {
        let recipe = Recipe { epochs: 3, batch_size: 16, ..Recipe::default() };
        assert_eq!(recipe.total_steps(33), 9);
        assert_eq!(Recipe { max_steps: 5, ..recipe.clone() }.total_steps(33), 5);
        assert!(recipe.learning_rate_at(0, 100) > 0.0);
        let peak = (0..100).map(|step| recipe.learning_rate_at(step, 100)).fold(0.0, f64::max);
        assert_eq!(peak, recipe.learning_rate);
    }
}
