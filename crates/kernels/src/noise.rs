//! Noise on the embeddings of training samples.

use burn::tensor::{Tensor, TensorData};

use crate::random::draw;

/// NEFTune: uniform noise from `-a` to `a` is added to each element of the embeddings, with `a = alpha / √(length ·
/// d_model)`. It is a pure function of its seed.
///
/// `length` is the number of the sample's tokens up to its last trained one, which has no row: it is only predicted. In a
/// packed batch, a row that several samples share has one noise, and the length of the longest of them.
///
/// Source: Jain et al. 2023, "NEFTune: noisy embeddings improve instruction finetuning", arXiv:2310.05914. transformers
/// counts padding as part of the length; here there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmbeddingNoise {
    /// The noise's `alpha`; the paper uses 5 to 15.
    pub alpha: f32,
    /// The seed of the noise.
    pub seed: u64,
}

impl EmbeddingNoise {
    /// Adds the noise to the embeddings of a packed batch, `[rows, d_model]`.
    ///
    /// Row `k` is at position `position_ids[k]` of its path, and the rows up to `subtree_ends[k]` (exclusive) descend
    /// from it.
    ///
    /// # Panics
    /// When the three differ in their number of rows.
    pub fn add(&self, embeddings: Tensor<2>, position_ids: &[u32], subtree_ends: &[u32]) -> Tensor<2> {
        let [rows, width] = embeddings.dims();
        assert_eq!([position_ids.len(), subtree_ends.len()], [rows; 2], "EmbeddingNoise: another number of rows");
        let mut noise = Vec::with_capacity(rows * width);
        for (row, length) in lengths(position_ids, subtree_ends).into_iter().enumerate() {
            let limit = self.alpha / (f64::from(length) * width as f64).sqrt() as f32;
            noise.extend((row * width..(row + 1) * width).map(|place| limit * self.uniform(place)));
        }
        let device = embeddings.device().without_autodiff();
        embeddings.add(Tensor::from_data(TensorData::new(noise, [rows, width]), &device))
    }

    /// A number from -1 to 1, with 24 bits.
    fn uniform(&self, place: usize) -> f32 {
        (draw(self.seed, place) >> 40) as f32 * 2f32.powi(-23) - 1.0
    }
}

/// For each row, the length of the longest sample through it: the rows of its path, and the last token.
fn lengths(position_ids: &[u32], subtree_ends: &[u32]) -> Vec<u32> {
    let mut lengths: Vec<u32> = position_ids.iter().map(|position| position + 2).collect();
    for row in (0..lengths.len()).rev() {
        let mut child = row + 1;
        while child < subtree_ends[row] as usize {
            lengths[row] = lengths[row].max(lengths[child]);
            child = subtree_ends[child] as usize;
        }
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_length_of_its_longest_sample() {
        // 0-1-2 with the leaves 3-4 and 5, and a sample of its own: 6-7.
        let (positions, ends) = ([0, 1, 2, 3, 4, 3, 0, 1], [6, 6, 6, 5, 5, 6, 8, 8]);
        assert_eq!(lengths(&positions, &ends), [6, 6, 6, 6, 6, 5, 3, 3]);
        assert!(lengths(&[], &[]).is_empty());
    }

    #[test]
    fn the_noise_is_uniform_between_its_limits() {
        let noise = EmbeddingNoise { alpha: 5.0, seed: 3 };
        let drawn: Vec<f32> = (0..100_000).map(|place| noise.uniform(place)).collect();
        assert!(drawn.iter().all(|value| (-1.0..=1.0).contains(value)));
        let mean = |power: i32| drawn.iter().map(|value| f64::from(*value).powi(power)).sum::<f64>() / 1e5;
        // The standard errors of the first two moments are 0.0018 and 0.00094.
        assert!(mean(1).abs() < 0.008 && (mean(2) - 1.0 / 3.0).abs() < 0.004, "{} {}", mean(1), mean(2));
        let other = EmbeddingNoise { seed: 4, ..noise };
        assert!((0..100).filter(|place| noise.uniform(*place) == other.uniform(*place)).count() < 3);
    }
}
