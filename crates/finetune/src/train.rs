//! The training loop.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Tensor;
use foehn_lora::{Adapter, Manifest, attach, attach_trainable, detach, parameters, set_parameters};
use foehn_mistral::Mistral;
use foehn_tokens::Sample;

use crate::checkpoint::{self, Checkpoint, State};
use crate::metrics::MetricsFile;
use crate::step::{gradients, validation_loss};
use crate::{AdamW, Dataset, Error, Recipe, StepMetrics, ValidationMetrics, clip_global_norm, curve, order};

/// What a run works on and where it writes.
#[derive(Debug)]
pub struct Run<'a> {
    /// The settings.
    pub recipe: &'a Recipe,
    /// The samples to learn.
    pub training: &'a Dataset,
    /// The samples to validate on.
    pub validation: Option<&'a Dataset>,
    /// Where the base, the data and the rest come from; the recipe and the seed are filled in.
    pub manifest: Manifest,
    /// The run's folder: `adapter/`, `checkpoints/`, `metrics.jsonl`, `loss.svg`.
    pub out: &'a Path,
    /// Whether to go on from the newest checkpoint in `out`.
    pub resume: bool,
}

/// What happens during a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// The run begins, or goes on, before step `step` (from 1) of `total`.
    Started {
        /// The first step to come.
        step: usize,
        /// All steps of the run.
        total: usize,
        /// The adapter's parameters.
        parameters: usize,
    },
    /// A step was taken.
    Step(&'a StepMetrics),
    /// The validation loss was computed.
    Validated(&'a ValidationMetrics),
    /// A checkpoint was written.
    Checkpointed(&'a Path),
    /// The validation loss has not improved for the recipe's patience.
    StoppedEarly {
        /// The steps taken.
        step: usize,
    },
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Steps taken, those before a resume included.
    pub steps: usize,
    /// The loss of the last step taken now; `None` where there was none left to take.
    pub loss: Option<f64>,
    /// The lowest validation loss.
    pub best_validation_loss: Option<f64>,
    /// The trained adapter's folder; `None` where the observer interrupted the run.
    pub adapter: Option<PathBuf>,
}

/// Trains an adapter: for every step, the samples' packed forward and backward passes, clipping, AdamW; now and then a
/// validation and a checkpoint. The trained adapter is saved in `out/adapter` and stays attached to the model.
///
/// `observe` sees every [`Event`], and can end the run after any by returning [`ControlFlow::Break`].
///
/// # Errors
/// [`Error::AlreadyThere`] and [`Error::NoCheckpoint`] where `resume` does not fit the folder,
/// [`Error::ResumeMismatch`] where the checkpoint belongs to another run, [`Error::NotFinite`] where the loss or a
/// gradient explodes, and [`Error::File`] where the disk refuses.
pub fn train(
    model: &mut Mistral,
    run: Run<'_>,
    observe: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Outcome, Error> {
    let recipe = run.recipe;
    recipe.check()?;
    let total = recipe.total_steps(run.training.samples.len());
    let manifest = Manifest {
        seed: recipe.seed,
        recipe: serde_json::to_value(recipe).unwrap_or_default(),
        ..run.manifest.clone()
    };
    let mut at = start(model, &run, &manifest)?;
    model.set_recompute(recipe.recompute);
    let mut metrics_file = MetricsFile::open(run.out.join("metrics.jsonl"), at.state.step)?;
    let mut last_checkpoint = checkpoint::newest(&run.out.join("checkpoints"))?;
    let mut loss = None;
    let mut flow = observe(Event::Started { step: at.state.step + 1, total, parameters: at.adapter.num_params() });

    let patience = recipe.validation.patience;
    let is_out_of_patience = |state: &State| patience > 0 && state.since_best >= patience;
    while at.state.step < total && !is_out_of_patience(&at.state) && flow.is_continue() {
        let begun = Instant::now();
        let step = at.state.step;
        let (epoch, chosen) = order::batch(run.training.samples.len(), recipe.batch_size, recipe.seed, step);
        let samples: Vec<&Sample> = chosen.iter().map(|&index| &run.training.samples[index]).collect();
        let names = || chosen.iter().map(|&index| run.training.names[index].clone()).collect::<Vec<_>>();
        let not_finite = |what, value| Error::NotFinite {
            what,
            step: step + 1,
            value,
            samples: names(),
            last_checkpoint: last_checkpoint.clone(),
        };

        let dropout = (recipe.lora.lora_dropout, dropout_seed(recipe.seed, step));
        let computed = gradients(model, &samples, recipe.micro_batch_rows, dropout, recipe.loss_mean);
        if !computed.loss.is_finite() {
            return Err(not_finite("loss", computed.loss));
        }
        let limit = (recipe.max_grad_norm > 0.0).then_some(recipe.max_grad_norm);
        let (clipped, grad_norm) = clip_global_norm(computed.gradients, limit);
        if !grad_norm.is_finite() {
            return Err(not_finite("gradient norm", grad_norm));
        }
        let learning_rate = recipe.learning_rate_at(step, total);
        let updated = at.optimizer.step(tensors(model), clipped, learning_rate);
        set_parameters(model, updated);
        at.state.step += 1;
        loss = Some(computed.loss);

        let metrics = StepMetrics {
            step: at.state.step,
            epoch: epoch + 1,
            loss: computed.loss,
            learning_rate,
            grad_norm,
            examples: samples.len(),
            supervised_tokens: computed.supervised,
            tokens: computed.tokens,
            rows: computed.rows,
            seconds: begun.elapsed().as_secs_f64(),
        };
        metrics_file.append(&metrics)?;
        flow = observe(Event::Step(&metrics));

        let is_last = at.state.step == total;
        if flow.is_continue() && (is_last || is_due(at.state.step, recipe.validation.steps)) {
            flow = validate(model, &run, &mut at, &mut metrics_file, observe)?;
        }
        let stops_early = is_out_of_patience(&at.state);
        if flow.is_continue() && (is_last || stops_early || is_due(at.state.step, recipe.checkpoint_steps)) {
            let path = save(model, &run, &mut at, &manifest)?;
            flow = observe(Event::Checkpointed(&path));
            last_checkpoint = Some(path);
        }
        if flow.is_continue() && stops_early {
            flow = observe(Event::StoppedEarly { step: at.state.step });
        }
    }

    let finished = flow.is_continue();
    let adapter = if finished { Some(finish(model, &run, at.best.take(), &manifest)?) } else { None };
    curve::draw(&run.out.join("metrics.jsonl"), &run.out.join("loss.svg"))?;
    Ok(Outcome { steps: at.state.step, loss, best_validation_loss: at.state.best_loss, adapter })
}

/// Whether a run can begin in a folder, or go on there: the newest checkpoint to resume from, `None` for a new run.
///
/// [`train`] asks the same; a caller with work to do before may ask sooner.
///
/// # Errors
/// [`Error::AlreadyThere`] for a new run where one has been, [`Error::NoCheckpoint`] where there is nothing to resume.
pub fn checkpoint_to_start_from(out: &Path, resume: bool) -> Result<Option<PathBuf>, Error> {
    let newest = checkpoint::newest(&out.join("checkpoints"))?;
    match (resume, newest) {
        (true, None) => Err(Error::NoCheckpoint { path: out.to_owned() }),
        (false, None) if !out.join("adapter").exists() => Ok(None),
        (false, _) => Err(Error::AlreadyThere { path: out.to_owned() }),
        (true, place) => Ok(place),
    }
}

/// The state that the first step starts from, with its adapter attached.
fn start(model: &mut Mistral, run: &Run<'_>, manifest: &Manifest) -> Result<Checkpoint, Error> {
    let recipe = run.recipe;
    if let Some(place) = checkpoint_to_start_from(run.out, run.resume)? {
        let onto_model = |adapter: &Adapter| {
            attach_trainable(model, adapter)?;
            Ok(parameters(model))
        };
        return Checkpoint::load(&place, recipe.optimizer, onto_model, manifest);
    }
    std::fs::create_dir_all(run.out).map_err(|source| Error::File { path: run.out.to_owned(), source })?;
    let adapter = Adapter::new(&recipe.lora, model, recipe.seed)?;
    attach_trainable(model, &adapter)?;
    let optimizer = AdamW::new(recipe.optimizer, &tensors(model));
    Ok(Checkpoint { state: State::default(), adapter, best: None, optimizer })
}

fn validate(
    model: &Mistral,
    run: &Run<'_>,
    at: &mut Checkpoint,
    metrics_file: &mut MetricsFile,
    observe: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Error> {
    let Some(validation) = run.validation else { return Ok(ControlFlow::Continue(())) };
    let samples: Vec<&Sample> = validation.samples.iter().collect();
    let loss = validation_loss(model, &samples, run.recipe.micro_batch_rows, run.recipe.loss_mean);
    if at.state.best_loss.is_none_or(|best| loss < best) {
        at.state.best_loss = Some(loss);
        at.state.since_best = 0;
        if run.recipe.validation.patience > 0 {
            at.best = Some(snapshot(model, run, None)?);
        }
    } else {
        at.state.since_best += 1;
    }
    let metrics = ValidationMetrics { step: at.state.step, validation_loss: loss };
    metrics_file.append(&metrics)?;
    Ok(observe(Event::Validated(&metrics)))
}

fn save(model: &Mistral, run: &Run<'_>, at: &mut Checkpoint, manifest: &Manifest) -> Result<PathBuf, Error> {
    at.adapter = snapshot(model, run, Some(manifest))?;
    at.save(&run.out.join("checkpoints"), &parameters(model))
}

/// Saves the trained adapter and leaves it attached for inference.
fn finish(model: &mut Mistral, run: &Run<'_>, best: Option<Adapter>, manifest: &Manifest) -> Result<PathBuf, Error> {
    let mut adapter = match best {
        Some(best) => best,
        None => snapshot(model, run, None)?,
    };
    adapter.manifest = Some(manifest.clone());
    let path = run.out.join("adapter");
    adapter.save(&path)?;
    attach(model, &adapter)?;
    Ok(path)
}

/// The attached adapter's values.
fn snapshot(model: &Mistral, run: &Run<'_>, manifest: Option<&Manifest>) -> Result<Adapter, Error> {
    let mut copy = model.clone();
    let adapter = detach(&mut copy, &run.recipe.lora);
    let mut adapter = adapter.ok_or_else(|| Error::NoData { reason: "the model has no adapter".into() })?;
    adapter.manifest = manifest.cloned();
    Ok(adapter)
}

fn tensors(model: &Mistral) -> Vec<Tensor<2>> {
    parameters(model).into_iter().map(|parameter| parameter.tensor).collect()
}

fn is_due(step: usize, every: usize) -> bool {
    every > 0 && step.is_multiple_of(every)
}

/// A seed for the masks of a step that no other step shares.
fn dropout_seed(seed: u64, step: usize) -> u64 {
    (seed ^ 0x5851_F42D_4C95_7F2D).wrapping_add((step as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}
