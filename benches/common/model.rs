//! A random model of SmolLM2-135M's shape, with fewer layers.

use burn::tensor::Device;
use foehn_mistral::{Base, Mistral, MistralConfig, ModelType};

/// `hidden_size`
pub const HIDDEN: usize = 576;
/// `intermediate_size`
pub const INTERMEDIATE: usize = 1536;
/// `num_attention_heads`
pub const HEADS: usize = 9;
/// `num_key_value_heads`
pub const KV_HEADS: usize = 3;
/// `head_dim`
pub const HEAD_DIM: usize = 64;
/// `vocab_size`
pub const VOCAB: usize = 49152;
/// `rope_theta`
pub const THETA: f64 = 1e5;
/// `rms_norm_eps`
pub const EPS: f64 = 1e-5;

/// SmolLM2-135M with 4 of its 30 layers and random weights, in the given storage format.
pub fn smollm2_of_four_layers(base: Base, device: &Device) -> Mistral {
    let config = MistralConfig {
        model_type: ModelType::Llama,
        is_wrapped: false,
        hidden_size: HIDDEN,
        intermediate_size: INTERMEDIATE,
        num_hidden_layers: 4,
        num_attention_heads: HEADS,
        num_key_value_heads: KV_HEADS,
        head_dim: HEAD_DIM,
        vocab_size: VOCAB,
        max_position_embeddings: 8192,
        rope_theta: THETA,
        rope_scaling: None,
        query_scale: None,
        layers_without_rope: Vec::new(),
        rms_norm_eps: EPS,
        sliding_window: None,
        layers_without_window: Vec::new(),
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        qk_norm: false,
        tie_word_embeddings: true,
        bos_token_id: Some(1),
        eos_token_id: vec![2],
    };
    Mistral::synthetic(&config, base, device, &mut |_, _| ())
}
