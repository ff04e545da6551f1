//! The state of a training run, advanced one step at a time.

mod sound;
mod start;

use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::Tensor;
use foehn_files::DraftFolder;
use foehn_kernels::Compute;
use foehn_lora::{
    Adapter, Factor, LoraConfig, Manifest, Parameter, attach, attach_trainable, parameters, set_parameters,
};
use foehn_mistral::Mistral;
use foehn_tokens::Sample;

use crate::checkpoint::{self, Checkpoint, State};
use crate::metrics::MetricsFile;
use crate::resume;
use crate::step::{gradients, preference_gradients, preference_loss, validation_loss};
use crate::{
    AdamW, Dataset, Error, Folder, Noise, Objective, Rewards, Run, StepMetrics, TrainingConfig, ValidationMetrics,
    Warning, clip_global_norm,
};
use start::{checked, first_adapter, manifest, reference};

/// A training run: its model, its optimiser and its progress. [`train`](crate::train) is a loop over its methods. A
/// caller with its own loop can use the [`model`](Self::model) between two steps.
pub struct Trainer<'a> {
    model: &'a mut Mistral,
    /// The model as it was before the first step, where the objective compares with it. It shares the weights.
    reference: Option<Mistral>,
    config: TrainingConfig,
    training: &'a Dataset,
    validation: Option<&'a Dataset>,
    manifest: Manifest,
    folder: Folder,
    metrics: MetricsFile,
    state: State,
    optimizer: AdamW,
    best: Option<Adapter>,
    total: usize,
    last_checkpoint: Option<PathBuf>,
    /// Whether the state has changed since the last checkpoint.
    is_ahead: bool,
    warnings: Vec<Warning>,
}

/// The starting state of a run.
struct Start {
    reference: Option<Mistral>,
    state: State,
    best: Option<Adapter>,
    optimizer: AdamW,
    place: Option<PathBuf>,
    warnings: Vec<Warning>,
}

/// Runs something with the model at a [`Compute`]. Then the model has its own again, with which the caller asks it.
fn with_compute<R>(model: &mut Mistral, compute: Compute, run: impl FnOnce(&mut Mistral) -> R) -> R {
    let own = model.compute();
    model.set_compute(compute);
    let found = run(model);
    model.set_compute(own);
    found
}

impl<'a> Trainer<'a> {
    /// A new run, with a fresh adapter or the config's `init_adapter`.
    ///
    /// # Errors
    /// [`Error::AlreadyThere`] if the folder was opened for resuming a run, [`Error::Setting`], [`Error::InitAdapter`],
    /// and [`Error::File`] if writing fails.
    pub fn new(model: &'a mut Mistral, run: Run<'a>) -> Result<Self, Error> {
        if run.out.resumes() {
            return Err(Error::AlreadyThere { path: run.out.path().to_owned() });
        }
        let mut config = checked(model, &run)?;
        let adapter = first_adapter(model, &mut config)?;
        let reference = reference(model, &config, &adapter)?;
        attach_trainable(model, &adapter)?;
        let optimizer = AdamW::new(config.optimizer, &tensors(model));
        let (state, warnings) = (State::default(), Vec::new());
        let start = Start { reference, state, best: None, optimizer, place: None, warnings };
        let manifest = manifest(&run, &config)?;
        Self::put_together(model, run, config, manifest, start)
    }

    /// Resumes from the newest undamaged checkpoint of the run's folder. If it refuses, the folder is not changed.
    ///
    /// Paths and names, `checkpoint_steps`, `keep_checkpoints`, `micro_batch_rows`, `recompute`, `epochs` and
    /// `max_steps` may differ from the earlier config. A change that affects the remaining steps is reported as a
    /// [`Warning`] and recorded in the manifest. If the number of steps changes, the learning rate follows the new
    /// number from here on.
    ///
    /// # Errors
    /// [`Error::NoCheckpoint`], [`Error::ResumeMismatch`] naming the difference, and [`Error::Checkpoint`] or the error
    /// of a file if every checkpoint is damaged.
    pub fn resume(model: &'a mut Mistral, run: Run<'a>) -> Result<Self, Error> {
        let mut config = checked(model, &run)?;
        let (place, found, mut warnings) = checkpoint::newest_whole(&run.out.checkpoints())?;
        let before = found.adapter.manifest.clone().unwrap_or_default();
        if config.init_adapter.is_some() && config.lora == LoraConfig::default() {
            let lora = before.recipe.get("lora").cloned().unwrap_or_default();
            config.lora = serde_json::from_value(lora).unwrap_or_default();
        }
        let mut manifest = manifest(&run, &config)?;
        let changes = resume::changes(&place, &before, &manifest)?;
        if !resume::is_of(&found.adapter.config, &config.lora) {
            let reason = "its adapter has other settings than its config".into();
            return Err(Error::Checkpoint { path: place, reason });
        }
        let total = run.training.total_steps(&config);
        if total < found.state.step {
            let (key, old) = ("max_steps".into(), format!("and has taken {} steps", found.state.step));
            return Err(Error::ResumeMismatch { path: place, key, old, new: format!("{total} in all") });
        }
        manifest.changes = before.changes;
        manifest.changes.extend(changes.iter().map(|change| format!("from step {}: {change}", found.state.step + 1)));
        warnings.extend(changes.into_iter().map(|change| Warning::Changed { change }));
        let reference = match config.objective {
            Objective::Sft => None,
            Objective::Dpo => {
                let first = first_adapter(model, &mut config)?;
                reference(model, &config, &first)?
            }
        };
        attach_trainable(model, &found.adapter)?;
        let optimizer = found.optimizer(&place, config.optimizer, parameters(model))?;
        let Checkpoint { state, best, .. } = found;
        let start = Start { reference, state, best, optimizer, place: Some(place), warnings };
        Self::put_together(model, run, config, manifest, start)
    }

    fn put_together(
        model: &'a mut Mistral,
        run: Run<'a>,
        config: TrainingConfig,
        manifest: Manifest,
        start: Start,
    ) -> Result<Self, Error> {
        let Start { reference, state, best, optimizer, place, mut warnings } = start;
        let sets = [("training", Some(run.training)), ("validation", run.validation)];
        let fittings = sets.into_iter().filter_map(|(set, data)| Some((set, data?.fitting().clone())));
        let affected = fittings.filter(|(_, fitting)| !fitting.is_whole());
        warnings.extend(affected.map(|(set, fitting)| Warning::Length { set, fitting }));
        model.set_recompute(config.recompute);
        let metrics = MetricsFile::open(run.out.metrics(), state.step, state.validated)?;
        let total = run.training.total_steps(&config);
        let Run { training, validation, out: folder, .. } = run;
        let last_checkpoint = place;
        Ok(Self {
            model,
            reference,
            config,
            training,
            validation,
            manifest,
            folder,
            metrics,
            state,
            optimizer,
            best,
            total,
            last_checkpoint,
            is_ahead: false,
            warnings,
        })
    }

    /// Takes one step: forward and backward pass over the next samples, clipping, AdamW.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if the loss or a gradient is not finite.
    ///
    /// # Panics
    /// After [`finish`](Self::finish), when the adapter is no longer trainable.
    pub fn step(&mut self) -> Result<StepMetrics, Error> {
        let begun = Instant::now();
        let (config, step) = (&self.config, self.state.step);
        let (epoch, samples) = self.samples_of(step);
        let noise = Noise {
            dropout: config.lora.lora_dropout,
            neftune_alpha: config.neftune_noise_alpha,
            seed: noise_seed(config.seed, step),
        };
        let (rows, mean) = (config.micro_batch_rows, config.loss_mean);
        let computed = with_compute(self.model, config.compute, |model| match &self.reference {
            None => gradients(model, &samples, rows, noise, mean),
            Some(reference) => {
                let dpo = config.dpo.unwrap_or_default();
                preference_gradients(model, reference, &samples, rows, noise, mean, &dpo)
            }
        });
        if !computed.loss.is_finite() {
            return Err(self.not_finite("loss", step, computed.loss));
        }
        let limit = (config.max_grad_norm > 0.0).then_some(config.max_grad_norm);
        let (clipped, grad_norm) = clip_global_norm(computed.gradients, limit);
        if !grad_norm.is_finite() {
            return Err(self.not_finite("gradient norm", step, grad_norm));
        }
        let learning_rate = config.learning_rate_at(step, self.total);
        let rates = learning_rates(self.model, learning_rate, config.loraplus_lr_ratio);
        let updated = self.optimizer.step(tensors(self.model), clipped, &rates);
        set_parameters(self.model, updated);
        self.state.step += 1;
        self.is_ahead = true;
        let metrics = StepMetrics {
            step: self.state.step,
            epoch: epoch + 1,
            loss: computed.loss,
            learning_rate,
            grad_norm,
            examples: samples.len() / self.training.per_record(),
            supervised_tokens: computed.supervised,
            tokens: computed.tokens,
            rows: computed.rows,
            seconds: begun.elapsed().as_secs_f64(),
            rewards: computed.rewards,
        };
        let written = self.metrics.append(&metrics);
        self.tell(written);
        Ok(metrics)
    }

    /// The current loss of the validation set; `None` if the run has none.
    ///
    /// # Errors
    /// [`Error::NotFinite`].
    pub fn validate(&mut self) -> Result<Option<ValidationMetrics>, Error> {
        let Some(validation) = self.validation else { return Ok(None) };
        let samples: Vec<&Sample> = validation.samples.iter().collect();
        let (loss, rewards) = self.loss(&samples);
        if !loss.is_finite() {
            return Err(self.not_finite("validation loss", self.state.step.saturating_sub(1), loss));
        }
        if self.state.best_loss.is_none_or(|best| loss < best) {
            if self.config.validation.patience > 0 {
                self.best = Some(self.sound_adapter()?);
            }
            (self.state.best_loss, self.state.best_step) = (Some(loss), Some(self.state.step));
            self.state.since_best = 0;
        } else {
            self.state.since_best += 1;
        }
        self.state.validated = self.state.step;
        self.is_ahead = true;
        let metrics = ValidationMetrics { step: self.state.step, validation_loss: loss, rewards };
        let written = self.metrics.append(&metrics);
        self.tell(written);
        Ok(Some(metrics))
    }

    /// Writes a checkpoint, if the state is finite. Then removes old checkpoints.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if parameters, moments, or the loss with these parameters are not finite; then nothing is
    /// written or removed. [`Error::File`] or the error of a tensor file if writing fails.
    pub fn checkpoint(&mut self) -> Result<PathBuf, Error> {
        let mut adapter = self.sound_adapter()?;
        adapter.manifest = Some(self.manifest.clone());
        let names = parameters(self.model);
        let moments = checkpoint::moments(&self.optimizer, &names);
        for moment in &moments {
            self.check_finite(&moment.spec.name, &moment.data)?;
        }
        self.check_loss()?;
        let folder = self.folder.checkpoints();
        let checkpoint = Checkpoint { state: self.state.clone(), adapter, best: self.best.clone() };
        let place = checkpoint.save(&folder, &moments)?;
        let best = self.state.best_step.filter(|_| self.config.validation.patience > 0);
        checkpoint::remove_older(&folder, self.state.step, self.config.keep_checkpoints, best)?;
        self.last_checkpoint = Some(place.clone());
        self.is_ahead = false;
        Ok(place)
    }

    /// Saves the trained adapter (the best one, if `validation.patience` is set) in `adapter/` in the run's folder. The
    /// adapter stays attached for inference. Returns the folder of the adapter.
    ///
    /// # Errors
    /// As [`checkpoint`](Self::checkpoint).
    pub fn finish(&mut self) -> Result<PathBuf, Error> {
        let mut adapter = match self.best.take() {
            Some(best) => best,
            None => {
                self.check_loss()?;
                self.sound_adapter()?
            }
        };
        adapter.manifest = Some(self.manifest.clone());
        let path = self.folder.adapter();
        let failed = |source| Error::File { path: path.clone(), source };
        let draft = DraftFolder::new(&path).map_err(failed)?;
        adapter.save(draft.path())?;
        draft.finish().map_err(failed)?;
        attach(self.model, &adapter)?;
        Ok(path)
    }

    /// The model with the current adapter.
    pub fn model(&self) -> &Mistral {
        self.model
    }

    /// The number of steps taken.
    pub fn steps(&self) -> usize {
        self.state.step
    }

    /// The number of steps of the whole run.
    pub fn total_steps(&self) -> usize {
        self.total
    }

    /// The lowest validation loss.
    pub fn best_validation_loss(&self) -> Option<f64> {
        self.state.best_loss
    }

    /// Whether all steps are taken, or the config's patience is used up.
    pub fn is_done(&self) -> bool {
        self.state.step >= self.total || self.is_out_of_patience()
    }

    /// Whether the validation loss has not improved for the config's patience.
    pub fn is_out_of_patience(&self) -> bool {
        let patience = self.config.validation.patience;
        patience > 0 && self.state.since_best >= patience
    }

    /// Whether the config asks for a validation before the next step.
    pub fn is_validation_due(&self) -> bool {
        let (step, every) = (self.state.step, self.config.validation.steps);
        let is_due = every > 0 && (step.is_multiple_of(every) || step >= self.total);
        self.validation.is_some() && is_due && step > self.state.validated
    }

    /// Whether the config asks for a checkpoint before the next step.
    pub fn is_checkpoint_due(&self) -> bool {
        let every = self.config.checkpoint_steps;
        self.is_ahead && (self.is_done() || every > 0 && self.state.step.is_multiple_of(every))
    }

    /// Whether ending the run without a checkpoint would lose anything.
    pub fn is_ahead(&self) -> bool {
        self.is_ahead
    }

    /// The problems since the last call that did not stop the run.
    pub fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }

    /// Draws the losses so far. If that fails, a warning is recorded.
    pub(crate) fn draw(&mut self) {
        #[cfg(feature = "curve")]
        {
            let drawn = crate::curve::draw(&self.folder.metrics(), &self.folder.picture());
            self.tell(drawn);
        }
    }

    fn samples_of(&self, step: usize) -> (usize, Vec<&'a Sample>) {
        let training: &'a Dataset = self.training;
        let (epoch, chosen) = training.of_step(&self.config, step);
        (epoch, chosen.into_iter().flat_map(|index| training.of_record(index)).collect())
    }

    /// The loss of samples with the current adapter, without dropout.
    fn loss(&mut self, samples: &[&Sample]) -> (f64, Option<Rewards>) {
        let TrainingConfig { micro_batch_rows: rows, loss_mean: mean, dpo, compute, .. } = &self.config;
        with_compute(self.model, *compute, |model| match &self.reference {
            None => (validation_loss(model, samples, *rows, *mean), None),
            Some(reference) => {
                let dpo = dpo.unwrap_or_default();
                let (loss, rewards) = preference_loss(model, reference, samples, *rows, *mean, &dpo);
                (loss, Some(rewards))
            }
        })
    }

    /// Metrics and the loss curve only inform about the run, so failing to write them does not end it.
    fn tell(&mut self, written: Result<(), Error>) {
        if let Err(error) = written {
            let path = match &error {
                Error::File { path, .. } => path.clone(),
                _ => self.folder.path().join("loss.svg"),
            };
            self.warnings.push(Warning::NotWritten { path, reason: checkpoint::said(&error) });
        }
    }
}

/// The learning rate of each parameter. With LoRA+, that of a B is a multiple of that of its A.
fn learning_rates(model: &Mistral, learning_rate: f64, ratio: f64) -> Vec<f64> {
    let rate = |parameter: Parameter| match parameter.factor {
        Factor::A => learning_rate,
        Factor::B => learning_rate * ratio,
    };
    parameters(model).into_iter().map(rate).collect()
}

fn tensors(model: &Mistral) -> Vec<Tensor<2>> {
    parameters(model).into_iter().map(|parameter| parameter.tensor).collect()
}

/// A seed for the noise of a step; each step has a different one.
fn noise_seed(seed: u64, step: usize) -> u64 {
    (seed ^ 0x5851_F42D_4C95_7F2D).wrapping_add((step as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}
