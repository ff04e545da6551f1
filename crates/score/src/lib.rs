//! Log-probabilities of given texts.
//!
//! [`log_probs`] is the one function that packs samples, runs the model and reads the probabilities. Validation, the
//! likelihood of labels and perplexity are sums of its results. [`passes`] does the same one pass at a time, so that a
//! caller can show progress.
//!
//! ```no_run
//! # fn perplexity(model: &foehn_mistral::Mistral) -> Result<f64, Box<dyn std::error::Error>> {
//! use foehn_tokens::Sample;
//!
//! let text = Sample::from_text(vec![1, 450, 17354])?;
//! let found = foehn_score::log_probs(model, &[&text], 1024)?;
//! let mean = found[0].iter().map(|log_prob| f64::from(*log_prob)).sum::<f64>() / found[0].len() as f64;
//! Ok((-mean).exp())
//! # }
//! ```

use foehn_kernels::{Targets, token_log_probs};
use foehn_mistral::{Mistral, Packed};
use foehn_tokens::{Batch, Sample};

/// The log-probability of a token is not a finite number.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("the log-probability of token {id} in sample {sample} is {value}: the weights or the adapter are broken")]
pub struct NotFinite {
    /// The index of the sample.
    pub sample: usize,
    /// The token.
    pub id: u32,
    /// Its log-probability.
    pub value: f32,
}

/// The result of one forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// For each sample of the pass, `log p(token | all before it)` of each trained token, in nats.
    pub log_probs: Vec<Vec<f32>>,
    /// The number of tokens that were computed; shared beginnings count once.
    pub rows: usize,
}

/// `log p(token | all before it)` of each sample's trained tokens, in nats.
///
/// Samples are packed into passes of at most `max_rows` tokens (a single longer sample is allowed). The common
/// beginnings of the samples of a pass are computed once. How the samples are split changes only rounding.
///
/// A trainable adapter must be made untracked first: autodiff would record every pass.
///
/// # Errors
/// [`NotFinite`].
///
/// # Panics
/// When a token is not in the model's vocabulary.
pub fn log_probs(model: &Mistral, samples: &[&Sample], max_rows: usize) -> Result<Vec<Vec<f32>>, NotFinite> {
    let mut found = Vec::with_capacity(samples.len());
    for pass in passes(model, samples, max_rows) {
        found.extend(pass?.log_probs);
    }
    Ok(found)
}

/// As [`log_probs`], one pass at a time: each item has the results of the next samples.
///
/// # Panics
/// As [`log_probs`].
pub fn passes(
    model: &Mistral,
    samples: &[&Sample],
    max_rows: usize,
) -> impl ExactSizeIterator<Item = Result<Scored, NotFinite>> {
    let mut first = 0;
    Batch::pack_within(samples, max_rows).into_iter().map(move |batch| {
        let pass = pass(model, &batch, first);
        first += batch.samples();
        pass
    })
}

/// `first` is the index of the batch's first sample.
fn pass(model: &Mistral, batch: &Batch, first: usize) -> Result<Scored, NotFinite> {
    let targets = Targets::new(batch.targets().iter().map(|target| (target.row, target.id, 1.0)));
    let found = token_log_probs(model.forward(packed(batch)), model.head(), &targets);
    let log_probs = |sample: usize| {
        let of_target = |&target: &u32| {
            let (id, value) = (batch.targets()[target as usize].id, found[target as usize]);
            if value.is_finite() { Ok(value) } else { Err(NotFinite { sample: first + sample, id, value }) }
        };
        batch.targets_of(sample).iter().map(of_target).collect()
    };
    let log_probs = (0..batch.samples()).map(log_probs).collect::<Result<_, _>>()?;
    Ok(Scored { log_probs, rows: batch.rows() })
}

/// A batch in the form that the model's forward pass takes.
pub fn packed(batch: &Batch) -> Packed<'_> {
    Packed { input_ids: batch.input_ids(), position_ids: batch.position_ids(), subtree_ends: batch.subtree_ends() }
}
