//! Linear layers: the one place where a base weight and an adapter are combined.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::Weight;
use crate::random::draw;

/// A low-rank adapter of one projection: `s·(x·Aᵀ)·Bᵀ`.
///
/// Source: Hu et al. 2021, "LoRA".
#[derive(Module, Debug)]
pub struct LowRank {
    /// `[r, in]`
    pub a: Param<Tensor<2>>,
    /// `[out, r]`
    pub b: Param<Tensor<2>>,
    /// The factor of the product: `alpha / r`, or `alpha / sqrt(r)` with rsLoRA.
    #[module(skip)]
    pub scale: f64,
    /// Dropout of the adapter's input. In training, a new mask is drawn for every forward pass.
    #[module(skip)]
    pub dropout: Option<Dropout>,
}

/// Inverted dropout whose mask is a pure function of its seed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The probability that an element becomes zero, in `[0, 1)`.
    pub probability: f32,
    /// The seed of the mask.
    pub seed: u64,
}

/// A linear layer: a frozen weight, with or without a frozen bias and an adapter.
#[derive(Clone, Copy, Debug)]
pub struct Linear<'a> {
    /// `[out, in]`
    pub weight: &'a Weight,
    /// `[out]`
    pub bias: Option<&'a Param<Tensor<1>>>,
    /// The adapter, whose product is added to the weight's product.
    pub adapter: Option<&'a LowRank>,
}

/// A linear layer over a frozen weight: `y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ + b`.
///
/// It never forms `W + s·B·A`, and computes no gradient for `W` and `b`.
///
/// # Shapes
/// - x: `[rows, in]`
/// - weight: `[out, in]`, as checkpoints store it
/// - output: `[rows, out]`
///
/// # Panics
/// When the shapes do not fit together.
pub fn projection(x: Tensor<2>, linear: Linear<'_>) -> Tensor<2> {
    let [_, d_in] = x.dims();
    assert_eq!(linear.weight.dims()[1], d_in, "projection: weight does not take x");
    #[cfg(feature = "flex")]
    if let Some(y) = crate::flex::projection(&x, linear) {
        return y;
    }
    let base = linear.weight.product(x.clone());
    let product = match linear.adapter {
        None => base,
        Some(adapter) => base.add(adapter.forward(x)),
    };
    match linear.bias {
        None => product,
        Some(bias) => product.add(bias.val().unsqueeze()),
    }
}

impl LowRank {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = match self.dropout() {
            Some(dropout) => {
                let mask = dropout.mask(x.dims(), &x.device());
                x.mul(mask)
            }
            None => x,
        };
        let low = x.matmul(self.a.val().transpose()).mul_scalar(self.scale);
        low.matmul(self.b.val().transpose())
    }

    /// The dropout, if its probability is not zero.
    pub(crate) fn dropout(&self) -> Option<Dropout> {
        self.dropout.filter(|dropout| dropout.probability > 0.0)
    }
}

impl Dropout {
    fn mask(&self, shape: [usize; 2], device: &Device) -> Tensor<2> {
        let factor = self.factor();
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(factor).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// Returns the factor of the element with a given index: 0 with the dropout's probability, else `1 / (1 -
    /// probability)`.
    pub(crate) fn factor(self) -> impl Fn(usize) -> f32 + Send + Sync {
        let keep = 1.0 / (1.0 - self.probability);
        let threshold = (f64::from(self.probability) * 2f64.powi(64)) as u64;
        move |i| {
            let drawn = draw(self.seed, i);
            if drawn < threshold { 0.0 } else { keep }
        }
    }
}
