//! The tensors of a checkpoint under Hugging Face's names, one at a time.

use std::collections::BTreeSet;

use foehn_weights::{DType, Weights};

use crate::naming::{Naming, interleaved_row, is_rotated};
use crate::{Error, MistralConfig, RopeScaling};

/// The tensor of a GGUF that divides the rotary frequencies: Llama 3's scaling.
pub(crate) const ROPE_FREQS: &str = "rope_freqs.weight";

/// A checkpoint and its config, checked against each other. It reads one tensor at a time, without a device: what a
/// program needs that writes the model in another format.
#[derive(Debug)]
pub struct Checkpoint<'a> {
    config: MistralConfig,
    weights: &'a Weights,
    naming: Naming,
}

/// In which order the rows of q and k are, within each head. The rotation turns pairs of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOrder {
    /// The pairs are half a head apart, as in Hugging Face's checkpoints.
    HalfSplit,
    /// The pairs lie beside each other, as in Mistral's own checkpoints and most GGUF files.
    Interleaved,
}

impl<'a> Checkpoint<'a> {
    /// Compares the names of a checkpoint's tensors with its config.
    ///
    /// If the config ties the head to the embedding but the checkpoint has a different `lm_head.weight`, the head is
    /// used, as in transformers 5.
    ///
    /// # Errors
    /// [`Error::UnusedTensors`] if the checkpoint has tensors that the network does not use, [`Error::Weights`] if head and
    /// embedding cannot be compared.
    pub fn new(config: &MistralConfig, weights: &'a Weights) -> Result<Self, Error> {
        let naming = Naming::of(config, weights);
        let mut config = config.clone();
        if config.tie_word_embeddings && has_another_head(naming, weights)? {
            config.tie_word_embeddings = false;
        }
        check_all_used(&config, naming, weights)?;
        Ok(Self { config, weights, naming })
    }

    /// The config; it ties the head only if the checkpoint has no other one.
    pub fn config(&self) -> &MistralConfig {
        &self.config
    }

    /// The file or folder.
    pub fn weights(&self) -> &'a Weights {
        self.weights
    }

    pub(crate) fn naming(&self) -> Naming {
        self.naming
    }

    /// Hugging Face's name and the shape of each tensor of the network, as of a language model by itself.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.config.tensors()
    }

    /// The name in the file of a tensor, given Hugging Face's.
    pub fn stored_name(&self, name: &str) -> String {
        self.naming.stored(name)
    }

    /// Whether the file has Hugging Face's names, with the prefix of a wrapper or without.
    pub fn has_hugging_face_names(&self) -> bool {
        matches!(self.naming, Naming::HuggingFace | Naming::Wrapped | Naming::WrappedInside)
    }

    /// The tensors of the file that belong to the vision model beside the language model, by their names in the file.
    pub fn vision_tensors(&self) -> impl Iterator<Item = &'a str> {
        let (naming, weights) = (self.naming, self.weights);
        weights.names().filter(move |name| naming.is_of_vision(name))
    }

    /// The type in the file of a tensor, given Hugging Face's name.
    ///
    /// # Errors
    /// [`Error::Weights`] if the file has no such tensor.
    pub fn dtype(&self, name: &str) -> Result<DType, Error> {
        let stored = self.stored_name(name);
        match self.weights.info(&stored) {
            Some(info) => Ok(info.dtype),
            None => {
                Err(foehn_weights::Error::NoSuchTensor { path: self.weights.path().to_owned(), name: stored }.into())
            }
        }
    }

    /// The values of a tensor in single precision, row-major, given Hugging Face's name.
    ///
    /// # Errors
    /// [`Error::Weights`] if it is missing or broken, [`Error::Shape`] if it does not fit the config.
    pub fn load(&self, name: &str, shape: &[usize], order: RowOrder) -> Result<Vec<f32>, Error> {
        let stored = self.checked_name(name, shape)?;
        let values = self.weights.load_f32(&stored)?.0;
        Ok(match self.permutation(name, order) {
            None => values,
            Some(permutation) => permuted(&values, shape.iter().skip(1).product(), |row| permutation.source(row)),
        })
    }

    /// The bytes of a tensor as they are in the file (see [`dtype`](Self::dtype)), with their rows in `order`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn bytes(&self, name: &str, shape: &[usize], order: RowOrder) -> Result<Vec<u8>, Error> {
        let stored = self.checked_name(name, shape)?;
        let bytes = self.weights.read_blocks(&stored)?;
        Ok(match self.permutation(name, order) {
            None => bytes,
            Some(permutation) => permuted(&bytes, bytes.len() / shape[0].max(1), |row| permutation.source(row)),
        })
    }

    fn checked_name(&self, name: &str, expected: &[usize]) -> Result<String, Error> {
        let name = self.stored_name(name);
        match self.weights.info(&name) {
            Some(info) if info.shape != expected => {
                Err(Error::Shape { name, found: info.shape.clone(), expected: expected.to_vec() })
            }
            _ => Ok(name),
        }
    }

    /// How the rows of the file are brought into `order`; `None` if they are in it.
    fn permutation(&self, name: &str, order: RowOrder) -> Option<Permutation> {
        let stored = if self.naming.is_interleaved() { RowOrder::Interleaved } else { RowOrder::HalfSplit };
        let head_dim = self.config.head_dim;
        (is_rotated(name) && stored != order).then_some(Permutation { to: order, head_dim })
    }
}

/// Rows that are moved within each head.
struct Permutation {
    to: RowOrder,
    head_dim: usize,
}

impl Permutation {
    /// The row that becomes `row`.
    fn source(&self, row: usize) -> usize {
        match self.to {
            RowOrder::HalfSplit => interleaved_row(row, self.head_dim),
            RowOrder::Interleaved => half_split_row(row, self.head_dim),
        }
    }
}

/// The inverse of [`interleaved_row`]: the index, where the pairs of a head's rotation are half a head apart, of the row that
/// is `row` where they lie beside each other.
pub fn half_split_row(row: usize, head_dim: usize) -> usize {
    let (head, row) = (row / head_dim, row % head_dim);
    head * head_dim + row % 2 * (head_dim / 2) + row / 2
}

fn permuted<T: Copy>(values: &[T], width: usize, source: impl Fn(usize) -> usize) -> Vec<T> {
    let rows = values.len() / width.max(1);
    (0..rows).flat_map(|row| values[source(row) * width..][..width].iter().copied()).collect()
}

/// Whether a checkpoint has a head that differs from its embedding.
fn has_another_head(naming: Naming, weights: &Weights) -> Result<bool, Error> {
    let [embedding, head] = ["model.embed_tokens.weight", "lm_head.weight"].map(|name| naming.stored(name));
    Ok(weights.info(&head).is_some() && weights.info(&embedding).is_some() && !weights.same(&embedding, &head)?)
}

/// Refuses a checkpoint with tensors that the network does not use: without them it would compute something else.
fn check_all_used(config: &MistralConfig, naming: Naming, weights: &Weights) -> Result<(), Error> {
    let mut known: BTreeSet<String> = config.tensors().iter().map(|(name, _)| naming.stored(name)).collect();
    known.insert(naming.stored("lm_head.weight"));
    let divides = matches!(config.rope_scaling, Some(RopeScaling::Llama3 { .. } | RopeScaling::Divisors { .. }));
    if divides && matches!(naming, Naming::Gguf { .. }) {
        known.insert(ROPE_FREQS.to_owned());
    }
    let is_known = |name: &str| known.contains(name) || is_without_effect(name) || weights.scaled_by(name).is_some();
    let is_unused = |name: &&str| !is_known(name) && !naming.is_of_vision(name);
    let unused: Vec<String> = weights.names().filter(is_unused).map(str::to_owned).collect();
    match unused.is_empty() {
        true => Ok(()),
        false => Err(Error::UnusedTensors { names: unused }),
    }
}

/// Whether a tensor holds the rotary frequencies, as early converters stored them. They follow from the config's
/// `rope_theta`.
fn is_without_effect(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq") || name.ends_with("attn_rot_embd.weight")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_orders_of_rows_are_inverse() {
        for head_dim in [2, 4, 64, 96] {
            for row in 0..3 * head_dim {
                assert_eq!(half_split_row(interleaved_row(row, head_dim), head_dim), row);
            }
        }
    }
}
