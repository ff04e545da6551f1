//! What a run will take, before a weight is read: tokens and steps, memory by part, and time.
//!
//! The memory is arithmetic: a run's allocations are replayed from its shapes alone. The time is arithmetic, too, over
//! the speed of this machine, which a [`Calibration`] measures in seconds.

mod choose;
mod error;
mod heap;
mod machine;
mod memory;
mod print;
mod prospect;
mod step;
mod time;
mod work;

use foehn_finetune::{Dataset, Fitting, TrainingConfig};
use foehn_kernels::Compute;
use foehn_mistral::{Base, MistralConfig};
use foehn_weights::Weights;
use serde::Serialize;

pub use choose::{Change, Choice};
pub use error::PlanError;
pub use machine::{free_memory, parse_bytes, program_bytes};
pub use print::size;
pub use prospect::Prospect;
pub use time::Calibration;

/// A part of a run's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The base's matrices, packed.
    Base,
    /// The adapter's matrices, and their copies while they are updated or saved.
    Adapter,
    /// AdamW's two moments.
    Moments,
    /// The gradients of the adapter's matrices.
    Gradients,
    /// What the forward pass keeps for the backward pass.
    Activations,
    /// The loss: the supervised rows and the logits of up to 128 of them.
    Head,
    /// Packed copies of a product's operands, buffers kept for reuse, what loading needs for a moment, and free memory
    /// between them.
    Scratch,
    /// The program itself, with tokenizer and data.
    Program,
}

impl Part {
    pub(crate) const COUNT: usize = 8;

    /// All parts, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Base,
        Self::Adapter,
        Self::Moments,
        Self::Gradients,
        Self::Activations,
        Self::Head,
        Self::Scratch,
        Self::Program,
    ];
}

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Outline<'a> {
    /// The network's shape.
    pub config: &'a MistralConfig,
    /// The checkpoint, of which only the header is read; `None` for a [synthetic](foehn_mistral::Mistral::synthetic)
    /// network.
    pub checkpoint: Option<&'a Weights>,
    /// The training samples.
    pub training: &'a Dataset,
    /// The validation samples.
    pub validation: Option<&'a Dataset>,
    /// Bytes of the program before the base is loaded: [`program_bytes`].
    pub program: usize,
    /// Whether the run writes checkpoints and the trained adapter.
    pub saves: bool,
}

/// What a run will take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The settings that memory and time depend on most.
    pub settings: PlannedSettings,
    /// The data.
    pub data: PlannedData,
    /// The memory at its peak.
    pub memory: PlannedMemory,
    /// The time; `None` without a calibration.
    pub time: Option<PlannedTime>,
}

/// The settings of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedSettings {
    /// The storage format of the base.
    pub base: String,
    /// The largest number of tokens computed at once.
    pub micro_batch_rows: usize,
    /// Whether inner values are computed again in the backward pass.
    pub recompute: bool,
    /// The number of the adapter's parameters.
    pub parameters: usize,
}

/// The data of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PlannedData {
    /// Training samples.
    pub samples: usize,
    /// Validation samples.
    pub validation_samples: usize,
    /// Records that the cleaning rejected.
    pub rejected: usize,
    /// Records that are longer than the limit, if a run with one is refused (`too_long = "error"`).
    pub too_long: usize,
    /// What becomes of training records that are longer than the limit.
    pub fitting: Fitting,
    /// What becomes of such validation records.
    pub validation_fitting: Fitting,
    /// How often training samples are seen in an epoch; empty if each is seen once.
    pub weights: Vec<foehn_finetune::Part>,
    /// Tokens of all training samples, each counted once.
    pub tokens: usize,
    /// Those of them that are trained.
    pub supervised: usize,
    /// Tokens of the longest sample.
    pub longest: usize,
    /// Optimiser steps.
    pub steps: usize,
    /// Tokens computed in all steps; prefixes that the samples of a step share count once.
    pub computed: usize,
    /// Tokens of the largest micro-batch.
    pub largest_micro_batch: usize,
}

/// The memory of a plan, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedMemory {
    /// The largest resident memory of the process.
    pub peak: usize,
    /// What it consists of at that moment.
    pub parts: Vec<(Part, usize)>,
}

/// The time of a plan, in seconds, without loading and evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PlannedTime {
    /// The mean of a step.
    pub step: f64,
    /// All steps.
    pub training: f64,
    /// All validations.
    pub validation: f64,
}

impl Plan {
    /// Plans a run on the CPU device `flex`.
    ///
    /// # Errors
    /// [`PlanError::Device`] in a build without that device, and the errors of an adapter's patterns.
    pub fn of(
        outline: &Outline<'_>,
        base: Base,
        settings: &TrainingConfig,
        calibration: Option<&Calibration>,
    ) -> Result<Self, PlanError> {
        let network = Network::of(outline, base, settings)?;
        let work = work::Work::of(outline.training, settings);
        let memory = memory::predict(outline, &network, &work, settings)?;
        let time = calibration.map(|calibration| time::predict(calibration, outline, &network, &work, settings));
        let settings = PlannedSettings {
            base: base.to_string(),
            micro_batch_rows: settings.micro_batch_rows,
            recompute: settings.recompute,
            parameters: network.adapter_lens().iter().sum(),
        };
        Ok(Self { settings, data: work.data(outline), memory, time })
    }
}

/// A network as its cost depends on it.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub d_model: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Whether the heads of q and k are normalised.
    pub qk_norm: bool,
    /// Whether queries have a factor that depends on the position.
    pub query_scale: bool,
    pub intermediate: usize,
    pub vocab: usize,
    /// For each layer the ranks of q, k, v, o, gate, up and down; 0 without an adapter.
    pub ranks: Vec<[usize; 7]>,
    /// The shapes of a layer's projections, in the same order.
    pub dims: [[usize; 2]; 7],
    pub matrices: Vec<foehn_mistral::MatrixSize>,
    /// Whether the layers' weights are expanded in each product.
    pub is_expanded: bool,
    /// Whether products take pairs of bfloat16.
    pub is_paired: bool,
    pub threads: usize,
}

/// A micro-batch, as its cost depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Tokens.
    pub rows: usize,
    /// Rows with a target.
    pub targets: usize,
    /// For each run of 64 queries, the number of keys that any of them sees.
    pub keys: Vec<usize>,
}

impl Network {
    pub(crate) fn of(outline: &Outline<'_>, base: Base, settings: &TrainingConfig) -> Result<Self, PlanError> {
        use foehn_weights::DType;
        let config = outline.config;
        let stored = |name: &str| {
            let Some(checkpoint) = outline.checkpoint else { return DType::BF16 };
            let name = config.stored_name(name, checkpoint);
            checkpoint.info(&name).map_or(DType::F32, |info| info.dtype)
        };
        let matrices = config.matrices(base, stored);
        let projections = config.projection_dims();
        let rank = |name: &str| match settings.lora.is_target(name)? {
            true => settings.lora.rank(name),
            false => Ok(0),
        };
        let ranks = projections.iter().map(|(name, _)| rank(name)).collect::<Result<Vec<_>, _>>()?;
        let first: Vec<[usize; 2]> = projections.iter().take(7).map(|(_, dims)| *dims).collect();
        let is_full = |size: &foehn_mistral::MatrixSize| size.storage == foehn_kernels::Storage::Full;
        Ok(Self {
            d_model: config.hidden_size,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            qk_norm: config.qk_norm,
            query_scale: config.query_scale.is_some(),
            intermediate: config.intermediate_size,
            vocab: config.vocab_size,
            ranks: ranks.as_chunks().0.to_vec(),
            dims: first.try_into().unwrap_or_default(),
            is_expanded: settings.compute != Compute::F32 || !matrices.iter().all(is_full),
            is_paired: settings.compute != Compute::F32,
            matrices,
            threads: machine::threads(),
        })
    }

    /// The elements of each of the adapter's matrices, in the order of the forward pass.
    pub(crate) fn adapter_lens(&self) -> Vec<usize> {
        let of = |(&r, &[out, input]): (&usize, &[usize; 2])| [r * input, out * r];
        let layer = |ranks: &[usize; 7]| ranks.iter().zip(&self.dims).filter(|(r, _)| **r > 0).flat_map(of).collect();
        self.ranks.iter().flat_map(|ranks| -> Vec<usize> { layer(ranks) }).collect()
    }
}
