//! Frozen matrices, in the layout that their device computes with.

#[cfg(feature = "flex")]
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

#[cfg(feature = "flex")]
use crate::cpu::{matrix::Packed, simd::Level};

/// A frozen matrix `[out, in]`: a projection's weight, or an embedding.
///
/// On the CPU device `flex` it is packed once for the fused kernels, and there is no other copy of it; elsewhere it is a
/// tensor. Nobody above this crate can tell.
#[derive(Clone, Debug)]
pub struct Weight(Layout);

#[derive(Clone, Debug)]
enum Layout {
    Dense(Tensor<2>),
    #[cfg(feature = "flex")]
    Packed(Arc<Packed>, Device),
}

impl Weight {
    /// A matrix from its rows, on a device.
    ///
    /// # Panics
    /// When `rows` does not have `out · in` elements.
    pub fn new(rows: Vec<f32>, [out, input]: [usize; 2], device: &Device) -> Self {
        assert_eq!(rows.len(), out * input, "weight: not [out, in]");
        #[cfg(feature = "flex")]
        if crate::flex::is_flex(device) {
            let packed = Packed::new(Level::best(), &rows, out, input, input);
            return Self(Layout::Packed(Arc::new(packed), device.clone().without_autodiff()));
        }
        Self::dense(Tensor::from_data(TensorData::new(rows, [out, input]), device))
    }

    /// A matrix kept as a tensor: what is computed with it runs the reference in Burn's operations.
    pub fn dense(tensor: Tensor<2>) -> Self {
        Self(Layout::Dense(tensor.without_autodiff()))
    }

    /// `[out, in]`
    pub fn dims(&self) -> [usize; 2] {
        match &self.0 {
            Layout::Dense(tensor) => tensor.dims(),
            #[cfg(feature = "flex")]
            Layout::Packed(packed, _) => [packed.out(), packed.input()],
        }
    }

    /// The device that it is on.
    pub fn device(&self) -> Device {
        match &self.0 {
            Layout::Dense(tensor) => tensor.device(),
            #[cfg(feature = "flex")]
            Layout::Packed(_, device) => device.clone(),
        }
    }

    /// The matrix as a tensor: a copy where it is packed.
    pub fn to_tensor(&self) -> Tensor<2> {
        match &self.0 {
            Layout::Dense(tensor) => tensor.clone(),
            #[cfg(feature = "flex")]
            Layout::Packed(packed, device) => Tensor::from_data(TensorData::new(packed.to_rows(), self.dims()), device),
        }
    }

    /// The matrix with another one added, in the same layout.
    ///
    /// # Panics
    /// When the shapes differ.
    #[must_use]
    pub fn plus(&self, other: Tensor<2>) -> Self {
        let sum = self.to_tensor().add(other);
        match &self.0 {
            Layout::Dense(_) => Self::dense(sum),
            #[cfg(feature = "flex")]
            Layout::Packed(_, device) => {
                let rows = sum.into_data().try_into_vec().expect("a weight is f32");
                Self::new(rows, self.dims(), device)
            }
        }
    }

    /// The given rows, `[rows, in]`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn select(&self, rows: &[u32]) -> Tensor<2> {
        let [out, input] = self.dims();
        assert!(rows.iter().all(|&row| (row as usize) < out), "select: a row is not below {out}");
        match &self.0 {
            Layout::Dense(tensor) => {
                let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
                let rows = Tensor::<1, Int>::from_data(TensorData::from(rows.as_slice()), &tensor.device());
                tensor.clone().select(0, rows)
            }
            #[cfg(feature = "flex")]
            Layout::Packed(packed, device) => {
                let mut values = vec![0.0; rows.len() * input];
                for (&row, to) in rows.iter().zip(values.chunks_exact_mut(input)) {
                    packed.copy_row(row as usize, to);
                }
                Tensor::from_data(TensorData::new(values, [rows.len(), input]), device)
            }
        }
    }

    /// The packed matrix, where it is packed.
    #[cfg(feature = "flex")]
    pub(crate) fn packed(&self) -> Option<&Arc<Packed>> {
        match &self.0 {
            Layout::Packed(packed, _) => Some(packed),
            Layout::Dense(_) => None,
        }
    }
}
