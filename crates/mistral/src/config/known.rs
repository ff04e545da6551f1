//! Which keys of a config are known, and how the others are treated.
//!
//! A key that is read is checked where it is read. Of the other keys, some never affect the computation, and some do
//! not affect it at one value. A key in neither list may mean another network: it is refused, with its name in the
//! error.

use foehn_weights::Gguf;
use serde_json::{Map, Value, json};

use super::family::{Biases, Family, Windows};
use super::field;
use crate::Error;

/// Keys of `config.json` that are read.
const READ: [&str; 22] = [
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "rms_norm_eps",
    "sliding_window",
    "use_sliding_window",
    "layer_types",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "hidden_act",
    "auto_map",
    "quantization_config",
];

/// Keys of `config.json` that do not affect the forward pass: notes, settings of training and sampling, and keys that
/// transformers writes for every kind of model.
#[rustfmt::skip]
const WITHOUT_EFFECT: [&str; 78] = [
    "architectures", "transformers_version", "torch_dtype", "dtype", "use_cache", "initializer_range", "pretraining_tp",
    "attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "is_llama_config",
    "transformers.js_config", "_name_or_path", "_commit_hash", "_attn_implementation", "_attn_implementation_autoset",
    "_attn_implementation_internal", "_flash_attn_2_enabled", "_experts_implementation", "attn_implementation",
    "unsloth_version", "unsloth_fixed", "model_name", "license", "name", "use_bfloat16", "use_flash_attention",
    "gradient_checkpointing", "tokenizer_class", "pad_token_id", "unk_token_id", "sep_token_id", "mask_token_id",
    "decoder_start_token_id", "eos_token", "bos_token", "pad_token", "return_dict", "use_return_dict",
    "output_hidden_states", "output_attentions", "torchscript", "tf_legacy_loss", "is_decoder", "max_length",
    "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty", "temperature",
    "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "output_scores",
    "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values",
    "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens", "finetuning_task", "id2label",
    "label2id", "num_labels", "problem_type", "prefix", "task_specific_params",
];

/// Keys of `config.json` that do not affect the computation at this value, and mean another network at any other.
fn at_one_value() -> [(&'static str, Value); 20] {
    [
        ("attention_bias", json!(false)),
        ("mlp_bias", json!(false)),
        ("qkv_bias", json!(false)),
        ("use_bias", json!(false)),
        ("bias", json!(false)),
        ("attention_out_bias", json!(false)),
        ("lm_head_bias", json!(false)),
        ("rope_interleaved", json!(false)),
        ("rope_traditional", json!(false)),
        ("use_qk_norm", json!(false)),
        ("qk_norm", json!(false)),
        ("qk_layernorm", json!(false)),
        ("is_encoder_decoder", json!(false)),
        ("add_cross_attention", json!(false)),
        ("tie_encoder_decoder", json!(false)),
        ("output_router_logits", json!(false)),
        ("partial_rotary_factor", json!(1)),
        ("rotary_pct", json!(1)),
        ("chunk_size_feed_forward", json!(0)),
        ("pruned_heads", json!({})),
    ]
}

/// Whether a key is read for the configs of some families alone.
fn is_read(key: &str, family: &Family) -> bool {
    match key {
        "attention_bias" => family.biases == Biases::Asked,
        "mlp_bias" => family.mlp_bias,
        "max_window_layers" => family.windows == Windows::Last,
        "no_rope_layers" | "no_rope_layer_interval" => family.unrotated,
        _ => READ.contains(&key),
    }
}

/// Keys of the config of a language model and a vision model that do not affect the language model.
const OF_WRAPPER: [&str; 14] = [
    "model_type",
    "quantization_config",
    "text_config",
    "vision_config",
    "image_token_index",
    "image_token_id",
    "projector_hidden_act",
    "vision_feature_layer",
    "multimodal_projector_bias",
    "spatial_merge_size",
    // That of the text's config is read.
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "vocab_size",
];

/// Refuses a key of the config of a language model and a vision model that is not known.
pub(super) fn check_wrapper(map: &Map<String, Value>) -> Result<(), Error> {
    let is_known = |key: &str| OF_WRAPPER.contains(&key) || WITHOUT_EFFECT.contains(&key);
    match map.iter().find(|(key, value)| !value.is_null() && !is_known(key)) {
        Some((key, value)) => Err(field(key, value, "no such key: it is not known here, and may mean another network")),
        None => check_quantization(map),
    }
}

/// Refuses a key of `config.json` that is not known, or that does not have its required value. `null` counts as absent.
pub(super) fn check_json(map: &Map<String, Value>, family: &Family) -> Result<(), Error> {
    let accepted = at_one_value();
    for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
        if is_read(key, family) || WITHOUT_EFFECT.contains(&key.as_str()) {
            continue;
        }
        match accepted.iter().find(|(name, _)| name == key) {
            Some((_, expected)) if is_equal(value, expected) => (),
            Some((_, expected)) => return Err(field(key, value, expected)),
            None => return Err(field(key, value, "no such key: it is not known here, and may mean another network")),
        }
    }
    check_quantization(map)?;
    // Custom code for a tokenizer does not affect the network.
    if let Some(code) = map.get("auto_map").and_then(Value::as_object) {
        let is_network = |name: &&String| name.starts_with("AutoModel") || name.starts_with("AutoConfig");
        if code.keys().any(|name| is_network(&name)) {
            return Err(field("auto_map", Value::Object(code.clone()), "no network that only its own code computes"));
        }
    }
    Ok(())
}

/// Refuses a `quantization_config` other than that of weights in eight-bit floats with their scales beside them.
///
/// What it says of activations has no effect: they stay in single precision here. Which modules are converted is seen
/// from their tensors, and so is the size of the scales' blocks, provided that their sides are powers of two.
fn check_quantization(config: &Map<String, Value>) -> Result<(), Error> {
    let Some(found) = config.get("quantization_config").filter(|found| !found.is_null()) else { return Ok(()) };
    let name = |key: &str| format!("quantization_config.{key}");
    let Some(map) = found.as_object() else { return Err(field("quantization_config", found, "an object")) };
    let is_power = |side: &Value| side.as_u64().is_some_and(u64::is_power_of_two);
    let method = map.get("quant_method").unwrap_or(&Value::Null);
    if method != "fp8" {
        return Err(field(
            name("quant_method"),
            method,
            "fp8; take a checkpoint of that form, one in 16 bits, or a GGUF",
        ));
    }
    for (key, value) in map {
        let (fits, expected) = match key.as_str() {
            "quant_method" => continue,
            "activation_scheme" => (value == "static" || value == "dynamic", "static or dynamic"),
            "fmt" => (value == "e4m3", "e4m3"),
            "scale_fmt" => (value == "float" || value.is_null(), "float"),
            "weight_block_size" => {
                let sides = value.as_array();
                let fits = sides.is_some_and(|sides| sides.len() == 2 && sides.iter().all(is_power));
                (fits || value.is_null(), "null, or two powers of two")
            }
            "modules_to_not_convert" => (value.is_array() || value.is_null(), "a list of names"),
            "dequantize" => (value.is_boolean(), "a truth value"),
            _ => (value.is_null(), "no such key: it is not known here, and may mean other weights"),
        };
        if !fits {
            return Err(field(name(key), value, expected));
        }
    }
    Ok(())
}

/// Compares two numbers by value, and anything else exactly.
fn is_equal(found: &Value, expected: &Value) -> bool {
    match (found.as_f64(), expected.as_f64()) {
        (Some(found), Some(expected)) => found == expected,
        _ => found == expected,
    }
}

/// Keys under the architecture's name that are read elsewhere, or that have no effect.
const GGUF_KEYS: [&str; 23] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "vocab_size",
    "tensor_data_layout",
    "rope.scaling.factor",
    "rope.scale_linear",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_log_multiplier",
    "attention.temperature_scale",
    // A note.
    "rope.scaling.finetuned",
];

/// Refuses a key of the architecture in a GGUF's metadata that is not known, or whose value is not the one without effect. Keys
/// with other prefixes belong to the tokenizer, or are notes.
pub(super) fn check_gguf(gguf: &Gguf, architecture: &str) -> Result<(), Error> {
    if let Some(kind) = gguf.get_str("general.type")?.filter(|kind| *kind != "model") {
        return Err(field("general.type", kind, "model"));
    }
    for key in gguf.keys() {
        let Some(name) = key.strip_prefix(architecture).and_then(|rest| rest.strip_prefix('.')) else { continue };
        match name {
            _ if GGUF_KEYS.contains(&name) => (),
            "rope.scaling.attn_factor" => {
                if let Some(factor) = gguf.get_f32(key)?.filter(|factor| *factor != 1.0) {
                    return Err(field(key, factor, 1));
                }
            }
            "expert_count" | "expert_used_count" | "pooling_type" => {
                if let Some(count) = gguf.get_u32(key)?.filter(|count| *count != 0) {
                    return Err(field(key, count, 0));
                }
            }
            "attention.causal" => {
                if gguf.get_bool(key)? == Some(false) {
                    return Err(field(key, false, true));
                }
            }
            "use_parallel_residual" => {
                if gguf.get_bool(key)? == Some(true) {
                    return Err(field(key, true, false));
                }
            }
            _ => return Err(field(key, "a value", "no such key: it is not known here, and may mean another network")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use foehn_weights::Weights;

    use super::*;
    use crate::{MistralConfig, RopeScaling};

    /// A GGUF without tensors whose metadata are a name, the number of a type and a value's bytes each.
    fn with_gguf<T>(metadata: &[(&str, u32, &[u8])], read: impl FnOnce(&Gguf) -> T) -> T {
        let mut bytes = [b"GGUF", &3u32.to_le_bytes()[..], &0u64.to_le_bytes()].concat();
        bytes.extend((metadata.len() as u64).to_le_bytes());
        for (name, kind, value) in metadata {
            bytes.extend((name.len() as u64).to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend(kind.to_le_bytes());
            if *kind == TEXT {
                bytes.extend((value.len() as u64).to_le_bytes());
            }
            bytes.extend(*value);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        std::fs::write(&path, bytes).unwrap();
        let weights = Weights::open(&path).unwrap();
        read(weights.gguf().unwrap())
    }

    /// What is said of its metadata.
    fn said(metadata: &[(&str, u32, &[u8])]) -> Option<String> {
        with_gguf(metadata, |gguf| check_gguf(gguf, "llama").err().map(|error| error.to_string()))
    }

    /// What the published checkpoints in eight-bit floats say, and what means other weights.
    #[test]
    fn only_the_quantisation_in_eight_bit_floats_is_accepted() {
        let said = |text: &str| {
            let value: Value = serde_json::from_str(text).unwrap();
            check_wrapper(value.as_object().unwrap()).err().map(|error| error.to_string()).unwrap_or_default()
        };
        let ministral = r#"{"quantization_config": {"activation_scheme": "static", "dequantize": false,
            "modules_to_not_convert": ["model.vision_tower", "model.multi_modal_projector", "lm_head"],
            "quant_method": "fp8", "weight_block_size": null}}"#;
        let qwen = r#"{"quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
            "weight_block_size": [128, 128]}}"#;
        assert_eq!([said(ministral), said(qwen), said(r#"{"quantization_config": null}"#)], ["", "", ""]);
        let refused = [
            ("quant_method", r#""bits": 4, "quant_method": "gptq""#),
            ("quant_method", r#""load_in_4bit": true"#),
            ("activation_scheme", r#""quant_method": "fp8", "activation_scheme": "other""#),
            ("fmt", r#""quant_method": "fp8", "fmt": "e5m2""#),
            ("scale_fmt", r#""quant_method": "fp8", "scale_fmt": "ue8m0""#),
            ("weight_block_size", r#""quant_method": "fp8", "weight_block_size": [96, 128]"#),
            ("weight_block_size", r#""quant_method": "fp8", "weight_block_size": [128]"#),
            ("weight_block_size", r#""quant_method": "fp8", "weight_block_size": 128"#),
            ("modules_to_convert", r#""quant_method": "fp8", "modules_to_convert": ["embed"]"#),
        ];
        for (key, text) in refused {
            let said = said(&format!(r#"{{"quantization_config": {{{text}}}}}"#));
            assert!(said.contains(&format!("quantization_config.{key}")), "{text}: {said}");
        }
        assert!(said(r#"{"quantization_config": "fp8"}"#).contains("quantization_config"));
    }

    /// Without a type, llama.cpp reads a factor as linear scaling, and 0 or 1 as none.
    #[test]
    fn the_linear_scaling_of_a_gguf() {
        let of = |metadata: &[(&str, u32, &[u8])]| {
            with_gguf(metadata, |gguf| {
                RopeScaling::from_gguf(gguf, "llama", false).map(|found| found.0).map_err(|error| error.to_string())
            })
        };
        let (factor, older) = ("llama.rope.scaling.factor", "llama.rope.scale_linear");
        let linear = Ok(Some(RopeScaling::Linear { factor: 4.0 }));
        let four = 4f32.to_le_bytes();
        assert_eq!(of(&[(factor, F32, &four)]), linear);
        assert_eq!(of(&[(older, F32, &four)]), linear);
        assert_eq!(of(&[("llama.rope.scaling.type", TEXT, b"linear"), (factor, F32, &four)]), linear);
        assert_eq!(of(&[("llama.rope.scaling.type", TEXT, b"none"), (factor, F32, &four)]), Ok(None));
        for none in [0f32, 1.0] {
            assert_eq!(of(&[(factor, F32, &none.to_le_bytes())]), Ok(None));
        }
        for bad in [-1f32, f32::NAN] {
            assert!(of(&[(factor, F32, &bad.to_le_bytes())]).unwrap_err().contains(factor));
        }
        let said = of(&[("llama.rope.scaling.type", TEXT, b"longrope"), (factor, F32, &four)]).unwrap_err();
        assert!(said.contains("longrope"), "{said}");
        assert!(of(&[("llama.rope.scaling.type", TEXT, b"linear")]).is_err());
    }

    /// A window in a file of a family whose layers differ does not say which layers have it.
    #[test]
    fn windows_of_a_gguf_belong_to_every_layer() {
        let of = |architecture: &str| {
            let key = |name: &str| format!("{architecture}.{name}");
            let counts = [
                ("embedding_length", 16u32),
                ("feed_forward_length", 24),
                ("block_count", 4),
                ("attention.head_count", 4),
                ("context_length", 64),
                ("attention.sliding_window", 8),
            ]
            .map(|(name, count)| (key(name), count.to_le_bytes()));
            let mut metadata: Vec<(&str, u32, &[u8])> =
                counts.iter().map(|(name, count)| (name.as_str(), U32, &count[..])).collect();
            metadata.push(("general.architecture", TEXT, architecture.as_bytes()));
            with_gguf(&metadata, |gguf| {
                let config =
                    MistralConfig::from_gguf(gguf, true, 48, |part| part == "attn_q.bias" && architecture == "qwen2");
                config.map(|config| config.sliding_window).map_err(|error| error.to_string())
            })
        };
        assert_eq!(of("llama"), Ok(Some(8)));
        for architecture in ["qwen2", "qwen3", "smollm3"] {
            assert!(of(architecture).unwrap_err().contains("attention.sliding_window"), "{architecture}");
        }
        assert!(of("gemma3").unwrap_err().contains("gemma3"));
    }

    const U32: u32 = 4;
    const F32: u32 = 6;
    const BOOL: u32 = 7;
    const TEXT: u32 = 8;

    #[test]
    fn metadata_that_mean_another_network_are_refused_by_name() {
        let refused: [(&str, u32, Vec<u8>); 8] = [
            ("llama.rope.scaling.attn_factor", F32, 1.5f32.to_le_bytes().to_vec()),
            ("llama.expert_count", U32, 8u32.to_le_bytes().to_vec()),
            ("llama.pooling_type", U32, 1u32.to_le_bytes().to_vec()),
            ("llama.attention.causal", BOOL, vec![0]),
            ("llama.use_parallel_residual", BOOL, vec![1]),
            ("llama.attention.clamp_kqv", F32, 8f32.to_le_bytes().to_vec()),
            ("llama.logit_scale", F32, 2f32.to_le_bytes().to_vec()),
            ("general.type", TEXT, b"adapter".to_vec()),
        ];
        for (name, kind, value) in &refused {
            let said = said(&[(name, *kind, value)]).unwrap_or_default();
            assert!(said.contains(name), "{name}: {said}");
        }
    }

    #[test]
    fn metadata_without_effect_are_passed_over() {
        let one = 1f32.to_le_bytes();
        let zero = 0u32.to_le_bytes();
        assert_eq!(
            said(&[
                ("general.type", TEXT, b"model"),
                ("general.a_note", TEXT, b"whatever"),
                ("llama.rope.scaling.type", TEXT, b"none"),
                ("llama.rope.scaling.factor", F32, &8f32.to_le_bytes()),
                ("llama.rope.scaling.attn_factor", F32, &one),
                ("llama.expert_count", U32, &zero),
                ("llama.attention.causal", BOOL, &[1]),
                ("llama.vocab_size", U32, &zero),
            ]),
            None
        );
    }
}
