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
    query_scale: Option<QueryScale>,
}

/// A factor of the queries that grows with the position: `1 + beta · ln(1 + floor(position / original))`.
///
/// Source: `get_llama_4_attn_scale` in `modeling_ministral3.py` of transformers 5.24.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueryScale {
    /// How fast the factor grows.
    pub beta: f32,
    /// The factor is 1 at positions below this one.
    pub original: u32,
}

impl QueryScale {
    fn at(self, position: u32) -> f32 {
        1.0 + self.beta * (1.0 + (position / self.original) as f32).ln()
    }
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
        Self { frequencies: (0..head_dim / 2).map(frequency).collect(), factor: 1.0, query_scale: None }
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

    /// Sets a factor of the queries alone, which depends on their positions.
    ///
    /// # Panics
    /// When `original` is 0.
    pub fn with_query_scale(self, scale: Option<QueryScale>) -> Self {
        assert!(scale.is_none_or(|scale| scale.original > 0), "rope: the query scale has no original length");
        Self { query_scale: scale, ..self }
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
    #[cfg(feature = "flex")]
    tables: Arc<Tables>,
    /// Cosines and sines for queries and for keys, `[batch, 1, rows, head_dim / 2]`.
    query: [Tensor<4>; 2],
    key: [Tensor<4>; 2],
}

/// Cosines and sines, `[rows, head_dim / 2]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    key: [Vec<f32>; 2],
    /// Those of the queries, if they are others.
    query: Option<[Vec<f32>; 2]>,
}

impl Tables {
    pub fn fill(&mut self, position_ids: impl Iterator<Item = u32> + Clone, rope: &Rope) {
        fill(&mut self.key, position_ids.clone(), rope, |_| rope.factor);
        match rope.query_scale {
            Some(scale) => {
                let query = self.query.get_or_insert_default();
                fill(query, position_ids, rope, |position| rope.factor * scale.at(position));
            }
            None => self.query = None,
        }
    }

    /// Cosines and sines for queries.
    pub fn query(&self) -> [&[f32]; 2] {
        self.query.as_ref().unwrap_or(&self.key).each_ref().map(Vec::as_slice)
    }

    /// Cosines and sines for keys.
    pub fn key(&self) -> [&[f32]; 2] {
        self.key.each_ref().map(Vec::as_slice)
    }
}

impl Rotary {
    /// Tables for rows at the given positions, in the order `[batch, rows]`.
    ///
    /// # Panics
    /// When `position_ids` does not divide into `batch` equal runs.
    pub fn new(position_ids: &[u32], batch: usize, rope: &Rope, device: &Device) -> Self {
        assert_eq!(position_ids.len() % batch, 0, "rotary: rows do not divide into the batch");
        let shape = [batch, 1, position_ids.len() / batch, rope.frequencies.len()];
        let mut tables = Tables::default();
        tables.fill(position_ids.iter().copied(), rope);
        let tensor = |table: &[f32]| Tensor::from_data(TensorData::new(table.to_vec(), shape), device);
        let key = tables.key().map(tensor);
        let query = match rope.query_scale {
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

/// Fills the tables with cosines and sines times a factor, `[rows, head_dim / 2]`.
fn fill(
    [cos, sin]: &mut [Vec<f32>; 2],
    position_ids: impl Iterator<Item = u32>,
    rope: &Rope,
    factor: impl Fn(u32) -> f32,
) {
    cos.clear();
    sin.clear();
    for position in position_ids {
        let factor = factor(position);
        for frequency in &rope.frequencies {
            let angle = position as f32 * frequency;
            cos.push(angle.cos() * factor);
            sin.push(angle.sin() * factor);
        }
    }
}
