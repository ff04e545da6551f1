//! The angles by which positions are rotated, and their cosines and sines. No tensors here: `tests/memory` builds this file
//! with the CPU's kernels alone.

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

    /// The factor of the queries alone.
    pub(crate) fn query_scale(&self) -> Option<QueryScale> {
        self.query_scale
    }

    /// The angle per position of each pair, `[head_dim / 2]`, in radians.
    pub fn frequencies(&self) -> &[f32] {
        &self.frequencies
    }
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
