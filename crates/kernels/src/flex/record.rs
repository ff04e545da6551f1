//! Operations with a hand-written backward pass on Burn's tape.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::{Autodiff, BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind, Flex};
use burn::tensor::{Bytes, DType, Shape, Tensor};

type TrackedTensor = <Autodiff<Flex> as burn::backend::BackendTypes>::FloatTensorPrimitive;

/// An operand of an operation: its values and, if it is tracked, its node on the tape.
pub struct Operand {
    values: FlexTensor,
    tracked: Option<(TrackedTensor, DispatchAutodiffContext)>,
}

impl Operand {
    /// Takes the values and the node from a tensor of the CPU device.
    ///
    /// # Panics
    /// When the tensor is on another device. All operands of one operation must be on the same device.
    pub fn new<const D: usize>(tensor: &Tensor<D>) -> Self {
        let DispatchTensor { kind, autodiff } = tensor.clone().into_dispatch();
        let tracked = match kind {
            DispatchTensorKind::Flex(BackendTensor::Float(values)) => {
                return Self { values: values.to_contiguous(), tracked: None };
            }
            DispatchTensorKind::Autodiff(inner) => match *inner {
                DispatchTensorKind::Flex(BackendTensor::Autodiff(tracked)) => Some(tracked),
                _ => None,
            },
            _ => None,
        };
        let tracked = tracked.expect("an operand is on another device than the weights, which are on `flex`");
        Self { values: tracked.primitive().to_contiguous(), tracked: Some((tracked, autodiff)) }
    }

    pub fn is_tracked(&self) -> bool {
        self.tracked.is_some()
    }

    /// The elements, row-major. Cheap to clone, and independent of the tape.
    pub fn values(&self) -> Values {
        Values(self.values.clone())
    }

    /// As [`values`](Self::values), but consumes the operand.
    pub fn into_values(self) -> Values {
        Values(self.values)
    }
}

/// Elements of a contiguous tensor.
#[derive(Clone, Debug)]
pub struct Values(FlexTensor);

impl std::ops::Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.0.as_slice().expect("operands are contiguous f32")
    }
}

/// Computes the gradients of an operation's parents. Its arguments are the gradient of the output, and which parents
/// need one.
type Pull<const N: usize> = Box<dyn FnOnce(&[f32], [bool; N]) -> [Option<Vec<f32>>; N] + Send>;

/// Makes the output of an operation on the parents. The operation is recorded if any parent is tracked.
///
/// Only then is `pull` made. The gradients that it returns must have the parents' sizes.
pub fn record<const N: usize, const D: usize>(
    parents: [&Operand; N],
    output: Vec<f32>,
    shape: [usize; D],
    pull: impl FnOnce() -> Pull<N>,
) -> Tensor<D> {
    let output = primitive(output, Shape::from(shape));
    let Some(context) = parents.iter().find_map(|parent| parent.tracked.as_ref()).map(|tracked| tracked.1) else {
        return Tensor::from_dispatch(DispatchTensor {
            kind: DispatchTensorKind::Flex(BackendTensor::Float(output)),
            autodiff: DispatchAutodiffContext::Disabled,
        });
    };
    let shapes = parents.map(|parent| parent.values.layout().shape().clone());
    let nodes = parents.map(|parent| match &parent.tracked {
        Some((tracked, _)) => tracked.node(),
        None => TrackedTensor::new(parent.values.clone()).node(),
    });
    let tracked = match ByHand.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let state = State { pull: Arc::new(Mutex::new(Some(pull()))), shapes };
            prepared.finish(state, output)
        }
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Tensor::from_dispatch(DispatchTensor {
        kind: DispatchTensorKind::Autodiff(Box::new(DispatchTensorKind::Flex(BackendTensor::Autodiff(tracked)))),
        autodiff: context,
    })
}

fn primitive(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape), DType::F32)
}

#[derive(Debug)]
struct ByHand;

#[derive(Clone)]
struct State<const N: usize> {
    pull: Arc<Mutex<Option<Pull<N>>>>,
    shapes: [Shape; N],
}

impl<const N: usize> fmt::Debug for State<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("shapes", &self.shapes).finish_non_exhaustive()
    }
}

impl<const N: usize> Backward<Flex, N> for ByHand {
    type State = State<N>;

    fn backward(self, ops: Ops<State<N>, N>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let d_output = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let pull = ops.state.pull.lock().unwrap_or_else(PoisonError::into_inner).take();
        let pull = pull.expect("a tape is walked once");
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let found = pull(&Values(d_output), wanted);
        for ((parent, gradient), shape) in ops.parents.into_iter().zip(found).zip(ops.state.shapes) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<Flex>(parent.id, primitive(gradient, shape));
            }
        }
    }
}
