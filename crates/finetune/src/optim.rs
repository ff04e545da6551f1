//! AdamW over the adapter's matrices, with PyTorch's arithmetic.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// The settings of AdamW. The defaults are PyTorch's, except that the weight decay is 0.
///
/// Source: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization"; `torch.optim.AdamW`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the square root of the second moment.
    pub eps: f64,
    /// Each step reduces a weight by `learning_rate · weight_decay` times its value.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

/// The optimiser's state: the moments of each parameter and the number of steps taken.
#[derive(Clone, Debug)]
pub struct AdamW {
    config: AdamWConfig,
    /// First and second moment of each parameter, in the parameters' order.
    moments: Vec<(Tensor<2>, Tensor<2>)>,
    steps: u32,
}

impl AdamW {
    /// A new state for parameters with the shapes of `parameters`.
    pub fn new(config: AdamWConfig, parameters: &[Tensor<2>]) -> Self {
        let zeros = |parameter: &Tensor<2>| Tensor::zeros(parameter.dims(), &parameter.device().without_autodiff());
        let moments = parameters.iter().map(|parameter| (zeros(parameter), zeros(parameter))).collect();
        Self { config, moments, steps: 0 }
    }

    /// The state with the given [`moments`](Self::moments) and [`steps`](Self::steps), on the device of `parameters`.
    ///
    /// # Panics
    /// When a moment has another number of elements than its parameter.
    pub fn restored(config: AdamWConfig, parameters: &[Tensor<2>], moments: Vec<[Vec<f32>; 2]>, steps: u32) -> Self {
        assert_eq!(parameters.len(), moments.len(), "AdamW: another number of moments than of parameters");
        let moments = parameters.iter().zip(moments).map(|(parameter, pair)| {
            let device = parameter.device().without_autodiff();
            let [first, second] =
                pair.map(|values| Tensor::from_data(TensorData::new(values, parameter.dims()), &device));
            (first, second)
        });
        Self { config, moments: moments.collect(), steps }
    }

    /// The number of steps taken.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// First and second moment of each parameter.
    pub fn moments(&self) -> &[(Tensor<2>, Tensor<2>)] {
        &self.moments
    }

    /// One step: `m = β₁m + (1-β₁)g`, `v = β₂v + (1-β₂)g²`,
    /// `w = w - lr·decay·w - lr/(1-β₁ᵗ) · m / (√v/√(1-β₂ᵗ) + eps)`, each with its own learning rate `lr`. Returns the
    /// new parameters, untracked.
    ///
    /// # Panics
    /// When the numbers or shapes of parameters, gradients, learning rates and moments differ.
    pub fn step(
        &mut self,
        parameters: Vec<Tensor<2>>,
        gradients: Vec<Tensor<2>>,
        learning_rates: &[f64],
    ) -> Vec<Tensor<2>> {
        assert_eq!(parameters.len(), self.moments.len(), "AdamW: another number of parameters than of moments");
        assert_eq!(gradients.len(), self.moments.len(), "AdamW: another number of gradients than of moments");
        assert_eq!(learning_rates.len(), self.moments.len(), "AdamW: another number of learning rates than of moments");
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.config;
        self.steps += 1;
        let correction = 1.0 - beta1.powi(self.steps as i32);
        let root_correction = (1.0 - beta2.powi(self.steps as i32)).sqrt();
        let updates = parameters.into_iter().zip(gradients).zip(&mut self.moments).zip(learning_rates);
        updates
            .map(|(((parameter, gradient), (first, second)), learning_rate)| {
                *first = first.clone().mul_scalar(beta1).add(gradient.clone().mul_scalar(1.0 - beta1));
                *second = second.clone().mul_scalar(beta2).add(gradient.square().mul_scalar(1.0 - beta2));
                let denominator = second.clone().sqrt().div_scalar(root_correction).add_scalar(eps);
                let update = first.clone().div(denominator).mul_scalar(learning_rate / correction);
                parameter.without_autodiff().mul_scalar(1.0 - learning_rate * weight_decay).sub(update)
            })
            .collect()
    }
}

/// The Euclidean norm of all gradients together.
pub fn global_norm(gradients: &[Tensor<2>]) -> f64 {
    // One copy to the host for all tensors: on a device, one copy per tensor costs more than the sum itself.
    let squares: Vec<Tensor<1>> = gradients.iter().map(|gradient| gradient.clone().square().sum()).collect();
    let squares: Vec<f32> = Tensor::cat(squares, 0).into_data().try_into_vec().expect("gradients are f32");
    squares.into_iter().map(f64::from).sum::<f64>().sqrt()
}

/// Scales all gradients so that their global norm is at most `limit`. Returns them and the norm before scaling.
///
/// Source: `torch.nn.utils.clip_grad_norm_`.
pub fn clip_global_norm(gradients: Vec<Tensor<2>>, limit: Option<f64>) -> (Vec<Tensor<2>>, f64) {
    let norm = global_norm(&gradients);
    match limit {
        Some(limit) if norm + 1e-6 > limit => {
            let scale = limit / (norm + 1e-6);
            (gradients.into_iter().map(|gradient| gradient.mul_scalar(scale)).collect(), norm)
        }
        _ => (gradients, norm),
    }
}
