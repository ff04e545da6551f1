//! One step's loss and gradients.

use burn::module::Module;
use burn::tensor::Tensor;
use foehn_kernels::{Targets, linear_cross_entropy, token_log_probs};
use foehn_lora::{parameters, set_dropout};
use foehn_mistral::{Mistral, Packed};
use foehn_tokens::{Batch, Sample};

/// What one step's forward and backward passes give.
#[derive(Debug)]
pub struct StepGradients {
    /// Mean negative log-likelihood over all supervised tokens of the step, in nats.
    pub loss: f64,
    /// The gradient of that mean for each parameter, in the order of [`parameters`].
    pub gradients: Vec<Tensor<2>>,
    /// Supervised tokens.
    pub supervised: usize,
    /// Tokens, had each sample been computed by itself.
    pub tokens: usize,
    /// Tokens that were computed.
    pub rows: usize,
}

/// The loss of a step's samples and its gradients. Samples are packed into micro-batches of at most `max_rows` tokens
/// (one sample may be longer); the mean is over the whole step, so that the cut changes nothing but rounding.
///
/// `dropout` is the probability and the seed of the adapters' dropout; each micro-batch draws its own masks, and a
/// prefix that samples share draws one.
///
/// # Panics
/// When there is no sample, or the model has no trainable adapter.
pub fn gradients(model: &mut Mistral, samples: &[&Sample], max_rows: usize, dropout: (f32, u64)) -> StepGradients {
    let supervised: usize = samples.iter().map(|sample| sample.supervised()).sum();
    let mut step = StepGradients { loss: 0.0, gradients: Vec::new(), supervised, tokens: 0, rows: 0 };
    for (index, batch) in micro_batches(samples, max_rows).iter().enumerate() {
        set_dropout(model, dropout.0, dropout.1.wrapping_add(index as u64));
        let hidden = model.forward(packed(batch));
        let loss = linear_cross_entropy(hidden, model.head(), &targets(batch)).div_scalar(supervised as f64);
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

/// Mean negative log-likelihood over all supervised tokens of the samples, in nats, without dropout.
///
/// `max_rows` is as for [`gradients`].
pub fn validation_loss(model: &Mistral, samples: &[&Sample], max_rows: usize) -> f64 {
    let model = model.valid();
    let (mut sum, mut count) = (0.0, 0.0);
    for batch in micro_batches(samples, max_rows) {
        let hidden = model.forward(packed(&batch));
        let log_probs = token_log_probs(hidden, model.head(), &targets(&batch));
        for (log_prob, target) in log_probs.iter().zip(batch.targets()) {
            sum -= f64::from(*log_prob) * f64::from(target.weight);
            count += f64::from(target.weight);
        }
    }
    sum / f64::max(count, 1.0)
}

/// Cuts samples into runs that share what they can within `max_rows` rows each.
fn micro_batches(samples: &[&Sample], max_rows: usize) -> Vec<Batch> {
    let whole = Batch::pack(samples);
    if whole.rows() <= max_rows || samples.len() == 1 {
        return vec![whole];
    }
    let (first, second) = samples.split_at(samples.len() / 2);
    [micro_batches(first, max_rows), micro_batches(second, max_rows)].concat()
}

fn packed(batch: &Batch) -> Packed<'_> {
    Packed { input_ids: batch.input_ids(), position_ids: batch.position_ids(), subtree_ends: batch.subtree_ends() }
}

fn targets(batch: &Batch) -> Targets {
    Targets::new(batch.targets().iter().map(|target| (target.row, target.id, target.weight)))
}
