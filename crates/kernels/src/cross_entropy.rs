//! The loss over given rows. The vocabulary projection is computed only for rows with targets.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::Weight;

/// The number of rows whose logits are in memory at once when no gradient is computed.
const CHUNK: usize = 128;

/// The targets of the loss: row `rows[i]` should predict `ids[i]`, with weight `weights[i]`.
#[derive(Clone, Debug)]
pub struct Targets {
    /// The distinct rows of the targets, in order.
    distinct: Vec<u32>,
    /// For each target, the index of its row in `distinct`.
    place: Vec<u32>,
    ids: Vec<u32>,
    weights: Vec<f32>,
}

impl Targets {
    /// Targets as `(row, id, weight)`, in any order; a row may have several.
    ///
    /// # Panics
    /// When there is none.
    pub fn new(targets: impl IntoIterator<Item = (u32, u32, f32)>) -> Self {
        let targets: Vec<_> = targets.into_iter().collect();
        assert!(!targets.is_empty(), "targets: there is none");
        let mut distinct: Vec<u32> = targets.iter().map(|target| target.0).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let place = targets.iter().map(|target| distinct.partition_point(|&row| row < target.0) as u32).collect();
        Self {
            distinct,
            place,
            ids: targets.iter().map(|target| target.1).collect(),
            weights: targets.iter().map(|target| target.2).collect(),
        }
    }

    /// The row and the id of each target.
    #[cfg(feature = "flex")]
    pub(crate) fn each(&self) -> impl Iterator<Item = (u32, u32)> {
        self.place.iter().zip(&self.ids).map(|(place, id)| (self.distinct[*place as usize], *id))
    }

    /// The targets sorted by row.
    #[cfg(feature = "flex")]
    pub(crate) fn by_row(&self) -> ByRow<'_> {
        let mut order: Vec<u32> = (0..self.ids.len() as u32).collect();
        order.sort_by_key(|&target| self.place[target as usize]);
        let sorted = order.iter().map(|&target| (self.ids[target as usize], self.weights[target as usize])).collect();
        ByRow { targets: self, order, sorted }
    }
}

/// [`Targets`] sorted by row; those of one row keep their order.
#[cfg(feature = "flex")]
pub(crate) struct ByRow<'a> {
    targets: &'a Targets,
    /// For each sorted target, its index in the given order.
    order: Vec<u32>,
    sorted: Vec<(u32, f32)>,
}

#[cfg(feature = "flex")]
impl ByRow<'_> {
    /// The rows that have targets.
    pub fn places(&self) -> &[u32] {
        &self.targets.distinct
    }

    /// The targets of each such row, `(id, weight)`.
    pub fn targets(&self) -> Vec<&[(u32, f32)]> {
        let same_row = |a: &(u32, usize), b: &(u32, usize)| a.0 == b.0;
        let places: Vec<(u32, usize)> =
            self.order.iter().enumerate().map(|(at, &target)| (self.targets.place[target as usize], at)).collect();
        places.chunk_by(same_row).map(|row| &self.sorted[row[0].1..row[0].1 + row.len()]).collect()
    }

    /// The weights, sorted.
    pub fn weights(&self) -> impl Iterator<Item = f32> {
        self.sorted.iter().map(|target| target.1)
    }

    /// Reorders values, one per sorted target, to the order in which the targets were given.
    pub fn in_given_order(&self, values: &[f32]) -> Vec<f32> {
        let mut given = vec![0.0; values.len()];
        for (&target, &value) in self.order.iter().zip(values) {
            given[target as usize] = value;
        }
        given
    }
}

/// `Σ weight · −log softmax(hidden[row]·Wᵀ)[id]` over the targets, as a tensor of one element.
///
/// # Shapes
/// - hidden: `[rows, d_model]`, after the last norm
/// - weight: `[vocab, d_model]`
///
/// # Panics
/// When the shapes do not fit together, or a target's row or id is out of range.
pub fn linear_cross_entropy(hidden: Tensor<2>, weight: &Weight, targets: &Targets) -> Tensor<1> {
    check(&hidden, weight, targets);
    #[cfg(feature = "flex")]
    if let Some(loss) = crate::flex::linear_cross_entropy(&hidden, weight, targets) {
        return loss;
    }
    let device = hidden.device().without_autodiff();
    let weights = Tensor::<1>::from_data(TensorData::from(targets.weights.as_slice()), &device);
    negative_log_probs(hidden, weight, targets, &device).mul(weights).sum()
}

/// `−log softmax(hidden[row]·Wᵀ)[id]` of each target, in the targets' order: shape `[targets]`. The weights of the
/// targets are not used.
///
/// It is for an objective whose weights are known only after the forward pass, such as DPO's: multiply by them, and sum.
/// Each target has a gradient of its own, so a row with several targets takes as many rows of memory.
///
/// # Shapes
/// As [`linear_cross_entropy`].
///
/// # Panics
/// As [`linear_cross_entropy`].
pub fn token_losses(hidden: Tensor<2>, weight: &Weight, targets: &Targets) -> Tensor<1> {
    check(&hidden, weight, targets);
    #[cfg(feature = "flex")]
    if let Some(losses) = crate::flex::token_losses(&hidden, weight, targets) {
        return losses;
    }
    let device = hidden.device().without_autodiff();
    negative_log_probs(hidden, weight, targets, &device)
}

/// `log softmax(hidden[row]·Wᵀ)[id]` of each target, in the targets' order. Records no gradient.
///
/// # Shapes
/// As [`linear_cross_entropy`].
///
/// # Panics
/// As [`linear_cross_entropy`].
pub fn token_log_probs(hidden: Tensor<2>, weight: &Weight, targets: &Targets) -> Vec<f32> {
    check(&hidden, weight, targets);
    #[cfg(feature = "flex")]
    if let Some(log_probs) = crate::flex::token_log_probs(&hidden, weight, targets) {
        return log_probs;
    }
    let hidden = hidden.without_autodiff();
    let device = hidden.device();
    negative_log_probs(hidden, weight, targets, &device)
        .neg()
        .into_data()
        .try_into_vec()
        .expect("a float tensor of this crate is f32")
}

fn check(hidden: &Tensor<2>, weight: &Weight, targets: &Targets) {
    let ([rows, d_model], [vocab, width]) = (hidden.dims(), weight.dims());
    assert_eq!(d_model, width, "cross-entropy: hidden and weight differ in d_model");
    assert!(
        targets.distinct.iter().all(|&row| (row as usize) < rows),
        "cross-entropy: a target's row is not below {rows}"
    );
    assert!(targets.ids.iter().all(|&id| (id as usize) < vocab), "cross-entropy: a target's id is not below {vocab}");
}

fn negative_log_probs(hidden: Tensor<2>, weight: &Weight, targets: &Targets, device: &Device) -> Tensor<1> {
    let hidden = hidden.select(0, index(&targets.distinct, device));
    let tracked = hidden.is_autodiff();
    let chunk = if tracked { targets.distinct.len() } else { CHUNK };
    let log_sums: Vec<Tensor<1>> =
        hidden.clone().split(chunk, 0).into_iter().map(|rows| log_sum_exp(weight.product(rows))).collect();
    let place = index(&targets.place, device);
    let log_sum = Tensor::cat(log_sums, 0).select(0, place.clone());
    // The target's logit is computed as a separate dot product: gathering it would keep all logits for the backward
    // pass.
    let target = weight.select(&targets.ids);
    let logit = hidden.select(0, place).mul(target).sum_dim(1).squeeze_dim::<1>(1);
    log_sum.sub(logit)
}

/// `log Σ exp` of each row: `[rows, vocab]` to `[rows]`.
fn log_sum_exp(logits: Tensor<2>) -> Tensor<1> {
    let max = logits.clone().detach().max_dim(1);
    let sum = logits.sub(max.clone()).exp().sum_dim(1);
    sum.log().add(max).squeeze_dim::<1>(1)
}

fn index(values: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
    Tensor::from_data(TensorData::from(values.as_slice()), device)
}
