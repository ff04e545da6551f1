//! The time of a run: its arithmetic operations, over the speed of this machine at them.

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use foehn_finetune::{AdamW, LossMean, Noise, Objective, TrainingConfig, clip_global_norm, gradients};
use foehn_kernels::{Targets, linear_cross_entropy};
use foehn_lora::{Adapter, attach_trainable, parameters};
use foehn_mistral::{Base, Mistral, MistralConfig};
use foehn_tokens::Sample;

use super::step::QUERIES;
use super::work::{self, Work};
use super::{Network, Outline, Pass, PlanError, PlannedTime};

/// About two seconds on two cores.
const LAYERS_WORK: f64 = 120e9;
/// Enough weights that they do not stay in the caches between two passes, as in a whole model.
const PARAMETERS: usize = 24 << 20;
/// The micro-batch of a calibration is at least this large where the run's is.
const FEWEST_ROWS: usize = 128;
/// Rows of the loss that are measured: one run of logits.
const HEAD_ROWS: usize = 128;
/// Rows of the head that are measured.
const VOCABULARY: usize = 1 << 16;
/// A measurement is repeated until this many seconds are used, at least once and at most [`REPEATS`] times.
const SECONDS: f64 = 1.5;
const REPEATS: usize = 7;

/// The speed of this machine at a run's operations, measured on a few layers of the model's shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// Operations per second in the layers, forward and backward.
    layers: f64,
    /// Operations per second in the loss.
    head: f64,
    /// Parameters per second in clipping and AdamW.
    adapter: f64,
    /// What it took, in seconds.
    pub seconds: f64,
}

impl Calibration {
    /// Measures a few layers with random weights, in the given format and with the given settings, the loss, and an
    /// update. This takes some seconds, and memory for those layers.
    ///
    /// # Errors
    /// Those of an adapter's settings.
    pub fn measure(
        outline: &Outline<'_>,
        base: Base,
        settings: &TrainingConfig,
        device: &Device,
    ) -> Result<Self, PlanError> {
        let begun = Instant::now();
        let whole = Network::of(outline, base, settings)?;
        let (sample, config) = (typical(outline, &whole, settings)?, few_layers(&whole, outline.config));
        let outline = Outline { config: &config, checkpoint: None, ..*outline };
        let mut settings = settings.clone();
        // A pattern may name layers that these few are not.
        (settings.lora.rank_pattern, settings.lora.alpha_pattern) = Default::default();
        settings.lora.target_modules = foehn_lora::TargetModules::AllLinear;
        settings.lora.r = whole.ranks.iter().flatten().copied().max().unwrap_or(1).max(1);
        let network = Network::of(&outline, base, &settings)?;

        let mut model = Mistral::synthetic(&config, base, device, &mut |_, _| ());
        let adapter = Adapter::new(&settings.lora, &model, 0)?;
        attach_trainable(&mut model, &adapter)?;
        model.set_recompute(settings.recompute);
        model.set_compute(settings.compute);
        let samples = [&sample];
        let noise = Noise { dropout: settings.lora.lora_dropout, neftune_alpha: settings.neftune_noise_alpha, seed: 1 };
        let mut found = Vec::new();
        let seconds = median(|| {
            found = gradients(&mut model, &samples, usize::MAX, noise, LossMean::Tokens).gradients;
        });
        let passes = work::passes(&samples, 1, usize::MAX);
        let layers = passes.iter().map(|pass| layers_work(&network, pass, &settings)).sum::<f64>() / seconds;

        let rows = Tensor::<2>::from_data(
            TensorData::new(vec![0.01f32; HEAD_ROWS * network.d_model], [HEAD_ROWS, network.d_model]),
            device,
        );
        let targets = Targets::new((0..HEAD_ROWS as u32).map(|row| (row, row % config.vocab_size as u32, 1.0)));
        let seconds = median(|| {
            let hidden = rows.clone().autodiff().require_grad();
            let _ = linear_cross_entropy(hidden, model.head(), &targets).backward();
        });
        let head = head_work(&network, HEAD_ROWS) / seconds;

        let tensors: Vec<Tensor<2>> = parameters(&model).into_iter().map(|parameter| parameter.tensor).collect();
        let mut optimizer = AdamW::new(settings.optimizer, &tensors);
        let seconds = median(|| {
            let (clipped, _) = clip_global_norm(found.clone(), Some(1e-3));
            drop(optimizer.step(tensors.clone(), clipped, &vec![1e-4; tensors.len()]));
        });
        let adapter = network.adapter_lens().iter().sum::<usize>() as f64 / seconds;
        Ok(Self { layers, head, adapter, seconds: begun.elapsed().as_secs_f64() })
    }

    /// The seconds of the forward and the backward pass of a micro-batch.
    fn pass(&self, network: &Network, pass: &Pass, settings: &TrainingConfig) -> f64 {
        layers_work(network, pass, settings) / self.layers + head_work(network, pass.targets) / self.head
    }
}

/// The time of a run's steps and validations.
pub(super) fn predict(
    calibration: &Calibration,
    outline: &Outline<'_>,
    network: &Network,
    work: &Work,
    settings: &TrainingConfig,
) -> PlannedTime {
    // The forward pass is one of two or three that a step takes over the layers, and one of two over the head. With
    // pairs, the reference takes another one.
    let share = if settings.recompute { 3.0 } else { 2.0 };
    let forward = |pass: &Pass| {
        layers_work(network, pass, settings) / share / calibration.layers
            + head_work(network, pass.targets) / 2.0 / calibration.head
    };
    let references = if settings.objective == Objective::Dpo { 1.0 } else { 0.0 };
    let once = |pass: &Pass| calibration.pass(network, pass, settings) + references * forward(pass);
    let passes: f64 = work.steps.iter().flatten().map(once).sum();
    let update = network.adapter_lens().iter().sum::<usize>() as f64 / calibration.adapter;
    let step = passes / work.steps.len().max(1) as f64 + update;
    let validation = outline.validation.map_or(0.0, |validation| {
        let samples: Vec<&Sample> = validation.samples().iter().collect();
        let passes = work::passes(&samples, 1, settings.micro_batch_rows);
        let times = match settings.validation.steps {
            0 => 0,
            every => work.total.div_ceil(every),
        };
        times as f64 * (1.0 + references) * passes.iter().map(forward).sum::<f64>()
    });
    PlannedTime { step, training: step * work.total as f64, validation }
}

/// The multiplications and additions of the layers in one micro-batch, forward and backward.
///
/// A product of the base is computed forward, backward towards its input, and with `recompute` forward again; those of
/// an adapter also towards its two matrices. Attention has two products forward and five backward, over the pairs of a
/// query and a key that a tile computes. The first layer's q, k and v need no gradient towards their input.
fn layers_work(network: &Network, pass: &Pass, settings: &TrainingConfig) -> f64 {
    let forwards = if settings.recompute { 2 } else { 1 };
    let linear = |(&[out, input], &r): (&[usize; 2], &usize)| {
        let low = r * (out + input);
        (forwards + 1) * out * input + (forwards + 2) * low
    };
    let layer = |ranks: &[usize; 7]| network.dims.iter().zip(ranks).map(linear).sum::<usize>();
    let unneeded: usize = network.dims[..3].iter().map(|[out, input]| out * input).sum();
    let weights = network.ranks.iter().map(layer).sum::<usize>() - unneeded;
    let pairs: usize = pass.keys.iter().map(|keys| keys * QUERIES.min(pass.rows)).sum();
    let attention = (2 * forwards + 5) * pairs * network.heads * network.head_dim * network.ranks.len();
    2.0 * (weights as f64 * pass.rows as f64 + attention as f64)
}

/// The multiplications and additions of the loss: logits, and their gradient towards the hidden rows.
fn head_work(network: &Network, targets: usize) -> f64 {
    4.0 * network.vocab as f64 * network.d_model as f64 * targets as f64
}

/// The model's shape with so few layers that a pass takes about two seconds.
fn few_layers(network: &Network, config: &MistralConfig) -> MistralConfig {
    let layer: usize = network.dims.iter().map(|[out, input]| out * input).sum();
    let layers = PARAMETERS.div_ceil(layer.max(1)).clamp(1, config.num_hidden_layers.max(1));
    MistralConfig { num_hidden_layers: layers, vocab_size: config.vocab_size.min(VOCABULARY), ..config.clone() }
}

/// A sample as long as the run's typical micro-batch, or so long that a pass takes about two seconds. Its last token
/// alone is trained, so the loss takes almost nothing.
fn typical(outline: &Outline<'_>, network: &Network, settings: &TrainingConfig) -> Result<Sample, PlanError> {
    let work = Work::of(outline.training, settings);
    let mut rows: Vec<usize> = work.steps.iter().flatten().map(|pass| pass.rows).collect();
    rows.sort_unstable();
    let few = few_layers(network, outline.config);
    let few = Network { ranks: vec![[0; 7]; few.num_hidden_layers], ..network.clone() };
    let one = layers_work(&few, &Pass { rows: 1, targets: 1, keys: Vec::new() }, settings);
    let most = (LAYERS_WORK / one) as usize;
    let rows = rows.get(rows.len() / 2).copied().unwrap_or(1).min(most.max(FEWEST_ROWS)).max(1);
    let vocab = few_layers(network, outline.config).vocab_size as u32;
    let prompt: Vec<u32> = (0..rows as u32).map(|id| id * 7919 % vocab).collect();
    Sample::from_prompt(&prompt, &[1 % vocab]).map_err(|source| {
        let record = "of the calibration".into();
        PlanError::Training(foehn_finetune::Error::Record { record, source })
    })
}

/// The median of several runs, in seconds; the first run is not counted, because caches and buffers are still cold.
fn median(mut run: impl FnMut()) -> f64 {
    run();
    let (begun, mut times) = (Instant::now(), Vec::new());
    while times.is_empty() || times.len() < REPEATS && begun.elapsed().as_secs_f64() < SECONDS {
        let from = Instant::now();
        run();
        times.push(from.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2].max(1e-9)
}
