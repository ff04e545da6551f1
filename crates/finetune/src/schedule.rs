//! The learning rate as a pure function of the step.

use serde::{Deserialize, Serialize};

/// The shape of the learning rate after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Half a cosine, from the peak to the final rate.
    Cosine,
    /// A straight line, from the peak to the final rate.
    Linear,
    /// The peak, for all steps.
    Constant,
}

impl Schedule {
    /// The learning rate of step `step` (from 0) of `total`. It rises linearly from 0 during `warmup` steps, as in
    /// transformers' schedules, and then falls to `floor · peak` at step `total`.
    ///
    /// Source: `get_cosine_schedule_with_warmup` and `get_linear_schedule_with_warmup` of transformers, with a final
    /// rate added.
    pub fn learning_rate(self, step: usize, warmup: usize, total: usize, peak: f64, floor: f64) -> f64 {
        if step < warmup {
            return peak * step as f64 / warmup as f64;
        }
        let progress = (step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
        let progress = progress.min(1.0);
        let share = match self {
            Self::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Self::Linear => 1.0 - progress,
            Self::Constant => return peak,
        };
        peak * (floor + (1.0 - floor) * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_transformers() {
        // get_cosine_schedule_with_warmup(2, 10) at a peak of 1e-2, from tests/golden/model/gqa/expected.json.
        let expected = [
            0.0,
            0.005,
            0.01,
            0.009619397662556433,
            0.008535533905932738,
            0.00691341716182545,
            0.005,
            0.0030865828381745515,
            0.0014644660940672626,
            0.0003806023374435663,
        ];
        for (step, expected) in expected.into_iter().enumerate() {
            let found = Schedule::Cosine.learning_rate(step, 2, 10, 1e-2, 0.0);
            assert!((found - expected).abs() < 1e-15, "step {step}: {found} {expected}");
        }
    }

    #[test]
    fn ends_at_the_floor() {
        for schedule in [Schedule::Cosine, Schedule::Linear] {
            let at = |step| schedule.learning_rate(step, 5, 50, 2.0, 0.1);
            assert_eq!((at(5), at(0)), (2.0, 0.0));
            assert!((at(50) - 0.2).abs() < 1e-12 && (at(90) - 0.2).abs() < 1e-12);
            assert!((5..50).all(|step| at(step + 1) < at(step)));
        }
        assert_eq!(Schedule::Constant.learning_rate(49, 5, 50, 2.0, 0.1), 2.0);
    }
}
