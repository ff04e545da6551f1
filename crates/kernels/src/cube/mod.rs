//! Quantised weights on GPUs: the devices `wgpu` and `cuda`, through CubeCL.
//!
//! The weight stays packed in device memory, at nearly the size of its file, and is expanded for each product. A
//! product has two routes. Few rows, as in decoding, are limited by memory bandwidth: one kernel expands the weight
//! while it multiplies, and reads only the packed words. Many rows, as in training, are limited by arithmetic: one
//! kernel expands the weight into a temporary tensor, and then Burn's matrix product computes the result with the
//! device's matrix units. Expanding costs about nine bytes of memory traffic per weight, which is little compared to
//! the product of a few hundred rows. A kernel that expanded the weight while it multiplied many rows would expand each
//! weight once for every tile of rows, and would have to be as fast as Burn's product otherwise. So at most one dense
//! weight exists at a time, and none is kept on the tape.
//!
//! The order of all additions depends on the shapes alone. No atomic additions are used.

mod kernel;
mod ops;
mod words;

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::encoding::{Encoding, Row};
use ops::{QuantisedOps, Side};
use words::Form;

/// Whether a device, with or without autodiff, is one of CubeCL's.
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

    /// Expands the matrix.
    pub fn to_tensor(&self) -> Tensor<2> {
        Tensor::from_dispatch(Dispatch::quantised_open(self.words.clone().into_dispatch(), self.form))
    }

    /// Expands the given rows.
    pub fn select(&self, rows: &[u32]) -> Tensor<2> {
        let rows = unsigned(rows.to_vec(), &self.device()).into_dispatch();
        Tensor::from_dispatch(Dispatch::quantised_select(self.words.clone().into_dispatch(), rows, self.form))
    }
}

fn unsigned(values: Vec<u32>, device: &Device) -> Tensor<1, Int> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), (device, DType::U32))
}
