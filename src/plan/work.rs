//! The micro-batches of a run.

use foehn_finetune::{Dataset, TrainingConfig};
use foehn_tokens::{Batch, Sample};

use super::step::QUERIES;
use super::{Outline, Pass, PlannedData};

/// Steps that are packed as the run will pack them. Those after them are taken to be like them.
const STEPS: usize = 4000;

/// The micro-batches of a run's steps.
pub(crate) struct Work {
    /// All steps of the run.
    pub total: usize,
    /// The first steps, in order.
    pub steps: Vec<Vec<Pass>>,
}

impl Work {
    pub fn of(training: &Dataset, settings: &TrainingConfig) -> Self {
        let total = training.total_steps(settings);
        let step = |step| {
            let (_, chosen) = training.of_step(settings, step);
            let chosen: Vec<&Sample> = chosen.into_iter().flat_map(|record| training.of_record(record)).collect();
            passes(&chosen, training.per_record(), settings.micro_batch_rows)
        };
        Self { total, steps: (0..total.min(STEPS)).map(step).collect() }
    }

    /// By how much the run is longer than the steps that were packed.
    pub fn scale(&self) -> f64 {
        self.total as f64 / self.steps.len().max(1) as f64
    }

    pub fn data(&self, outline: &Outline<'_>) -> PlannedData {
        let samples = outline.training.samples();
        let computed: usize = self.steps.iter().flatten().map(|pass| pass.rows).sum();
        PlannedData {
            samples: outline.training.len(),
            validation_samples: outline.validation.map_or(0, |validation| validation.len()),
            rejected: 0,
            too_long: 0,
            fitting: outline.training.fitting().clone(),
            validation_fitting: outline.validation.map(|validation| validation.fitting().clone()).unwrap_or_default(),
            weights: match outline.training.parts() {
                [part] if part.weight == 1.0 => Vec::new(),
                parts => parts.to_vec(),
            },
            tokens: samples.iter().map(Sample::len).sum(),
            supervised: samples.iter().map(Sample::supervised).sum(),
            longest: samples.iter().map(Sample::len).max().unwrap_or(0),
            steps: self.total,
            computed: (computed as f64 * self.scale()).round() as usize,
            largest_micro_batch: self.steps.iter().flatten().map(|pass| pass.rows).max().unwrap_or(0),
        }
    }
}

/// Packs samples as a step does.
pub(crate) fn passes(samples: &[&Sample], group: usize, max_rows: usize) -> Vec<Pass> {
    Batch::pack_groups_within(samples, group, max_rows).iter().map(pass).collect()
}

fn pass(batch: &Batch) -> Pass {
    let rows = batch.rows();
    let mut targets: Vec<u32> = batch.targets().iter().map(|target| target.row).collect();
    targets.sort_unstable();
    targets.dedup();
    // As `Seen::new` of the kernels: a key before the end of the run, seen from a query of the run.
    let keys = |start: usize| {
        let end = rows.min(start + QUERIES);
        let ends = &batch.subtree_ends()[..end];
        ends.iter().enumerate().filter(|(key, seen)| (**seen as usize) > start.max(*key)).count()
    };
    Pass { rows, targets: targets.len(), keys: (0..rows).step_by(QUERIES).map(keys).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_micro_batch_is_counted_as_it_is_packed() {
        let prompt: Vec<u32> = (0..100).collect();
        let samples = [7u32, 8].map(|answer| Sample::from_prompt(&prompt, &[answer, answer, 9]).unwrap());
        let found = passes(&samples.each_ref(), 1, 1000);
        // The prompt is shared; each answer's last token is a target alone. Row 99 has two targets.
        assert_eq!(found, [Pass { rows: 104, targets: 5, keys: vec![64, 104] }]);
        let apart = passes(&samples.each_ref(), 1, 102);
        assert_eq!(apart, vec![Pass { rows: 102, targets: 3, keys: vec![64, 102] }; 2]);
    }
}
