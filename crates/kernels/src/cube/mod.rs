//! Quantised weights on GPUs: the devices `wgpu` and `cuda`, through CubeCL.
//!
//! The weight stays packed in device memory at nearly its file's size, and is opened where it is used. A product has two
//! routes. Few rows, as in decoding, are bound by memory: their kernel opens the weight while it multiplies, and reads the
//! packed words alone. Many rows, as in training, are bound by arithmetic: one kernel opens the weight into a tensor that
//! lives as long as the product, and Burn's matrix product, which uses the device's matrix units, does the rest. Opening
//! costs about nine bytes of traffic a weight, little beside the product of a few hundred rows; a kernel that opened while
//! it multiplied would open each weight once for every tile of rows, and would have to compete with Burn's in everything
//! else. So at most one dense weight exists at a time, and none is kept on the tape.
//!
//! Everything is summed in an order that depends on the shapes alone, without atomic additions.

mod kernel;
mod ops;
mod words;

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::encoding::{Encoding, Row};
use ops::{QuantisedOps, Side};
use words::Form;

/// Whether a device, with autodiff or without, is one of CubeCL's.
pub fn is_cube(device: &Device) -> bool {
    matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Cube(_))
}

/// A quantised matrix in device memory.
#[derive(Clone, Debug)]
pub struct Quantised {
    words: Tensor<1, Int>,
    form: Form,
}

impl Quantised {
    /// # Panics
    /// When the matrix has 2³² elements or more.
    pub fn new(encoding: Encoding, [out, input]: [usize; 2], device: &Device, row: impl Fn(usize, Row<'_>)) -> Self {
        assert!(u32::try_from(out * input).is_ok(), "weight: {out}·{input} elements are more than an index can tell");
        let form = Form { encoding, out, input };
        let words = form.pack(row);
        let device = device.clone().without_autodiff();
        Self { words: unsigned(words, &device), form }
    }

    /// `[out, in]`
    pub fn dims(&self) -> [usize; 2] {
        [self.form.out, self.form.input]
    }

    pub fn device(&self) -> Device {
        self.words.device()
    }

    /// `x·Wᵀ`
    pub fn product(&self, x: Tensor<2>) -> Tensor<2> {
        let words = self.words.clone().into_dispatch();
        Tensor::from_dispatch(Dispatch::quantised_product(x.into_dispatch(), words, self.form, Side::Input))
    }

    /// The matrix, opened.
    pub fn to_tensor(&self) -> Tensor<2> {
        Tensor::from_dispatch(Dispatch::quantised_open(self.words.clone().into_dispatch(), self.form))
    }

    /// The given rows, opened.
    pub fn select(&self, rows: &[u32]) -> Tensor<2> {
        let rows = unsigned(rows.to_vec(), &self.device()).into_dispatch();
        Tensor::from_dispatch(Dispatch::quantised_select(self.words.clone().into_dispatch(), rows, self.form))
    }
}

fn unsigned(values: Vec<u32>, device: &Device) -> Tensor<1, Int> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), (device, DType::U32))
}
