//! Frozen matrices, in the layout that their device needs.

#[cfg(feature = "flex")]
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::Compute;
#[cfg(feature = "flex")]
use crate::cpu::{
    matrix::{Blocks, Half, Matrix, PackedMatrix},
    product::Single,
    simd::Level,
};
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use crate::cube::{Quantised, is_cube};
use crate::encoding::{Encoding, HalfKind, Row, RowBuffers};

/// A frozen matrix `[out, in]`: a projection's weight, or an embedding.
///
/// On the CPU device `flex` it is packed once for the fused kernels, and no other copy exists. It is in single
/// precision, in half precision, or quantised; a quantised matrix is expanded one block at a time during the product.
/// On `wgpu` and `cuda` a quantised matrix stays packed too. Everywhere else the matrix is a tensor. The functions of
/// this type hide the difference.
#[derive(Clone, Debug)]
pub struct Weight {
    layout: Layout,
    compute: Compute,
}

#[derive(Clone, Debug)]
enum Layout {
    Dense(Tensor<2>),
    #[cfg(feature = "flex")]
    PackedMatrix(Arc<Matrix>, Device),
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    Quantised(Quantised),
}

impl Weight {
    fn of(layout: Layout) -> Self {
        Self { layout, compute: Compute::default() }
    }

    /// What products with this matrix round both sides to; at first [`Compute::F32`].
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// Sets what products round to. Other handles of the same matrix keep their setting.
    ///
    /// # Panics
    /// When the matrix's device does not have it ([`Compute::is_available_on`]).
    pub fn set_compute(&mut self, compute: Compute) {
        assert!(compute.is_available_on(&self.device()), "compute: {compute} is not available on this device");
        self.compute = compute;
    }

    /// A matrix from its rows, on a device.
    ///
    /// # Panics
    /// When `rows` does not have `out · in` elements.
    pub fn new(rows: Vec<f32>, [out, input]: [usize; 2], device: &Device) -> Self {
        assert_eq!(rows.len(), out * input, "weight: not [out, in]");
        #[cfg(feature = "flex")]
        if crate::flex::is_flex(device) {
            return Self::packed(PackedMatrix::new(Level::best(), Single, &rows, out, input, input).into(), device);
        }
        Self::dense(Tensor::from_data(TensorData::new(rows, [out, input]), device))
    }

    /// A matrix in half precision. `row` is called for each row and fills in its bytes, little-endian.
    pub fn half(
        kind: HalfKind,
        [out, input]: [usize; 2],
        device: &Device,
        row: impl Fn(usize, &mut [u8]) + Sync,
    ) -> Self {
        #[cfg(feature = "flex")]
        if crate::flex::is_flex(device) {
            return Self::packed(Matrix::Half(Half::new(kind, out, input, row)), device);
        }
        let mut bytes = vec![0; 2 * input];
        let mut values = Vec::with_capacity(out * input);
        for index in 0..out {
            row(index, &mut bytes);
            values.extend(bytes.as_chunks::<2>().0.iter().map(|&pair| match kind {
                HalfKind::F16 => half::f16::from_le_bytes(pair).to_f32(),
                HalfKind::Bf16 => half::bf16::from_le_bytes(pair).to_f32(),
            }));
        }
        Self::new(values, [out, input], device)
    }

    /// A quantised matrix. `row` is called for each row and fills in its planes.
    ///
    /// # Panics
    /// When `in` is not a multiple of the encoding's [`divisor`](Encoding::divisor), or, on `wgpu` and `cuda`, when there are
    /// 2³² elements or more.
    pub fn quantised(
        encoding: Encoding,
        [out, input]: [usize; 2],
        device: &Device,
        row: impl Fn(usize, Row<'_>) + Sync,
    ) -> Self {
        assert!(input.is_multiple_of(encoding.divisor()), "weight: {input} inputs are not a whole number of blocks");
        #[cfg(feature = "flex")]
        if crate::flex::is_flex(device) {
            return Self::packed(Matrix::Blocks(Blocks::new(encoding, out, input, row)), device);
        }
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        if is_cube(device) && out * input > 0 {
            return Self::of(Layout::Quantised(Quantised::new(encoding, [out, input], device, row)));
        }
        let mut planes = RowBuffers::new(encoding, input);
        let mut values = vec![0.0; out * input];
        for (index, values) in values.chunks_exact_mut(input).enumerate() {
            row(index, planes.row());
            planes.open(encoding, values);
        }
        Self::new(values, [out, input], device)
    }

    #[cfg(feature = "flex")]
    fn packed(matrix: Matrix, device: &Device) -> Self {
        Self::of(Layout::PackedMatrix(Arc::new(matrix), device.clone().without_autodiff()))
    }

    /// A matrix that is kept as a tensor. Computations with it use the reference in Burn's operations.
    pub fn dense(tensor: Tensor<2>) -> Self {
        Self::of(Layout::Dense(tensor.without_autodiff()))
    }

    /// Whether the two are one matrix, where matrices are packed; elsewhere, whether they have the same shape.
    pub(crate) fn is_shared_with(&self, other: &Self) -> bool {
        match (&self.layout, &other.layout) {
            #[cfg(feature = "flex")]
            (Layout::PackedMatrix(one, _), Layout::PackedMatrix(other, _)) => Arc::ptr_eq(one, other),
            _ => self.dims() == other.dims(),
        }
    }

    /// `[out, in]`
    pub fn dims(&self) -> [usize; 2] {
        match &self.layout {
            Layout::Dense(tensor) => tensor.dims(),
            #[cfg(feature = "flex")]
            Layout::PackedMatrix(packed, _) => [packed.out(), packed.input()],
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            Layout::Quantised(quantised) => quantised.dims(),
        }
    }

    /// The device of the matrix.
    pub fn device(&self) -> Device {
        match &self.layout {
            Layout::Dense(tensor) => tensor.device(),
            #[cfg(feature = "flex")]
            Layout::PackedMatrix(_, device) => device.clone(),
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            Layout::Quantised(quantised) => quantised.device(),
        }
    }

    /// The matrix as a tensor; a copy if the matrix is packed.
    pub fn to_tensor(&self) -> Tensor<2> {
        match &self.layout {
            Layout::Dense(tensor) => tensor.clone(),
            #[cfg(feature = "flex")]
            Layout::PackedMatrix(packed, device) => {
                Tensor::from_data(TensorData::new(packed.to_rows(Level::best()), self.dims()), device)
            }
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            Layout::Quantised(quantised) => quantised.to_tensor(),
        }
    }

    /// `x·Wᵀ`, differentiable in `x`: `[rows, in]` to `[rows, out]`.
    pub(crate) fn product(&self, x: Tensor<2>) -> Tensor<2> {
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        if let Layout::Quantised(quantised) = &self.layout {
            return quantised.product(x);
        }
        x.matmul(self.to_tensor().transpose())
    }

    /// The sum of this matrix and another one, in single precision.
    ///
    /// # Panics
    /// When the shapes differ.
    #[must_use]
    pub fn plus(&self, other: Tensor<2>) -> Self {
        let sum = self.to_tensor().add(other);
        #[cfg(feature = "flex")]
        if let Layout::PackedMatrix(_, device) = &self.layout {
            let rows = sum.into_data().try_into_vec().expect("a weight is f32");
            return Self::new(rows, self.dims(), device);
        }
        Self::dense(sum)
    }

    /// The given rows, `[rows, in]`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn select(&self, rows: &[u32]) -> Tensor<2> {
        let out = self.dims()[0];
        assert!(rows.iter().all(|&row| (row as usize) < out), "select: a row is not below {out}");
        match &self.layout {
            Layout::Dense(tensor) => {
                let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
                let rows = Tensor::<1, Int>::from_data(TensorData::from(rows.as_slice()), &tensor.device());
                tensor.clone().select(0, rows)
            }
            #[cfg(feature = "flex")]
            Layout::PackedMatrix(packed, device) => {
                let input = packed.input();
                let mut values = vec![0.0; rows.len() * input];
                for (&row, to) in rows.iter().zip(values.chunks_exact_mut(input)) {
                    packed.copy_row(Level::best(), row as usize, to);
                }
                Tensor::from_data(TensorData::new(values, [rows.len(), input]), device)
            }
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            Layout::Quantised(quantised) => quantised.select(rows),
        }
    }

    /// The packed matrix, if the matrix is packed.
    #[cfg(feature = "flex")]
    pub(crate) fn matrix(&self) -> Option<&Arc<Matrix>> {
        match &self.layout {
            Layout::PackedMatrix(packed, _) => Some(packed),
            _ => None,
        }
    }

    /// The packed matrix. A dense matrix is packed in a temporary copy.
    #[cfg(feature = "flex")]
    pub(crate) fn to_matrix(&self) -> Arc<Matrix> {
        if let Layout::PackedMatrix(packed, _) = &self.layout {
            return Arc::clone(packed);
        }
        let [out, input] = self.dims();
        let values: Vec<f32> = self.to_tensor().into_data().try_into_vec().expect("a weight is f32");
        Arc::new(PackedMatrix::new(Level::best(), Single, &values, out, input, input).into())
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::Storage;

    #[test]
    fn a_packed_matrix_has_the_bytes_that_are_told_beforehand() {
        let device = Device::flex();
        let check = |storage: Storage, weight: Weight| {
            let found = match &**weight.matrix().unwrap() {
                Matrix::Full(packed) => size_of_val(packed.data()),
                Matrix::Half(half) => (0..half.out().div_ceil(32)).map(|panel| half.panel(panel).len()).sum(),
                Matrix::Blocks(blocks) => blocks.panels_from(0).len(),
            };
            assert_eq!(storage.bytes(weight.dims()), Some(found), "{storage:?} {:?}", weight.dims());
        };
        for [out, input] in [[1, 256], [32, 512], [100, 768]] {
            check(Storage::Full, Weight::new(vec![0.0; out * input], [out, input], &device));
            check(Storage::Half, Weight::half(HalfKind::Bf16, [out, input], &device, |_, _| ()));
            use Encoding::*;
            for encoding in [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K, Iq4Nl, Iq4Xs, Nf4] {
                let weight = Weight::quantised(encoding, [out, input], &device, |_, _| ());
                check(Storage::Blocks(encoding), weight);
            }
        }
        check(Storage::Full, Weight::new(vec![0.0; 33 * 7], [33, 7], &device));
        check(Storage::Half, Weight::half(HalfKind::F16, [33, 7], &device, |_, _| ()));
    }
}
