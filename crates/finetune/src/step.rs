//! One step's loss and gradients.

use burn::module::Module;
use burn::tensor::Tensor;
use foehn_kernels::{Targets, linear_cross_entropy};
use foehn_lora::{parameters, set_dropout};
use foehn_mistral::Mistral;
use foehn_score::packed;
use foehn_tokens::{Batch, Sample};
use serde::{Deserialize, Serialize};

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

/// The result of one step's forward and backward passes.
#[derive(Debug)]
pub struct StepGradients {
    /// The step's mean negative log-likelihood, in nats.
    pub loss: f64,
    /// The gradient of that mean for each parameter, in the order of [`parameters`].
    pub gradients: Vec<Tensor<2>>,
    /// Supervised tokens.
    pub supervised: usize,
    /// Tokens, counted as if each sample were computed alone.
    pub tokens: usize,
    /// Tokens that were computed; shared prefixes count once.
    pub rows: usize,
}

/// The loss of a step's samples and its gradients. Samples are packed into micro-batches of at most `max_rows` tokens
/// (a single longer sample is allowed). The mean is over the whole step, so that the split changes nothing except
/// rounding.
///
/// `dropout` is the probability and the seed of the adapters' dropout. Each micro-batch draws its own masks. A prefix
/// that several samples share has one mask.
///
/// # Panics
/// When there is no sample, or the model has no trainable adapter.
pub fn gradients(
    model: &mut Mistral,
    samples: &[&Sample],
    max_rows: usize,
    dropout: (f32, u64),
    mean: LossMean,
) -> StepGradients {
    let total = mean.total(samples);
    let supervised: usize = samples.iter().map(|sample| sample.supervised()).sum();
    let mut step = StepGradients { loss: 0.0, gradients: Vec::new(), supervised, tokens: 0, rows: 0 };
    let mut rest = samples;
    for (index, batch) in Batch::pack_within(samples, max_rows).into_iter().enumerate() {
        let part;
        (part, rest) = rest.split_at(batch.samples());
        set_dropout(model, dropout.0, dropout.1.wrapping_add(index as u64));
        let hidden = model.forward(packed(&batch));
        let targets = targets(part, &batch, mean);
        let loss = linear_cross_entropy(hidden, model.head(), &targets).div_scalar(total);
        let mut tape = loss.backward();
        step.loss += f64::from(loss.into_scalar::<f32>());
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
