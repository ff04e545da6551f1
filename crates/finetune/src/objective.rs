//! What a run minimises. An objective is weights on the log-probabilities of tokens.

use serde::{Deserialize, Serialize};

/// What a run minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// Supervised fine-tuning: the negative log-likelihood of the answers.
    #[default]
    Sft,
    /// Direct preference optimisation: of two answers to a prompt, the chosen one should become more probable than the
    /// rejected one, compared with the reference. The reference is the model as it is before the first step.
    ///
    /// Source: Rafailov et al. 2023, "Direct preference optimization", arXiv:2305.18290.
    Dpo,
}

/// The settings of [`Objective::Dpo`]. In a file, every key has a default, and an unknown key is an error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpoConfig {
    /// How closely the model is held to the reference: a reward is `beta` times the difference of the log-probabilities
    /// of an answer under the model and under the reference. Above 0; larger is closer.
    pub beta: f64,
    /// The share of pairs that may be labelled the wrong way round, from 0 to below 0.5 (Mitchell 2023, "A note on DPO
    /// with noisy preferences").
    pub label_smoothing: f64,
    /// The weight of the chosen answers' negative log-likelihood, averaged as `loss_mean` says, which is added to the
    /// loss. It keeps the chosen answers from becoming less probable.
    pub sft_weight: f64,
}

impl Default for DpoConfig {
    fn default() -> Self {
        Self { beta: 0.1, label_smoothing: 0.0, sft_weight: 0.0 }
    }
}

impl DpoConfig {
    /// The loss of a pair, and its derivative with respect to `margin`, the chosen answer's reward minus the rejected
    /// one's.
    pub(crate) fn loss(&self, margin: f64) -> (f64, f64) {
        let smoothing = self.label_smoothing;
        let loss = (1.0 - smoothing) * softplus(-margin) + smoothing * softplus(margin);
        (loss, smoothing * sigmoid(margin) - (1.0 - smoothing) * sigmoid(-margin))
    }
}

/// `ln(1 + eˣ)`
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// How the answers of pairs compare, as means over the pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rewards {
    /// The chosen answers' reward: `beta` times the difference of the answer's log-probabilities under the model and
    /// under the reference, in nats.
    pub chosen_reward: f64,
    /// The rejected answers' reward.
    pub rejected_reward: f64,
    /// The difference of the two.
    pub reward_margin: f64,
    /// The share of pairs in which the chosen answer has the larger reward.
    pub reward_accuracy: f64,
}

impl Rewards {
    /// Adds one of `pairs` pairs.
    pub(crate) fn add(&mut self, chosen: f64, rejected: f64, pairs: usize) {
        let share = 1.0 / pairs as f64;
        self.chosen_reward += share * chosen;
        self.rejected_reward += share * rejected;
        self.reward_margin += share * (chosen - rejected);
        self.reward_accuracy += if chosen > rejected { share } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_derivative_is_that_of_the_loss() {
        for config in [DpoConfig::default(), DpoConfig { label_smoothing: 0.3, ..DpoConfig::default() }] {
            for margin in [-40.0, -2.0, -0.1, 0.0, 0.7, 3.0, 50.0] {
                let step = 1e-6;
                let slope = (config.loss(margin + step).0 - config.loss(margin - step).0) / (2.0 * step);
                let (loss, derivative) = config.loss(margin);
                assert!((slope - derivative).abs() < 1e-7, "{margin}: {slope} {derivative}");
                assert!(loss.is_finite() && loss >= 0.0);
            }
        }
        // At the reference, the two answers are a toss-up.
        assert_eq!(DpoConfig::default().loss(0.0), (2f64.ln(), -0.5));
    }
}
