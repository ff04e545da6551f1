//! The training loop.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use foehn_lora::{Manifest, parameters};
use foehn_mistral::Mistral;

use crate::{Dataset, Error, Folder, StepMetrics, Trainer, TrainingConfig, ValidationMetrics, Warning};

/// The inputs of a run, and its folder.
#[derive(Debug)]
pub struct Run<'a> {
    /// The settings.
    pub config: &'a TrainingConfig,
    /// The samples to learn.
    pub training: &'a Dataset,
    /// The samples to validate on.
    pub validation: Option<&'a Dataset>,
    /// The origin of the base, the data and the rest. The settings and the seed are filled in. If it has no hash of the
    /// data, the hash of the samples is filled in too.
    pub manifest: Manifest,
    /// The folder of the run. It also says whether the run is new or resumed.
    pub out: Folder,
}

/// An event during a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// The run begins, or is resumed, before step `step` (from 1) of `total`.
    Started {
        /// The next step.
        step: usize,
        /// The number of steps of the whole run.
        total: usize,
        /// The number of the adapter's parameters.
        parameters: usize,
    },
    /// A step was taken.
    Step(&'a StepMetrics),
    /// The validation loss was computed.
    Validated(&'a ValidationMetrics),
    /// A checkpoint was written.
    Checkpointed(&'a Path),
    /// A problem or an information for the user; the run continues.
    Warning(&'a Warning),
    /// The validation loss has not improved in `validation.patience` validations.
    StoppedEarly {
        /// The steps taken.
        step: usize,
    },
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The number of steps, including those before a resume.
    pub steps: usize,
    /// The loss of the last step of this session; `None` if no step was left.
    pub loss: Option<f64>,
    /// The lowest validation loss.
    pub best_validation_loss: Option<f64>,
    /// The folder of the trained adapter; `None` if the observer interrupted the run.
    pub adapter: Option<PathBuf>,
}

/// Trains an adapter: a loop over the methods of a [`Trainer`], which takes steps, validates and writes checkpoints. At
/// the end the adapter is saved in `adapter/` in the run's folder, and it stays attached to the model.
///
/// `observe` gets every [`Event`]. If it returns [`ControlFlow::Break`], the run writes a checkpoint and ends. It can
/// be resumed from this checkpoint.
///
/// # Errors
/// Those of [`Trainer::new`] and [`Trainer::resume`], [`Error::NotFinite`] if a loss, a gradient or an update is not
/// finite, and [`Error::File`] if writing fails.
pub fn train(
    model: &mut Mistral,
    run: Run<'_>,
    observe: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Outcome, Error> {
    let mut trainer = if run.out.resumes() { Trainer::resume(model, run)? } else { Trainer::new(model, run)? };
    let (step, total) = (trainer.steps() + 1, trainer.total_steps());
    let matrices = parameters(trainer.model());
    let count = matrices.iter().map(|parameter| parameter.tensor.dims().iter().product::<usize>());
    let mut flow = observe(Event::Started { step, total, parameters: count.sum() });
    let mut loss = None;
    loop {
        for warning in trainer.take_warnings() {
            flow = either(flow, observe(Event::Warning(&warning)));
        }
        if flow.is_break() {
            break;
        }
        flow = if trainer.is_validation_due() {
            trainer.validate()?.map_or(flow, |metrics| observe(Event::Validated(&metrics)))
        } else if trainer.is_checkpoint_due() {
            observe(Event::Checkpointed(&trainer.checkpoint()?))
        } else if trainer.is_done() {
            break;
        } else {
            let metrics = trainer.step()?;
            loss = Some(metrics.loss);
            observe(Event::Step(&metrics))
        };
    }
    if flow.is_continue() && trainer.is_out_of_patience() {
        flow = observe(Event::StoppedEarly { step: trainer.steps() });
    }
    let adapter = match flow {
        ControlFlow::Continue(()) => Some(trainer.finish()?),
        ControlFlow::Break(()) => {
            if trainer.is_ahead() {
                let path = trainer.checkpoint()?;
                let _ = observe(Event::Checkpointed(&path));
            }
            None
        }
    };
    trainer.draw();
    for warning in trainer.take_warnings() {
        let _ = observe(Event::Warning(&warning));
    }
    Ok(Outcome { steps: trainer.steps(), loss, best_validation_loss: trainer.best_validation_loss(), adapter })
}

fn either(first: ControlFlow<()>, second: ControlFlow<()>) -> ControlFlow<()> {
    if first.is_break() { first } else { second }
}
