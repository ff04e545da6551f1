//! The settings of a run.

use std::path::PathBuf;

use foehn_kernels::Compute;
use foehn_lora::LoraConfig;
use serde::{Deserialize, Serialize};

use crate::order::Part;
use crate::{AdamWConfig, DpoConfig, Error, LossMean, Objective, Schedule, TooLong, order};

/// A larger number is a mistake, and its product with the number of samples could overflow.
const MAX_EPOCHS: usize = 1_000_000;

/// The settings of a training run. In a file, every key has a default, and an unknown key is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingConfig {
    /// What is minimised: `sft`, or `dpo` for records with a chosen and a rejected answer.
    pub objective: Objective,
    /// The settings of `dpo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpo: Option<DpoConfig>,
    /// The folder of an adapter to start from, instead of a new one. If `[lora]` is left out, the adapter's settings
    /// are used; otherwise the two must agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_adapter: Option<PathBuf>,
    /// The seed of all randomness.
    pub seed: u64,
    /// Whether the samples are shuffled in each epoch, with an order that depends on the seed. If not, they keep the
    /// order of the data.
    pub shuffle: bool,
    /// The number of passes over the training set, at most a million.
    pub epochs: usize,
    /// Stops after this many steps, even if `epochs` asks for more. 0 means no limit.
    pub max_steps: usize,
    /// Examples per optimiser step.
    pub batch_size: usize,
    /// What a step's loss is averaged over: `tokens`, or `samples`. Use `samples` if answers of very different lengths
    /// should have the same weight.
    pub loss_mean: LossMean,
    /// The largest number of tokens computed at once. A step with more tokens is split into micro-batches; the sum of
    /// their gradients is the same.
    pub micro_batch_rows: usize,
    /// Keeps only the output of each half of a layer for the backward pass and computes the other values again. This
    /// takes about a third more work, and each token needs about a third of the memory. The result is the same.
    pub recompute: bool,
    /// What matrix products round both sides to, in training and validation: `f32`, which rounds nothing, or `bf16`, which is
    /// several times as fast on processors with AMX, and faster where AVX512-BF16 has the full rate. Sums, adapters,
    /// optimiser, norms, attention and loss stay in single precision.
    #[serde(skip_serializing_if = "is_f32")]
    pub compute: Compute,
    /// The longest sample that is accepted, in tokens; 0 means the model's own limit.
    pub max_length: usize,
    /// What is done with a conversation that is longer: `error`, `drop`, or `truncate`, which leaves out its oldest
    /// turns. Plain text is cut into pieces in any case.
    pub too_long: TooLong,
    /// The peak learning rate.
    pub learning_rate: f64,
    /// The shape of the learning rate after warm-up.
    pub schedule: Schedule,
    /// The share of all steps during which the learning rate rises from 0.
    pub warmup_ratio: f64,
    /// The final learning rate, as a share of the peak.
    pub min_learning_rate_ratio: f64,
    /// Gradients are scaled so that their global norm is at most this; 0 means no limit.
    pub max_grad_norm: f64,
    /// The learning rate of an adapter's B, as a multiple of that of its A; 1 is plain LoRA.
    ///
    /// Source: LoRA+, Hayou et al. 2024, arXiv:2402.12354, which recommends 16 with a smaller `learning_rate`.
    pub loraplus_lr_ratio: f64,
    /// The `alpha` of the noise that is added to the embeddings in training; 0 adds none. See
    /// [`EmbeddingNoise`](foehn_kernels::EmbeddingNoise).
    pub neftune_noise_alpha: f32,
    /// Writes a checkpoint every this many steps, and when the run ends or is interrupted. With 0, only when it ends or
    /// is interrupted.
    pub checkpoint_steps: usize,
    /// The number of checkpoints that are kept. If `validation.patience` is set, the one of the best step is kept too.
    pub keep_checkpoints: usize,
    /// The adapter.
    pub lora: LoraConfig,
    /// The optimiser.
    pub optimizer: AdamWConfig,
    /// The validation set, and early stopping.
    pub validation: Validation,
}

/// Validation and early stopping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Validation {
    /// The share of the groups that is held out from training.
    pub fraction: f64,
    /// Computes the validation loss every this many steps, and after the last step; 0 means never.
    pub steps: usize,
    /// Stops after this many validations without a lower loss, and keeps the best adapter; 0 never stops early and
    /// keeps the last adapter.
    pub patience: usize,
}

fn is_f32(compute: &Compute) -> bool {
    *compute == Compute::F32
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            objective: Objective::default(),
            dpo: None,
            init_adapter: None,
            seed: 0,
            shuffle: true,
            epochs: 3,
            max_steps: 0,
            batch_size: 16,
            loss_mean: LossMean::default(),
            micro_batch_rows: 1024,
            recompute: false,
            compute: Compute::F32,
            max_length: 0,
            too_long: TooLong::default(),
            learning_rate: 1e-3,
            schedule: Schedule::Cosine,
            warmup_ratio: 0.06,
            min_learning_rate_ratio: 0.1,
            max_grad_norm: 1.0,
            loraplus_lr_ratio: 1.0,
            neftune_noise_alpha: 0.0,
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

impl TrainingConfig {
    /// Checks the ranges of the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the first setting out of its range, and the errors of [`LoraConfig::check`].
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
        if self.dpo.is_some() && self.objective != Objective::Dpo {
            let expected = "\"dpo\" where there is a table [dpo]";
            return Err(Error::Setting { field: "objective", found: "sft".into(), expected });
        }
        let DpoConfig { beta, label_smoothing, sft_weight } = self.dpo.unwrap_or_default();
        let noise = f64::from(self.neftune_noise_alpha);
        if noise > 0.0 && self.objective == Objective::Dpo {
            // The reference would have to have the same noise.
            let expected = "0 where the objective is \"dpo\"";
            return Err(Error::Setting { field: "neftune_noise_alpha", found: noise.to_string(), expected });
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
            ("loraplus_lr_ratio", self.loraplus_lr_ratio, self.loraplus_lr_ratio > 0.0, "a positive number"),
            ("neftune_noise_alpha", noise, noise >= 0.0, "at least 0"),
            ("dpo.beta", beta, beta > 0.0, "a positive number"),
            ("dpo.label_smoothing", label_smoothing, (0.0..0.5).contains(&label_smoothing), "at least 0 and below 0.5"),
            ("dpo.sft_weight", sft_weight, sft_weight >= 0.0, "at least 0"),
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

    /// The number of optimiser steps over `samples` training samples, each seen once in an epoch.
    pub fn total_steps(&self, samples: usize) -> usize {
        order::total_steps(&[Part { examples: samples, weight: 1.0 }], self)
    }

    /// The longest sample of a model with this context, in tokens.
    pub fn longest(&self, context: usize) -> usize {
        if self.max_length == 0 { context } else { context.min(self.max_length) }
    }

    /// The learning rate of step `step` (from 0) of `total`.
    pub fn learning_rate_at(&self, step: usize, total: usize) -> f64 {
        let warmup = (self.warmup_ratio * total as f64).ceil() as usize;
        // In transformers, step 0 of a warm-up has the rate 0, so nothing is learnt. Here the warm-up ends one step
        // earlier.
        let (step, total) = if warmup > 0 { (step + 1, total + 1) } else { (step, total) };
        self.schedule.learning_rate(step, warmup, total, self.learning_rate, self.min_learning_rate_ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_its_range_is_named() {
        let of = |change: fn(&mut TrainingConfig)| {
            let mut config = TrainingConfig::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(of(|config| config.batch_size = 0).contains("batch_size"));
        assert!(of(|config| config.keep_checkpoints = 0).contains("keep_checkpoints"));
        assert!(of(|config| config.epochs = 1_000_001).contains("at most 1000000"));
        assert!(of(|config| config.learning_rate = -1.0).contains("learning_rate"));
        assert!(of(|config| config.learning_rate = f64::NAN).contains("learning_rate"));
        assert!(of(|config| config.lora.r = 0).contains("r`"));
        assert!(of(|config| config.lora.r = 65_537).contains("from 1 to 65536"));
    }

    #[test]
    fn steps_and_rates() {
        let config = TrainingConfig { epochs: 3, batch_size: 16, ..TrainingConfig::default() };
        assert_eq!(config.total_steps(33), 9);
        assert_eq!(TrainingConfig { max_steps: 5, ..config.clone() }.total_steps(33), 5);
        assert!(config.learning_rate_at(0, 100) > 0.0);
        let peak = (0..100).map(|step| config.learning_rate_at(step, 100)).fold(0.0, f64::max);
        assert_eq!(peak, config.learning_rate);
    }
}
