//! A random model of SmolLM2-135M's shape, but for its depth.

use std::borrow::Cow;
use std::collections::BTreeMap;

use burn::tensor::Device;
use foehn_mistral::{Mistral, MistralConfig};
use foehn_weights::{Error, FloatType, TensorSpec, Weights, save_safetensors_with};

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

/// SmolLM2-135M with 4 of its 30 layers and random weights, read from a file like any model.
pub fn smollm2_of_four_layers(device: &Device) -> Mistral {
    let config = MistralConfig {
        hidden_size: HIDDEN,
        intermediate_size: INTERMEDIATE,
        num_hidden_layers: 4,
        num_attention_heads: HEADS,
        num_key_value_heads: KV_HEADS,
        head_dim: HEAD_DIM,
        vocab_size: VOCAB,
        max_position_embeddings: 8192,
        rope_theta: THETA,
        rms_norm_eps: EPS,
        sliding_window: None,
        tie_word_embeddings: true,
        bos_token_id: Some(1),
        eos_token_id: vec![2],
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    save_safetensors_with(&path, &specs(&config), &BTreeMap::new(), values).unwrap();
    Mistral::load(&config, &Weights::open(&path).unwrap(), device).unwrap()
}

fn specs(config: &MistralConfig) -> Vec<TensorSpec> {
    let [queries, keys] = [HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM];
    let layer = |index: usize| {
        [
            ("input_layernorm", vec![HIDDEN]),
            ("self_attn.q_proj", vec![queries, HIDDEN]),
            ("self_attn.k_proj", vec![keys, HIDDEN]),
            ("self_attn.v_proj", vec![keys, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, queries]),
            ("post_attention_layernorm", vec![HIDDEN]),
            ("mlp.gate_proj", vec![INTERMEDIATE, HIDDEN]),
            ("mlp.up_proj", vec![INTERMEDIATE, HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, INTERMEDIATE]),
        ]
        .map(|(part, shape)| (format!("layers.{index}.{part}"), shape))
    };
    let ends = [("embed_tokens".to_owned(), vec![VOCAB, HIDDEN]), ("norm".to_owned(), vec![HIDDEN])];
    let named = ends.into_iter().chain((0..config.num_hidden_layers).flat_map(layer));
    named
        .map(|(name, shape)| TensorSpec { name: format!("model.{name}.weight"), shape, dtype: FloatType::BF16 })
        .collect()
}

/// Ones for a norm; noise for a matrix, of the spread that the model's authors initialise with (0.04).
fn values(spec: &TensorSpec) -> Result<Cow<'static, [f32]>, Error> {
    let count = spec.shape.iter().product();
    let values = match spec.shape.len() {
        1 => vec![1.0; count],
        _ => {
            let seed = spec.name.bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(byte));
            super::noise(seed, count).into_iter().map(|value| 0.07 * value).collect()
        }
    };
    Ok(Cow::Owned(values))
}
