//! The training loop.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use foehn_lora::{Manifest, parameters};
use foehn_mistral::Mistral;

use crate::{Dataset, Error, Folder, StepMetrics, Trainer, TrainingConfig, ValidationMetrics, Warning};

/// What a run works on and where it writes.
#[derive(Debug)]
pub struct Run<'a> {
    /// The settings.
    pub config: &'a TrainingConfig,
    /// The samples to learn.
    pub training: &'a Dataset,
    /// The samples to validate on.
    pub validation: Option<&'a Dataset>,
    /// Where the base, the data and the rest come from. The settings and the seed are filled in, and where it has no hash
    /// of the data, that of the samples.
    pub manifest: Manifest,
    /// The run's folder, which says whether the run begins or goes on.
    pub out: Folder,
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
    /// Something went wrong, or is to be known; the run goes on.
    Warning(&'a Warning),
    /// The validation loss has not improved for `validation.patience` times.
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

/// Trains an adapter: a loop over the moves of a [`Trainer`], steps and now and then a validation and a checkpoint. The
/// trained adapter is saved in `adapter/` of the run's folder and stays attached to the model.
///
/// `observe` sees every [`Event`], and can end the run after any by returning [`ControlFlow::Break`]: a checkpoint is
/// written, from which the run can go on.
///
/// # Errors
/// Those of [`Trainer::new`] and [`Trainer::resume`], [`Error::NotFinite`] where a loss, a gradient or an update
/// explodes, and [`Error::File`] where the disk refuses.
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
