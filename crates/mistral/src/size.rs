//! The sizes of a network's matrices, from its shape alone.

use foehn_kernels::Storage;
use foehn_weights::{DType, Weights};

use crate::base::Form;
use crate::naming::Naming;
use crate::{Base, MistralConfig};

/// One matrix of a network: where it comes from and how it is held in memory.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MatrixSize {
    /// Its name in Hugging Face's checkpoints, without `.weight`.
    pub name: String,
    /// `[out, in]`
    pub dims: [usize; 2],
    /// Its type in the checkpoint.
    pub stored: DType,
    /// How it is held in memory.
    pub storage: Storage,
    /// Whether it is expanded to single precision while it is loaded.
    pub is_converted: bool,
}

impl MistralConfig {
    /// Every matrix of the network, in the order in which [`load_as`](crate::Mistral::load_as) makes them. `stored` is
    /// asked for the type of each in the checkpoint.
    pub fn matrices(&self, base: Base, stored: impl Fn(&str) -> DType) -> Vec<MatrixSize> {
        let ends = ["model.embed_tokens", "lm_head"].into_iter().take(2 - usize::from(self.tie_word_embeddings));
        let ends = ends.map(|name| (name.to_owned(), [self.vocab_size, self.hidden_size]));
        let sized = |(name, dims): (String, [usize; 2])| {
            let stored = stored(&name);
            let form = base.form(&name, stored, dims[1]);
            let storage = match form {
                Form::Same(encoding) | Form::Made(_, encoding) => Storage::Blocks(encoding),
                Form::Half(_) => Storage::Half,
                Form::Full => Storage::Full,
            };
            let is_half = matches!(stored, DType::F16 | DType::BF16);
            let is_converted = !(matches!(form, Form::Same(_)) || matches!(form, Form::Half(_)) && is_half);
            MatrixSize { name, dims, stored, storage, is_converted }
        };
        ends.chain(self.layer_dims()).map(sized).collect()
    }

    /// The name and the shape `[out, in]` of every projection except the head, in the order of
    /// [`projections`](crate::Mistral::projections).
    pub fn projection_dims(&self) -> Vec<(String, [usize; 2])> {
        self.layer_dims().into_iter().map(|(name, dims)| (self.module_name(&name), dims)).collect()
    }

    /// As [`projection_dims`](Self::projection_dims), with the names of a language model by itself.
    pub(crate) fn layer_dims(&self) -> Vec<(String, [usize; 2])> {
        let Self { hidden_size, intermediate_size, head_dim, .. } = *self;
        let (queries, keys) = (self.num_attention_heads * head_dim, self.num_key_value_heads * head_dim);
        let layer = [
            ("self_attn.q_proj", [queries, hidden_size]),
            ("self_attn.k_proj", [keys, hidden_size]),
            ("self_attn.v_proj", [keys, hidden_size]),
            ("self_attn.o_proj", [hidden_size, queries]),
            ("mlp.gate_proj", [intermediate_size, hidden_size]),
            ("mlp.up_proj", [intermediate_size, hidden_size]),
            ("mlp.down_proj", [hidden_size, intermediate_size]),
        ];
        let named = |index| layer.map(|(part, dims)| (format!("model.layers.{index}.{part}"), dims));
        (0..self.num_hidden_layers).flat_map(named).collect()
    }

    /// The name in a checkpoint of the weight that Hugging Face's checkpoints call `{name}.weight`.
    pub fn stored_name(&self, name: &str, weights: &Weights) -> String {
        Naming::of(self, weights).stored(&format!("{name}.weight"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrices_are_those_of_the_network() {
        let text = r#"{"architectures":["MistralForCausalLM"],"model_type":"mistral","vocab_size":48,"hidden_size":16,
            "intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":4,
            "hidden_act":"silu","max_position_embeddings":32,"rms_norm_eps":1e-5,"rope_theta":1e4,
            "tie_word_embeddings":false}"#;
        let config = MistralConfig::from_json(text).unwrap();
        let sizes = config.matrices(Base::Q4K, |_| DType::BF16);
        assert_eq!(sizes.len(), 2 + 7 * 2);
        assert_eq!((sizes[1].name.as_str(), sizes[1].dims), ("lm_head", [48, 16]));
        let down = sizes.last().unwrap();
        assert_eq!((down.name.as_str(), down.dims), ("model.layers.1.mlp.down_proj", [16, 24]));
        // Rows of 24 are not whole blocks, so the matrix is kept in single precision.
        assert_eq!((down.storage, down.is_converted), (Storage::Full, true));
        let same = config.matrices(Base::Stored, |_| DType::F16);
        assert!(same.iter().all(|size| size.storage == Storage::Half && !size.is_converted));
        let eight_bits = config.matrices(Base::Stored, |_| DType::F8E4M3);
        assert!(eight_bits.iter().all(|size| size.storage == Storage::Half && size.is_converted));
    }
}
