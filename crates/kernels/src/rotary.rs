//! Rotary position embedding in Hugging Face's half-split layout.

#[cfg(feature = "flex")]
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

/// The frequencies of the rotation.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// The angle per position of each pair of a head, `[head_dim / 2]`, in radians.
    frequencies: Vec<f32>,
    /// A factor of the cosines and sines.
    factor: f32,
}

impl Rope {
    /// The frequencies `theta^(-2i/head_dim)`.
    ///
    /// # Panics
    /// When `head_dim` is odd.
    pub fn new(head_dim: usize, theta: f64) -> Self {
        assert_eq!(head_dim % 2, 0, "rope: head_dim is odd");
        // PyTorch computes the frequencies and the angles in f32; the golden files require the same here.
        let frequency = |pair: usize| 1.0 / (theta as f32).powf((2 * pair) as f32 / head_dim as f32);
        Self { frequencies: (0..head_dim / 2).map(frequency).collect(), factor: 1.0 }
    }

    /// Changes each frequency; `change` gets the number of the pair and its frequency.
    pub fn map(self, change: impl Fn(usize, f32) -> f32) -> Self {
        let frequencies = self.frequencies.into_iter().enumerate().map(|(pair, value)| change(pair, value)).collect();
        Self { frequencies, ..self }
    }

    /// Sets the factor of the cosines and sines, and so of the queries and keys.
    pub fn with_factor(self, factor: f32) -> Self {
        Self { factor, ..self }
    }

    /// The angle per position of each pair, `[head_dim / 2]`, in radians.
    pub fn frequencies(&self) -> &[f32] {
        &self.frequencies
    }
}

/// The cosines and sines of a range of rows. They are computed once per forward pass and shared by all layers.
///
/// Pair `i` of a head is `(x[i], x[i + head_dim/2])` (half-split), rotated by its [`Rope`] frequency times the position.
/// Checkpoints in the interleaved layout (Mistral's own, GGUF) are permuted when they are loaded.
///
/// Source: Su et al. 2021, "RoFormer"; `apply_rotary_pos_emb` of transformers.
#[derive(Clone, Debug)]
pub struct Rotary {
    batch: usize,
    /// Cosines and sines, `[rows, head_dim / 2]`.
    #[cfg(feature = "flex")]
    tables: Arc<[Vec<f32>; 2]>,
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rotary {
    /// Tables for rows at the given positions, in the order `[batch, rows]`.
    ///
    /// # Panics
    /// When `position_ids` does not divide into `batch` equal runs.
    pub fn new(position_ids: &[u32], batch: usize, rope: &Rope, device: &Device) -> Self {
        assert_eq!(position_ids.len() % batch, 0, "rotary: rows do not divide into the batch");
        let shape = [batch, 1, position_ids.len() / batch, rope.frequencies.len()];
        let mut tables = [Vec::new(), Vec::new()];
        fill(&mut tables, position_ids.iter().copied(), rope);
        let [cos, sin] =
            tables.each_ref().map(|table| Tensor::from_data(TensorData::new(table.clone(), shape), device));
        Self {
            batch,
            #[cfg(feature = "flex")]
            tables: Arc::new(tables),
            cos,
            sin,
        }
    }

    /// The number of sequences that are computed side by side.
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    #[cfg(feature = "flex")]
    pub(crate) fn tables(&self) -> Arc<[Vec<f32>; 2]> {
        Arc::clone(&self.tables)
    }

    /// Rotates queries or keys.
    ///
    /// # Shapes
    /// - x, output: `[batch, heads, rows, head_dim]`
    ///
    /// # Panics
    /// When `rows` or `head_dim` are not those of the tables.
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, _, rows, head_dim] = x.dims();
        let [table_batch, _, table_rows, half] = self.cos.dims();
        assert_eq!(
            [batch, rows, head_dim],
            [table_batch, table_rows, 2 * half],
            "rotary: the tables were made for other rows"
        );
        let first = x.clone().narrow(3, 0, half);
        let second = x.narrow(3, half, half);
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        Tensor::cat(
            vec![
                first.clone().mul(cos.clone()).sub(second.clone().mul(sin.clone())),
                second.mul(cos).add(first.mul(sin)),
            ],
            3,
        )
    }
}

/// Fills the tables with cosines and sines, `[rows, head_dim / 2]`.
pub(crate) fn fill([cos, sin]: &mut [Vec<f32>; 2], position_ids: impl Iterator<Item = u32>, rope: &Rope) {
    cos.clear();
    sin.clear();
    for position in position_ids {
        for frequency in &rope.frequencies {
            let angle = position as f32 * frequency;
            cos.push(angle.cos() * rope.factor);
            sin.push(angle.sin() * rope.factor);
        }
    }
}
