//! One step's loss and gradients.

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use foehn_kernels::{EmbeddingNoise, Targets, linear_cross_entropy, token_losses};
use foehn_lora::{parameters, set_dropout};
use foehn_mistral::Mistral;
use foehn_score::packed;
use foehn_tokens::{Batch, Sample};
use serde::{Deserialize, Serialize};

use crate::{DpoConfig, Rewards};

/// What the loss of several samples is averaged over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossMean {
    /// Supervised tokens, as in transformers and PEFT: a long answer has more weight than a short one.
    #[default]
    Tokens,
    /// Samples; the loss of each is the mean over its supervised tokens. Every answer has the same weight, whether it
    /// is one word or a page.
    Samples,
}

impl LossMean {
    /// The weight of each supervised token of a sample.
    fn weight(self, sample: &Sample) -> f64 {
        match self {
            Self::Tokens => 1.0,
            Self::Samples => 1.0 / sample.supervised() as f64,
        }
    }

    /// The total weight of all supervised tokens of the samples.
    fn total(self, samples: &[&Sample]) -> f64 {
        match self {
            Self::Tokens => samples.iter().map(|sample| sample.supervised() as f64).sum(),
            Self::Samples => samples.len() as f64,
        }
    }
}

/// The noise of a step, which keeps a model from learning its samples by heart. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Noise {
    /// The probability of the dropout of the adapters' inputs.
    pub dropout: f32,
    /// The `alpha` of the [`EmbeddingNoise`]; 0 adds none.
    pub neftune_alpha: f32,
    /// The seed of both. Each micro-batch draws its own. A prefix that several samples share has one noise.
    pub seed: u64,
}

/// The result of one step's forward and backward passes.
#[derive(Debug)]
pub struct StepGradients {
    /// The step's loss: the mean negative log-likelihood in nats, or that of pairs.
    pub loss: f64,
    /// The gradient of the loss for each parameter, in the order of [`parameters`].
    pub gradients: Vec<Tensor<2>>,
    /// Supervised tokens.
    pub supervised: usize,
    /// Tokens, counted as if each sample were computed alone.
    pub tokens: usize,
    /// Tokens that were computed; shared prefixes count once.
    pub rows: usize,
    /// How the answers of pairs compare; `None` for samples that are no pairs.
    pub rewards: Option<Rewards>,
}

/// The loss of a step's samples and its gradients. Samples are packed into micro-batches of at most `max_rows` tokens
/// (a single longer sample is allowed). The mean is over the whole step, so that the split changes nothing except
/// rounding.
///
/// # Panics
/// When there is no sample, or the model has no trainable adapter.
pub fn gradients(
    model: &mut Mistral,
    samples: &[&Sample],
    max_rows: usize,
    noise: Noise,
    mean: LossMean,
) -> StepGradients {
    let total = mean.total(samples);
    accumulate(model, samples, 1, max_rows, noise, |model, hidden, part, batch| {
        let loss = linear_cross_entropy(hidden, model.head(), &targets(part, batch, mean)).div_scalar(total);
        (f64::from(loss.clone().into_scalar::<f32>()), loss)
    })
}

/// The [`Dpo`](crate::Objective::Dpo) loss of a step's pairs and its gradients. `pairs` has a chosen and a rejected
/// answer in turn, and `reference` is the model to compare with. Both answers and their prompt are computed together,
/// once with each model.
///
/// The other arguments are as for [`gradients`]. A pair is never divided, so a pair may be larger than `max_rows`.
/// Source of the loss: TRL's `DPOTrainer`, `loss_type="sigmoid"`.
///
/// # Panics
/// As [`gradients`], and when a sample has no partner.
pub fn preference_gradients(
    model: &mut Mistral,
    reference: &Mistral,
    pairs: &[&Sample],
    max_rows: usize,
    noise: Noise,
    mean: LossMean,
    config: &DpoConfig,
) -> StepGradients {
    // The reference comes first: while it is computed, no activations wait for the backward pass.
    let known = match foehn_score::log_probs(reference, pairs, max_rows) {
        Ok(known) => known,
        Err(not_finite) => {
            let loss = -f64::from(not_finite.value);
            return StepGradients { loss, gradients: Vec::new(), supervised: 0, tokens: 0, rows: 0, rewards: None };
        }
    };
    let of = Pairs::new(pairs, mean, config);
    let (mut rewards, mut first) = (Rewards::default(), 0);
    let mut step = accumulate(model, pairs, 2, max_rows, noise, |model, hidden, part, batch| {
        let targets = Targets::new(batch.targets().iter().map(|target| (target.row, target.id, 1.0)));
        let losses = token_losses(hidden, model.head(), &targets);
        let values: Vec<f32> =
            losses.clone().without_autodiff().neg().into_data().try_into_vec().expect("losses are f32");
        let found = |sample: usize| -> Vec<f32> {
            batch.targets_of(sample).iter().map(|&target| values[target as usize]).collect()
        };
        let (mut loss, mut weights) = (0.0, vec![0.0; values.len()]);
        for pair in (0..part.len()).step_by(2) {
            let [chosen, rejected] = [pair, pair + 1].map(|at| [sum(&found(at)), sum(&known[first + at])]);
            let judged = of.judge(part[pair], chosen, rejected, &mut rewards);
            loss += judged.loss;
            for (sample, weight) in [(pair, judged.chosen_weight), (pair + 1, judged.rejected_weight)] {
                batch.targets_of(sample).iter().for_each(|&target| weights[target as usize] += weight);
            }
        }
        first += part.len();
        let weights: Vec<f32> = weights.into_iter().map(|weight| weight as f32).collect();
        let device = losses.device().without_autodiff();
        (loss, losses.mul(Tensor::from_data(TensorData::from(weights.as_slice()), &device)).sum())
    });
    step.rewards = Some(rewards);
    step
}

/// The pairs of a step or of a set, over which the loss is averaged.
struct Pairs<'a> {
    config: &'a DpoConfig,
    mean: LossMean,
    count: usize,
    /// The total weight of all supervised tokens of the chosen answers.
    total: f64,
}

/// A pair's share of the loss, and the weight of the negative log-probability of each token of its answers: its
/// derivative.
struct Judged {
    loss: f64,
    chosen_weight: f64,
    rejected_weight: f64,
}

impl<'a> Pairs<'a> {
    fn new(pairs: &[&Sample], mean: LossMean, config: &'a DpoConfig) -> Self {
        let chosen: Vec<&Sample> = pairs.iter().step_by(2).copied().collect();
        Self { config, mean, count: chosen.len(), total: mean.total(&chosen) }
    }

    /// `chosen` and `rejected` have the log-probability of the answer under the model and under the reference.
    fn judge(&self, sample: &Sample, chosen: [f64; 2], rejected: [f64; 2], rewards: &mut Rewards) -> Judged {
        let reward = |[found, known]: [f64; 2]| self.config.beta * (found - known);
        let (better, worse) = (reward(chosen), reward(rejected));
        rewards.add(better, worse, self.count);
        let (loss, slope) = self.config.loss(better - worse);
        let share = 1.0 / self.count as f64;
        let weight = -self.config.beta * slope * share;
        let likelihood = self.config.sft_weight * self.mean.weight(sample) / self.total;
        Judged {
            loss: share * loss - likelihood * chosen[0],
            chosen_weight: weight + likelihood,
            rejected_weight: -weight,
        }
    }
}

/// Sums losses and gradients over micro-batches. Each `group` consecutive samples stay in one.
fn accumulate(
    model: &mut Mistral,
    samples: &[&Sample],
    group: usize,
    max_rows: usize,
    noise: Noise,
    mut loss: impl FnMut(&Mistral, Tensor<2>, &[&Sample], &Batch) -> (f64, Tensor<1>),
) -> StepGradients {
    let supervised: usize = samples.iter().map(|sample| sample.supervised()).sum();
    let mut step = StepGradients { loss: 0.0, gradients: Vec::new(), supervised, tokens: 0, rows: 0, rewards: None };
    let mut rest = samples;
    for (index, batch) in Batch::pack_groups_within(samples, group, max_rows).into_iter().enumerate() {
        let part;
        (part, rest) = rest.split_at(batch.samples());
        let seed = noise.seed.wrapping_add(index as u64);
        set_dropout(model, noise.dropout, seed);
        let hidden = match noise.neftune_alpha {
            0.0 => model.forward(packed(&batch)),
            // Another stream than the masks' of dropout.
            alpha => model.forward_with_noise(packed(&batch), EmbeddingNoise { alpha, seed: !seed }),
        };
        let (value, loss) = loss(model, hidden, part, &batch);
        let mut tape = loss.backward();
        step.loss += value;
        let fresh = parameters(model).into_iter().map(|parameter| {
            parameter.tensor.grad_remove(&mut tape).expect("every attached adapter takes part in the forward pass")
        });
        step.gradients = match step.gradients.is_empty() {
            true => fresh.collect(),
            false => {
                std::mem::take(&mut step.gradients).into_iter().zip(fresh).map(|(sum, new)| sum.add(new)).collect()
            }
        };
        step.tokens += batch.rows_unshared();
        step.rows += batch.rows();
    }
    set_dropout(model, 0.0, 0);
    step
}

/// The samples' mean negative log-likelihood, in nats, without dropout. It is not finite if the loss of a token is not
/// finite.
///
/// `max_rows` and `mean` are as for [`gradients`].
pub fn validation_loss(model: &Mistral, samples: &[&Sample], max_rows: usize, mean: LossMean) -> f64 {
    let log_probs = match foehn_score::log_probs(&model.valid(), samples, max_rows) {
        Ok(log_probs) => log_probs,
        Err(not_finite) => return -f64::from(not_finite.value),
    };
    let loss = |(sample, log_probs): (&&Sample, Vec<f32>)| {
        -mean.weight(sample) * log_probs.into_iter().map(f64::from).sum::<f64>()
    };
    samples.iter().zip(log_probs).map(loss).sum::<f64>() / mean.total(samples).max(1.0)
}

/// The loss of pairs, as [`preference_gradients`], without dropout, and how their answers compare. The loss is not finite
/// if that of a token is not.
pub fn preference_loss(
    model: &Mistral,
    reference: &Mistral,
    pairs: &[&Sample],
    max_rows: usize,
    mean: LossMean,
    config: &DpoConfig,
) -> (f64, Rewards) {
    let of = Pairs::new(pairs, mean, config);
    let (mut loss, mut rewards) = (0.0, Rewards::default());
    let score = |model: &Mistral| foehn_score::log_probs(model, pairs, max_rows);
    let (found, known) = match (score(&model.valid()), score(reference)) {
        (Ok(found), Ok(known)) => (found, known),
        (Err(not_finite), _) | (_, Err(not_finite)) => return (-f64::from(not_finite.value), rewards),
    };
    for pair in (0..pairs.len()).step_by(2) {
        let [chosen, rejected] = [pair, pair + 1].map(|at| [sum(&found[at]), sum(&known[at])]);
        loss += of.judge(pairs[pair], chosen, rejected, &mut rewards).loss;
    }
    (loss, rewards)
}

/// The log-probability of an answer: the sum over its tokens.
fn sum(log_probs: &[f32]) -> f64 {
    log_probs.iter().copied().map(f64::from).sum()
}

/// The targets of a batch. A target that several samples share has the sum of their weights.
fn targets(samples: &[&Sample], batch: &Batch, mean: LossMean) -> Targets {
    let mut weights = vec![0.0; batch.targets().len()];
    for (index, sample) in samples.iter().enumerate() {
        for &target in batch.targets_of(index) {
            weights[target as usize] += mean.weight(sample);
        }
    }
    Targets::new(batch.targets().iter().zip(&weights).map(|(target, weight)| (target.row, target.id, *weight as f32)))
}
