//! Attaching adapters to a model, detaching and merging them.

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use foehn_kernels::{Dropout, LowRank};
use foehn_mistral::{Mistral, Projection};

use crate::adapter::tensor_name;
use crate::{Adapter, Error, LoraConfig, Matrices};

/// A trainable matrix with its PEFT name.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Which of the two matrices it is.
    pub factor: Factor,
    /// `base_model.model.….lora_A.weight` or `…lora_B.weight`.
    pub name: String,
    /// The matrix, tracked by autodiff after [`attach_trainable`].
    pub tensor: Tensor<2>,
}

/// A matrix of a low-rank product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// `[r, in]`
    A,
    /// `[out, r]`
    B,
}

/// Attaches an adapter for inference, and replaces any attached one.
///
/// # Errors
/// [`Error::Foreign`], [`Error::Shape`], [`Error::Missing`], [`Error::Untargeted`] and [`Error::Unmatched`] if the
/// adapter does not fit the model or its own config, [`Error::NotFinite`] if it holds NaN or infinity. The model is
/// then unchanged.
pub fn attach(model: &mut Mistral, adapter: &Adapter) -> Result<(), Error> {
    put(model, adapter, false)
}

/// Attaches an adapter whose matrices are tracked by autodiff.
///
/// # Errors
/// As [`attach`].
pub fn attach_trainable(model: &mut Mistral, adapter: &Adapter) -> Result<(), Error> {
    put(model, adapter, true)
}

/// Detaches the adapter and returns it; `None` if no adapter is attached.
pub fn detach(model: &mut Mistral, config: &LoraConfig) -> Option<Adapter> {
    let modules = model
        .projections_mut()
        .into_iter()
        .filter_map(|(name, projection)| {
            let LowRank { a, b, .. } = projection.attach(None)?;
            let r = a.dims()[0];
            Some((name, Matrices { r, a: values(a.val()), b: values(b.val()) }))
        })
        .collect::<std::collections::BTreeMap<_, _>>();
    (!modules.is_empty()).then(|| Adapter { config: config.clone(), modules, manifest: None })
}

/// Merges the attached adapter into the weights, `W + s·B·A`, in f32, and detaches it.
pub fn merge(model: &mut Mistral) {
    for (_, projection) in model.projections_mut() {
        if let Some(LowRank { a, b, scale, .. }) = projection.attach(None) {
            let update = b.val().without_autodiff().matmul(a.val().without_autodiff()).mul_scalar(scale);
            projection.set_weight(projection.weight().plus(update));
        }
    }
}

/// The attached matrices, in the order of the forward pass, A before B.
pub fn parameters(model: &Mistral) -> Vec<Parameter> {
    let pair =
        |(module, projection): (String, &Projection)| {
            let adapter = projection.adapter()?;
            Some([(Factor::A, "A", &adapter.a), (Factor::B, "B", &adapter.b)].map(|(factor, letter, matrix)| {
                Parameter { factor, name: tensor_name(&module, letter), tensor: matrix.val() }
            }))
        };
    model.projections().into_iter().filter_map(pair).flatten().collect()
}

/// Replaces the attached matrices by tracked copies of the given ones, in the order of [`parameters`].
///
/// # Panics
/// When there is not one tensor per attached matrix, or a shape differs.
pub fn set_parameters(model: &mut Mistral, tensors: Vec<Tensor<2>>) {
    let mut tensors = tensors.into_iter();
    for (_, projection) in model.projections_mut() {
        if let Some(mut adapter) = projection.attach(None) {
            let mut next = || tensors.next().expect("set_parameters: too few tensors");
            adapter.a = tracked(next());
            adapter.b = tracked(next());
            projection.attach(Some(adapter));
        }
    }
    assert!(tensors.next().is_none(), "set_parameters: too many tensors");
}

/// Sets the dropout of every attached adapter. Each module draws its own mask from `seed`.
pub fn set_dropout(model: &mut Mistral, probability: f32, seed: u64) {
    for (index, (_, projection)) in model.projections_mut().into_iter().enumerate() {
        let seed = seed ^ (index as u64 + 1).wrapping_mul(0xD134_2543_DE82_EF95);
        projection.set_dropout((probability > 0.0).then_some(Dropout { probability, seed }));
    }
}

fn put(model: &mut Mistral, adapter: &Adapter, trainable: bool) -> Result<(), Error> {
    let scales = adapter.check_fit(model)?;
    let device = model.device();
    for (name, projection) in model.projections_mut() {
        let (Some(pair), Some(&scale)) = (adapter.modules.get(&name), scales.get(&name)) else {
            projection.attach(None);
            continue;
        };
        let [out, input] = projection.weight().dims();
        let matrix = |values: &[f32], shape: [usize; 2]| {
            let tensor = Tensor::from_data(TensorData::new(values.to_vec(), shape), &device);
            if trainable { tracked(tensor) } else { Param::from_tensor(tensor) }
        };
        let low_rank =
            LowRank { a: matrix(&pair.a, [pair.r, input]), b: matrix(&pair.b, [out, pair.r]), scale, dropout: None };
        projection.attach(Some(low_rank));
    }
    Ok(())
}

fn tracked(tensor: Tensor<2>) -> Param<Tensor<2>> {
    Param::from_tensor(tensor.without_autodiff().autodiff().require_grad())
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("an adapter's matrix is f32")
}
