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

    /// The number of parameters of the network: those of its matrices, norms and biases.
    fn parameters(config: &MistralConfig) -> usize {
        config.tensors().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// The shapes of published configs give the published number of parameters (the hub's safetensors metadata; for
    /// Ministral 3, the report's 3.4 and 8.5 billion of the language model).
    #[test]
    fn published_models_have_their_number_of_parameters() {
        let of = |kind: &str, [hidden, inter, layers, heads, kv, vocab]: [usize; 6], more: &str| {
            let text = format!(
                r#"{{"model_type":"{kind}","hidden_size":{hidden},"intermediate_size":{inter},"num_hidden_layers":{layers},
                "num_attention_heads":{heads},"num_key_value_heads":{kv},"vocab_size":{vocab}{more}}}"#
            );
            parameters(&MistralConfig::from_json(&text).unwrap())
        };
        let tied = r#","tie_word_embeddings":true"#;
        let wide = r#","head_dim":128"#;
        assert_eq!(of("mistral", [4096, 14336, 32, 32, 8, 32000], ""), 7_241_732_096, "7B v0.1, v0.2");
        assert_eq!(of("mistral", [4096, 14336, 32, 32, 8, 32768], ""), 7_248_023_552, "7B v0.3");
        assert_eq!(of("mistral", [5120, 14336, 40, 32, 8, 131_072], wide), 12_247_782_400, "Nemo");
        assert_eq!(of("mistral", [4096, 12288, 36, 32, 8, 131_072], ""), 8_019_808_256, "Ministral 8B 2410");
        assert_eq!(of("mistral", [5120, 32768, 40, 32, 8, 131_072], wide), 23_572_403_200, "Small 2501");
        assert_eq!(of("llama", [4096, 14336, 32, 32, 8, 128_256], ""), 8_030_261_248, "Llama 3.1 8B");
        assert_eq!(of("llama", [2048, 8192, 16, 32, 8, 128_256], tied), 1_235_814_400, "Llama 3.2 1B");
        assert_eq!(of("llama", [3072, 8192, 28, 24, 8, 128_256], tied), 3_212_749_824, "Llama 3.2 3B");
        assert_eq!(of("llama", [576, 1536, 30, 9, 3, 49152], tied), 134_515_008, "SmolLM2 135M");
        assert_eq!(of("smollm3", [2048, 11008, 36, 16, 4, 128_256], ""), 3_075_098_624, "SmolLM3 3B");
        assert_eq!(of("qwen2", [896, 4864, 24, 14, 2, 151_936], tied), 494_032_768, "Qwen2.5 0.5B");
        assert_eq!(of("qwen2", [3584, 18944, 28, 28, 4, 152_064], ""), 7_615_616_512, "Qwen2.5 7B");
        assert_eq!(of("qwen3", [1024, 3072, 28, 16, 8, 151_936], tied), 596_049_920, "Qwen3 0.6B");
        assert_eq!(of("qwen3", [4096, 12288, 36, 32, 8, 151_936], ""), 8_190_735_360, "Qwen3 8B");
        for (text, billions) in [
            (include_str!("../../../examples/recipes/ministral-3-3b.config.json"), 3.4),
            (include_str!("../../../examples/recipes/ministral-3-8b.config.json"), 8.5),
        ] {
            let found = parameters(&MistralConfig::from_json(text).unwrap()) as f64 / 1e9;
            assert!((found - billions).abs() < 0.05, "{found} {billions}");
        }
    }
}
