//! Rotary position embedding in Hugging Face's half-split layout.

#[cfg(feature = "flex")]
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use crate::rope::{Rope, Tables};

/// The cosines and sines of a range of rows. They are computed once per forward pass and shared by all layers.
///
/// Pair `i` of a head is `(x[i], x[i + head_dim/2])` (half-split), rotated by its [`Rope`] frequency times the position.
/// Checkpoints in the interleaved layout (Mistral's own, GGUF) are permuted when they are loaded.
///
/// Source: Su et al. 2021, "RoFormer"; `apply_rotary_pos_emb` of transformers.
#[derive(Clone, Debug)]
pub struct Rotary {
    batch: usize,
    #[cfg(feature = "flex")]
    tables: Arc<Tables>,
    /// Cosines and sines for queries and for keys, `[batch, 1, rows, head_dim / 2]`.
    query: [Tensor<4>; 2],
    key: [Tensor<4>; 2],
}

impl Rotary {
    /// Tables for rows at the given positions, in the order `[batch, rows]`.
    ///
    /// # Panics
    /// When `position_ids` does not divide into `batch` equal runs.
    pub fn new(position_ids: &[u32], batch: usize, rope: &Rope, device: &Device) -> Self {
        assert_eq!(position_ids.len() % batch, 0, "rotary: rows do not divide into the batch");
        let shape = [batch, 1, position_ids.len() / batch, rope.frequencies().len()];
        let mut tables = Tables::default();
        tables.fill(position_ids.iter().copied(), rope);
        let tensor = |table: &[f32]| Tensor::from_data(TensorData::new(table.to_vec(), shape), device);
        let key = tables.key().map(tensor);
        let query = match rope.query_scale() {
            Some(_) => tables.query().map(tensor),
            None => key.clone(),
        };
        Self {
            batch,
            #[cfg(feature = "flex")]
            tables: Arc::new(tables),
            query,
            key,
        }
    }

    /// The number of sequences that are computed side by side.
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    #[cfg(feature = "flex")]
    pub(crate) fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables)
    }

    /// Rotates queries.
    ///
    /// # Shapes
    /// - x, output: `[batch, heads, rows, head_dim]`
    ///
    /// # Panics
    /// When `rows` or `head_dim` are not those of the tables.
    pub fn rotate_queries(&self, x: Tensor<4>) -> Tensor<4> {
        rotate(x, &self.query)
    }

    /// Rotates keys.
    ///
    /// # Shapes
    /// - x, output: `[batch, kv_heads, rows, head_dim]`
    ///
    /// # Panics
    /// When `rows` or `head_dim` are not those of the tables.
    pub fn rotate_keys(&self, x: Tensor<4>) -> Tensor<4> {
        rotate(x, &self.key)
    }
}

fn rotate(x: Tensor<4>, [cos, sin]: &[Tensor<4>; 2]) -> Tensor<4> {
    let [batch, _, rows, head_dim] = x.dims();
    let [table_batch, _, table_rows, half] = cos.dims();
    assert_eq!(
        [batch, rows, head_dim],
        [table_batch, table_rows, 2 * half],
        "rotary: the tables were made for other rows"
    );
    let first = x.clone().narrow(3, 0, half);
    let second = x.narrow(3, half, half);
    let (cos, sin) = (cos.clone(), sin.clone());
    Tensor::cat(
        vec![first.clone().mul(cos.clone()).sub(second.clone().mul(sin.clone())), second.mul(cos).add(first.mul(sin))],
        3,
    )
}
