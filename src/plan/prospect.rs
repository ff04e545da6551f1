//! What a recipe would do with its data and its model, read without a weight.

use burn::tensor::Device;
use foehn_finetune::{Dataset, TrainingConfig};
use foehn_mistral::MistralConfig;
use foehn_record::Record;
use foehn_tokens::{ChatTemplate, Sample, Tokenizer};
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
    first: String,
    limit: usize,
}

impl Prospect {
    /// Reads what a plan of the job needs.
    ///
    /// # Errors
    /// [`PlanError`] if the model's files cannot be found or read, or a record cannot be rendered.
    pub fn of(job: &Job, progress: &mut dyn FnMut(Loading<'_>)) -> Result<Self, PlanError> {
        let mut recipe = job.recipe().clone();
        let Side { config, weights, tokenizer, template } =
            Side::open(&recipe.model, recipe.template.as_ref(), progress).map_err(Box::new)?;
        adopt_init_adapter(&mut recipe.training)?;
        let (records, held_out) = (&job.data().records, &job.data().validation);
        let mut too_long = TooLong { limit: limit(&config, &recipe.training), ..TooLong::default() };
        let mut dataset = |records: &[Record]| -> Result<Dataset, PlanError> {
            let fitting = too_long.fitting(records, &template, &tokenizer);
            let fitting = if fitting.is_empty() { records } else { &fitting };
            let TrainingConfig { objective, max_length, .. } = recipe.training;
            Ok(Dataset::for_objective(objective, fitting, &template, &tokenizer, &config, max_length)?)
        };
        let training = dataset(records)?;
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
            return Err(PlanError::TooLong { count, records, limit, first: first.clone() });
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

impl TooLong {
    /// The records that fit, counting the others. A record that cannot be rendered stays: the dataset names its error.
    fn fitting(&mut self, records: &[Record], template: &ChatTemplate, tokenizer: &Tokenizer) -> Vec<Record> {
        let mut fitting = Vec::with_capacity(records.len());
        for (index, record) in records.iter().enumerate() {
            self.records += 1;
            let len = template.sample(tokenizer, record).map_or(0, |sample: Sample| sample.len());
            if len <= self.limit {
                fitting.push(record.clone());
                continue;
            }
            if self.count == 0 {
                self.first = record.id.clone().unwrap_or_else(|| (index + 1).to_string());
            }
            self.count += 1;
        }
        fitting
    }
}

/// The longest sample that a run accepts, as [`Dataset::new`] has it.
fn limit(config: &MistralConfig, settings: &TrainingConfig) -> usize {
    let limit = config.max_position_embeddings;
    if settings.max_length == 0 { limit } else { limit.min(settings.max_length) }
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
