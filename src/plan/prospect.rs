//! What a recipe would do with its data and its model, read without a weight.

use burn::tensor::Device;
use foehn_finetune::{Dataset, TrainingConfig};
use foehn_mistral::MistralConfig;
use foehn_record::Record;
use foehn_weights::Weights;

use super::{Calibration, Choice, Outline, Plan, PlanError, free_memory, program_bytes};
use crate::pretrained::Side;
use crate::{Job, Loading, Recipe};

/// A recipe's data as samples, and the shape of its model: a checkpoint's header, its tokenizer and its template.
#[derive(Debug)]
pub struct Prospect {
    recipe: Recipe,
    config: MistralConfig,
    weights: Weights,
    training: Dataset,
    validation: Option<Dataset>,
    rejected: usize,
    too_long: TooLong,
    program: usize,
}

#[derive(Debug, Default)]
struct TooLong {
    count: usize,
    records: usize,
    first: Option<String>,
    limit: usize,
}

impl Prospect {
    /// Reads what a plan of the job needs.
    ///
    /// # Errors
    /// [`PlanError`] if the model's files cannot be found or read, or a record cannot be rendered.
    pub fn of(job: &Job, progress: &mut dyn FnMut(Loading<'_>)) -> Result<Self, PlanError> {
        let mut recipe = job.recipe().clone();
        let Side { config, weights, tokenizer, template, .. } =
            Side::open(&recipe.model, recipe.template.as_ref(), job.data().is_text(), progress).map_err(Box::new)?;
        adopt_init_adapter(&mut recipe.training)?;
        let (records, held_out) = (&job.data().records, &job.data().validation);
        let is_refused = recipe.training.too_long == foehn_finetune::TooLong::Error;
        // What a run would refuse is left out here, and counted.
        let mut settings = recipe.training.clone();
        settings.too_long = if is_refused { foehn_finetune::TooLong::Drop } else { settings.too_long };
        let mut too_long = TooLong { limit: settings.longest(config.max_position_embeddings), ..TooLong::default() };
        let mut dataset = |records: &[Record]| -> Result<Dataset, PlanError> {
            let made = |settings| Dataset::for_training(settings, records, &template, &tokenizer, &config);
            let dataset = match made(&settings) {
                // Nothing is left: the run's own error names a record.
                Err(foehn_finetune::Error::NoData { .. }) if is_refused => made(&recipe.training)?,
                found => found?,
            };
            too_long.records += records.len();
            let dropped = &dataset.fitting().dropped;
            if is_refused && dropped.count > 0 {
                too_long.count += dropped.count;
                too_long.first.get_or_insert_with(|| dropped.first.first().cloned().unwrap_or_default());
            }
            Ok(dataset)
        };
        let training = dataset(records)?.weighted(&job.data().weights)?;
        let validation = if held_out.is_empty() { None } else { Some(dataset(held_out)?) };
        let rejected = job.data().report.as_ref().map_or(0, |report| report.rejected as usize);
        let program = program_bytes();
        Ok(Self { recipe, config, weights, training, validation, rejected, too_long, program })
    }

    /// The plan of the recipe, with the time if a device to measure on is given.
    ///
    /// # Errors
    /// As [`Plan::of`].
    pub fn plan(&self, device: Option<&Device>) -> Result<Plan, PlanError> {
        let (outline, Recipe { base, training, .. }) = (self.outline(), &self.recipe);
        let calibration = device.map(|device| Calibration::measure(&outline, *base, training, device)).transpose()?;
        let mut plan = Plan::of(&outline, *base, training, calibration.as_ref())?;
        (plan.data.rejected, plan.data.too_long) = (self.rejected, self.too_long.count);
        Ok(plan)
    }

    /// The settings that fit in `room` bytes.
    ///
    /// # Errors
    /// As [`Choice::within`].
    pub fn within(&self, room: usize) -> Result<Choice, PlanError> {
        Choice::within(room, &self.outline(), self.recipe.base, &self.recipe.training)
    }

    /// Refuses a run that does not fit in the memory that is free, and one with a record that is too long.
    ///
    /// # Errors
    /// [`PlanError::DoesNotFit`] with the settings that would fit, and [`PlanError::TooLong`].
    pub fn check(&self) -> Result<(), PlanError> {
        if self.too_long.count > 0 {
            let TooLong { count, records, limit, ref first } = self.too_long;
            return Err(PlanError::TooLong { count, records, limit, first: first.clone().unwrap_or_default() });
        }
        // What this process holds already is not to be found free again.
        match free_memory() {
            Some(free) => self.check_within(free + self.program),
            None => Ok(()),
        }
    }

    /// Refuses a run that does not fit in `room` bytes, as [`check`](Self::check).
    ///
    /// # Errors
    /// [`PlanError::DoesNotFit`].
    pub fn check_within(&self, room: usize) -> Result<(), PlanError> {
        let needed = Plan::of(&self.outline(), self.recipe.base, &self.recipe.training, None)?.memory.peak;
        if needed <= room {
            return Ok(());
        }
        let advice = match self.within(room) {
            Ok(choice) => format!("it would fit with {} ({})", choice.said(), super::size(choice.peak)),
            Err(error @ PlanError::TooLittle { .. }) => error.to_string(),
            Err(other) => return Err(other),
        };
        Err(PlanError::DoesNotFit { needed, room, advice })
    }

    fn outline(&self) -> Outline<'_> {
        Outline {
            config: &self.config,
            checkpoint: Some(&self.weights),
            training: &self.training,
            validation: self.validation.as_ref(),
            program: self.program,
            saves: true,
        }
    }
}

/// A run that starts from an adapter takes its settings where the recipe has none, as `Trainer::new` does.
fn adopt_init_adapter(settings: &mut TrainingConfig) -> Result<(), PlanError> {
    let Some(path) = settings.init_adapter.clone() else { return Ok(()) };
    if settings.lora == foehn_lora::LoraConfig::default() {
        let failed = |source| PlanError::InitAdapter { path: path.clone(), source: Box::new(source) };
        settings.lora = foehn_lora::Adapter::load(&path).map_err(failed)?.config;
    }
    Ok(())
}
