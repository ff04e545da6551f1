//! Attention over segments, with grouped queries and a sliding window.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Int, Tensor, TensorData, activation::softmax};

/// Added to the score of a hidden key. Its softmax weight underflows to exactly zero, and no row becomes NaN.
const HIDDEN: f32 = -1e30;

/// Queries per tile. A small tile has few pairs of a query and a key where the query does not see the key.
const TILE: usize = 64;

/// Which key rows each query row sees.
#[derive(Clone, Debug)]
pub struct Visibility {
    queries: usize,
    keys: usize,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Segments(Arc<Segments>),
    /// The bias, `[batch, 1, 1, queries, keys]`: 0 where the key is seen, [`HIDDEN`] where it is not.
    Cached(Box<Tensor<5>>),
}

/// A packed batch, with the forms that the ways of computing attention need; each form is made once.
#[derive(Debug)]
struct Segments {
    position_ids: Vec<u32>,
    subtree_ends: Vec<u32>,
    window: Option<usize>,
    device: Device,
    /// In the order of the queries. Together they cover all queries.
    tiles: OnceLock<Vec<Tile>>,
    #[cfg(feature = "flex")]
    seen: OnceLock<Arc<crate::cpu::attention::Seen>>,
}

/// A range of queries, and the keys that at least one of them sees.
#[derive(Clone, Debug)]
struct Tile {
    queries: usize,
    /// The rows of the keys; `None` means all rows.
    keys: Option<Tensor<1, Int>>,
    /// As in [`Kind::Cached`].
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
        let segments = Segments {
            position_ids: position_ids.to_vec(),
            subtree_ends: subtree_ends.to_vec(),
            window,
            device: device.clone(),
            tiles: OnceLock::new(),
            #[cfg(feature = "flex")]
            seen: OnceLock::new(),
        };
        Self { queries: rows, keys: rows, kind: Kind::Segments(Arc::new(segments)) }
    }

    /// Sequences computed side by side over a cache of `keys` rows each. Sequence `b` has `past[b]` rows in the cache
    /// and brings `new` more, at positions `past[b]..past[b] + new`. The row of a key in the cache is its position.
    ///
    /// # Panics
    /// When a sequence's rows do not fit in `keys`.
    pub fn cached(past: &[usize], new: usize, keys: usize, window: Option<usize>, device: &Device) -> Self {
        let mut bias = Vec::with_capacity(past.len() * new * keys);
        for &past in past {
            assert!(past + new <= keys, "visibility: {past} + {new} rows do not fit in {keys}");
            for query in past..past + new {
                bias.extend((0..keys).map(|key| score_bias(key <= query && in_window(query, key, window))));
            }
        }
        let bias = Tensor::from_data(TensorData::new(bias, [past.len(), 1, 1, new, keys]), device);
        Self { queries: new, keys, kind: Kind::Cached(Box::new(bias)) }
    }

    /// The form that the CPU kernels use; `None` over a cache.
    #[cfg(feature = "flex")]
    pub(crate) fn seen(&self) -> Option<Arc<crate::cpu::attention::Seen>> {
        let Kind::Segments(segments) = &self.kind else { return None };
        let make = || {
            let seen = |query, key| segments.is_seen(query, key);
            Arc::new(crate::cpu::attention::Seen::new(segments.position_ids.len(), seen))
        };
        Some(Arc::clone(segments.seen.get_or_init(make)))
    }
}

impl Segments {
    fn is_seen(&self, query: usize, key: usize) -> bool {
        key <= query
            && query < self.subtree_ends[key] as usize
            && in_window(self.position_ids[query] as usize, self.position_ids[key] as usize, self.window)
    }

    fn tiles(&self) -> &[Tile] {
        self.tiles.get_or_init(|| (0..self.position_ids.len()).step_by(TILE).map(|start| self.tile(start)).collect())
    }

    fn tile(&self, start: usize) -> Tile {
        let rows = self.position_ids.len();
        let end = rows.min(start + TILE);
        let is_needed = |key: &usize| (start..end).any(|query| self.is_seen(query, *key));
        let keys: Vec<usize> = (0..end).filter(is_needed).collect();
        let line = |query| keys.iter().map(move |&key| score_bias(self.is_seen(query, key)));
        let bias: Vec<f32> = (start..end).flat_map(line).collect();
        let index: Vec<i32> = keys.iter().map(|&key| key as i32).collect();
        Tile {
            queries: end - start,
            keys: (keys.len() < rows).then(|| Tensor::from_data(TensorData::from(index.as_slice()), &self.device)),
            bias: Tensor::from_data(TensorData::new(bias, [1, 1, 1, end - start, keys.len()]), &self.device),
        }
    }
}

fn score_bias(is_seen: bool) -> f32 {
    if is_seen { 0.0 } else { HIDDEN }
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
        [queries, keys],
        [visibility.queries, visibility.keys],
        "attention: the visibility was made for other rows"
    );
    let query = query.mul_scalar(1.0 / (head_dim as f64).sqrt());
    let segments = match &visibility.kind {
        Kind::Segments(segments) => segments,
        Kind::Cached(bias) => return attend(query, key, value, (**bias).clone()),
    };
    let mut start = 0;
    let tiles = segments.tiles().iter().map(|tile| {
        let query = query.clone().narrow(2, start, tile.queries);
        start += tile.queries;
        let rows = |tensor: &Tensor<4>| match &tile.keys {
            Some(keys) => tensor.clone().select(2, keys.clone()),
            None => tensor.clone(),
        };
        attend(query, rows(&key), rows(&value), tile.bias.clone())
    });
    let mut tiles: Vec<Tensor<4>> = tiles.collect();
    match tiles.len() {
        1 => tiles.remove(0),
        _ => Tensor::cat(tiles, 2),
    }
}

/// One tile of [`attention`]; the queries are already scaled.
fn attend(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, bias: Tensor<5>) -> Tensor<4> {
    let [batch, heads, queries, head_dim] = query.dims();
    let [_, kv_heads, keys, _] = key.dims();
    let group = heads / kv_heads;
    let scores = query
        .reshape([batch, kv_heads, group * queries, head_dim])
        .matmul(key.transpose())
        .reshape([batch, kv_heads, group, queries, keys])
        .add(bias);
    softmax(scores, 4)
        .reshape([batch, kv_heads, group * queries, keys])
        .matmul(value)
        .reshape([batch, heads, queries, head_dim])
}
