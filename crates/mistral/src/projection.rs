//! A linear layer over a frozen weight, with or without an adapter.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use foehn_kernels::{Compute, Linear, LowRank, Weight};

/// `y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ + b`. The weight W and the bias b, if there is one, are frozen. The rest of the model works the same with and without an adapter.
#[derive(Module, Debug)]
pub struct Projection {
    /// `[out, in]`
    #[module(skip)]
    weight: Weight,
    /// `[out]`
    bias: Option<Param<Tensor<1>>>,
    adapter: Option<LowRank>,
}

impl Projection {
    /// A projection over `weight`, `[out, in]`, with no bias and no adapter.
    pub fn new(weight: Weight) -> Self {
        Self { weight, bias: None, adapter: None }
    }

    pub(crate) fn with_bias(self, bias: Option<Param<Tensor<1>>>) -> Self {
        Self { bias, ..self }
    }

    /// The frozen bias, `[out]`.
    pub(crate) fn bias(&self) -> Option<&Param<Tensor<1>>> {
        self.bias.as_ref()
    }

    /// The weight and its adapter, for the kernels.
    pub fn linear(&self) -> Linear<'_> {
        Linear { weight: &self.weight, bias: self.bias.as_ref(), adapter: self.adapter.as_ref() }
    }

    /// The frozen weight, `[out, in]`.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    pub(crate) fn set_compute(&mut self, compute: Compute) {
        self.weight.set_compute(compute);
    }

    /// The attached adapter.
    pub fn adapter(&self) -> Option<&LowRank> {
        self.adapter.as_ref()
    }

    /// Attaches an adapter, or detaches it with `None`. Returns the adapter that was attached before.
    ///
    /// # Panics
    /// When the adapter's shapes are not `[r, in]` and `[out, r]`.
    pub fn attach(&mut self, adapter: Option<LowRank>) -> Option<LowRank> {
        if let Some(adapter) = &adapter {
            let [out, input] = self.weight.dims();
            let [r, a_in] = adapter.a.dims();
            assert_eq!(a_in, input, "attach: lora_A does not take the projection's input");
            assert_eq!(adapter.b.dims(), [out, r], "attach: lora_B is not [out, r]");
        }
        std::mem::replace(&mut self.adapter, adapter)
    }

    /// Sets the dropout of the attached adapter's input, if there is an adapter.
    pub fn set_dropout(&mut self, dropout: Option<foehn_kernels::Dropout>) {
        if let Some(adapter) = &mut self.adapter {
            adapter.dropout = dropout;
        }
    }

    /// Replaces the weight, for example by the weight with its adapter merged.
    ///
    /// # Panics
    /// When the shape changes.
    pub fn set_weight(&mut self, weight: Weight) {
        assert_eq!(weight.dims(), self.weight.dims(), "set_weight: another shape");
        self.weight = weight;
    }
}

/// A parameter that `Module::train` leaves without a gradient.
pub(crate) fn frozen<const D: usize>(tensor: Tensor<D>) -> Param<Tensor<D>> {
    Param::from_tensor(tensor).set_require_grad(false)
}
