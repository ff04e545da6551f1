//! The operations on Burn's tensors and tape.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::{CubeCount, CubeDim};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::{CubeBackend, tensor::CubeTensor};

use super::kernel::{self, LANES, OUTPUTS, PlacesLaunch};
use super::words::Form;

/// The largest number of rows of `x` that are multiplied while the weight is expanded. For each row, the kernel reads
/// as many elements of `x` (from a cache) as the weight has. With more rows, matrix units on an expanded weight are
/// faster.
pub const FEW: usize = 8;

/// The dimension of a matrix `W` that a product sums over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `x·Wᵀ`, x: `[rows, in]`
    Input,
    /// `x·W`, x: `[rows, out]`
    Output,
}

/// The operations on a quantised matrix, which is given as its words.
#[backend_extension(Cube, Autodiff)]
pub trait QuantisedOps: Backend {
    /// The product of `x` with the matrix.
    fn quantised_product(x: FloatTensor<Self>, words: IntTensor<Self>, form: Form, side: Side) -> FloatTensor<Self>;

    /// Expands the matrix, `[out, in]`.
    fn quantised_open(words: IntTensor<Self>, form: Form) -> FloatTensor<Self>;

    /// Expands the given rows of the matrix, `[rows, in]`.
    fn quantised_select(words: IntTensor<Self>, rows: IntTensor<Self>, form: Form) -> FloatTensor<Self>;
}

impl QuantisedOps for CubeBackend {
    fn quantised_product(x: CubeTensor, words: CubeTensor, form: Form, side: Side) -> CubeTensor {
        assert_eq!(x.dtype, DType::F32, "a float tensor of this crate is f32");
        let rows = x.shape()[0];
        if side == Side::Input && (1..=FEW).contains(&rows) {
            return multiply(x, words, form);
        }
        let weight = Self::quantised_open(words, form);
        let weight = if side == Side::Input { Self::float_swap_dims(weight, 0, 1) } else { weight };
        Self::float_matmul(x, weight)
    }

    fn quantised_open(words: CubeTensor, form: Form) -> CubeTensor {
        let weights = empty(&words, [form.out, form.input]);
        let (dim, count) = elementwise(&weights);
        kernel::open::launch(
            &words.client.clone(),
            count,
            dim,
            words.into_buffer_arg(),
            weights.clone().into_buffer_arg(),
            form.places(),
            form.encoding,
        );
        weights
    }

    fn quantised_select(words: CubeTensor, rows: CubeTensor, form: Form) -> CubeTensor {
        let weights = empty(&words, [rows.shape()[0], form.input]);
        let (dim, count) = elementwise(&weights);
        kernel::open_rows::launch(
            &words.client.clone(),
            count,
            dim,
            words.into_buffer_arg(),
            rows.into_buffer_arg(),
            weights.clone().into_buffer_arg(),
            form.places(),
            form.encoding,
        );
        weights
    }
}

/// `x·Wᵀ` of a few rows.
fn multiply(x: CubeTensor, words: CubeTensor, form: Form) -> CubeTensor {
    let x = into_contiguous(x);
    let rows = x.shape()[0];
    let y = empty(&words, [rows, form.out]);
    let dim = CubeDim::new_2d(LANES as u32, OUTPUTS as u32);
    kernel::multiply::launch(
        &words.client.clone(),
        calculate_cube_count_elemwise(&words.client, form.out * LANES, dim),
        dim,
        x.into_buffer_arg(),
        words.into_buffer_arg(),
        y.clone().into_buffer_arg(),
        form.places(),
        form.out,
        rows,
        form.encoding,
    );
    y
}

fn empty(like: &CubeTensor, shape: [usize; 2]) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), Shape::from(shape), DType::F32)
}

/// One unit per four elements.
fn elementwise(output: &CubeTensor) -> (CubeDim, CubeCount) {
    let quads = output.shape().num_elements() / 4;
    let dim = CubeDim::new(&output.client, quads);
    (dim, calculate_cube_count_elemwise(&output.client, quads, dim))
}

impl Form {
    fn places(self) -> PlacesLaunch {
        let sections = self.sections();
        PlacesLaunch::new(self.input, sections.upper, sections.halves, sections.bytes)
    }
}

/// The gradient of the product is the product over the other side. The tape keeps only the words, and the weight gets
/// no gradient.
impl<B: QuantisedOps, C: CheckpointStrategy> QuantisedOps for Autodiff<B, C> {
    fn quantised_product(x: FloatTensor<Self>, words: IntTensor<B>, form: Form, side: Side) -> FloatTensor<Self> {
        match Product.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let y = B::quantised_product(x.into_primitive(), words.clone(), form, side);
                prepared.finish((words, form, side), y)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::quantised_product(x.into_primitive(), words, form, side))
            }
        }
    }

    fn quantised_open(words: IntTensor<B>, form: Form) -> FloatTensor<Self> {
        FloatTensor::<Self>::new(B::quantised_open(words, form))
    }

    fn quantised_select(words: IntTensor<B>, rows: IntTensor<B>, form: Form) -> FloatTensor<Self> {
        FloatTensor::<Self>::new(B::quantised_select(words, rows, form))
    }
}

#[derive(Debug)]
struct Product;

impl<B: QuantisedOps> Backward<B, 1> for Product {
    type State = (IntTensor<B>, Form, Side);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let dy = gradients.consume::<B>(&ops.node);
        let (words, form, side) = ops.state;
        let other = if side == Side::Input { Side::Output } else { Side::Input };
        if let [Some(x)] = ops.parents {
            gradients.register::<B>(x.id, B::quantised_product(dy, words, form, other));
        }
    }
}
