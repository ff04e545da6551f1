//! Attention over segments, with grouped queries and a sliding window.

use burn::tensor::{Device, Tensor, TensorData, activation::softmax};

/// What a hidden key adds to its score: its weight underflows to exactly zero, and no row can become NaN.
const HIDDEN: f32 = -1e30;

/// Which key rows each query row sees.
#[derive(Clone, Debug)]
pub struct Visibility {
    /// 0 where the key is seen, [`HIDDEN`] where it is not: `[batch, 1, 1, queries, keys]`.
    bias: Tensor<5>,
}

impl Visibility {
    /// A packed batch of segments in depth-first order: row `k` is seen from row `q` when `k <= q < subtree_ends[k]`
    /// (`k` is `q` or precedes it on its path) and, with a window, when `position[q] - position[k] < window`.
    ///
    /// # Panics
    /// When the two slices differ in length.
    pub fn segments(position_ids: &[u32], subtree_ends: &[u32], window: Option<usize>, device: &Device) -> Self {
        assert_eq!(position_ids.len(), subtree_ends.len(), "visibility: positions and ends differ in length");
        let rows = position_ids.len();
        let mut bias = vec![HIDDEN; rows * rows];
        for (query, line) in bias.chunks_exact_mut(rows.max(1)).enumerate() {
            for (key, score) in line[..=query].iter_mut().enumerate() {
                let on_path = query < subtree_ends[key] as usize;
                if on_path && in_window(position_ids[query] as usize, position_ids[key] as usize, window) {
                    *score = 0.0;
                }
            }
        }
        Self::from_bias(bias, [1, 1, 1, rows, rows], device)
    }

    /// Sequences side by side over a cache of `keys` rows each: sequence `b` has `past[b]` rows in the cache and
    /// brings `new` more, at positions `past[b]..past[b] + new`. Key row and position are the same.
    ///
    /// # Panics
    /// When a sequence's rows do not fit in `keys`.
    pub fn cached(past: &[usize], new: usize, keys: usize, window: Option<usize>, device: &Device) -> Self {
        let mut bias = Vec::with_capacity(past.len() * new * keys);
        for &past in past {
            assert!(past + new <= keys, "visibility: {past} + {new} rows do not fit in {keys}");
            for query in past..past + new {
                bias.extend((0..keys).map(|key| {
                    let seen = key <= query && in_window(query, key, window);
                    if seen { 0.0 } else { HIDDEN }
                }));
            }
        }
        Self::from_bias(bias, [past.len(), 1, 1, new, keys], device)
    }

    fn from_bias(bias: Vec<f32>, shape: [usize; 5], device: &Device) -> Self {
        Self { bias: Tensor::from_data(TensorData::new(bias, shape), device) }
    }
}

fn in_window(query: usize, key: usize, window: Option<usize>) -> bool {
    window.is_none_or(|window| query - key < window)
}

/// Scaled dot-product attention: `softmax(q·kᵀ / sqrt(head_dim) + visibility) · v`.
///
/// Each key/value head serves `heads / kv_heads` consecutive query heads (Ainslie et al. 2023, "GQA"); keys and values
/// are not repeated.
///
/// # Shapes
/// - query, output: `[batch, heads, queries, head_dim]`
/// - key, value: `[batch, kv_heads, keys, head_dim]`
/// - visibility: over `[batch, queries, keys]`
///
/// # Panics
/// When `kv_heads` does not divide `heads`, or the shapes do not fit together.
pub fn attention(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, visibility: &Visibility) -> Tensor<4> {
    let [batch, heads, queries, head_dim] = query.dims();
    let [_, kv_heads, keys, _] = key.dims();
    assert_eq!(key.dims(), [batch, kv_heads, keys, head_dim], "attention: key does not fit the query");
    assert_eq!(value.dims(), key.dims(), "attention: value does not fit the key");
    assert_eq!(heads % kv_heads, 0, "attention: kv_heads does not divide heads");
    assert_eq!(
        visibility.bias.dims(),
        [batch, 1, 1, queries, keys],
        "attention: the visibility was made for other rows"
    );
    let group = heads / kv_heads;
    let query = query
        .mul_scalar(1.0 / (head_dim as f64).sqrt())
        .reshape([batch, kv_heads, group * queries, head_dim]);
    let scores = query
        .matmul(key.transpose())
        .reshape([batch, kv_heads, group, queries, keys])
        .add(visibility.bias.clone());
    softmax(scores, 4)
        .reshape([batch, kv_heads, group * queries, keys])
        .matmul(value)
        .reshape([batch, heads, queries, head_dim])
}
