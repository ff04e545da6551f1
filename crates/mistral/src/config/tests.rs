//! Configs as they are published, and what is refused.

use super::*;

/// A base for the configs of the tests: each test changes some fields of it.
const BASE: &str = r#""hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8"#;

fn parse(rest: &str) -> Result<MistralConfig, Error> {
    MistralConfig::from_json(&format!("{{{BASE}, {rest}}}"))
}

#[test]
fn published_configs() {
    let check = |rest: &str, head_dim, window: Option<usize>, theta: f64| {
        let config = parse(rest).unwrap();
        assert_eq!((config.head_dim, config.sliding_window, config.rope_theta), (head_dim, window, theta), "{rest}");
        assert_eq!(MistralConfig::from_json(&config.to_json().unwrap().to_string()).unwrap(), config, "{rest}");
    };
    let v01 = r#""model_type": "mistral", "vocab_size": 32000, "rope_theta": 10000.0"#;
    check(&format!(r#"{v01}, "sliding_window": 4096"#), 128, Some(4096), 1e4);
    check(v01, 128, Some(4096), 1e4);
    check(&format!(r#"{v01}, "sliding_window": null"#), 128, None, 1e4);
    check(
        r#""model_type": "mistral", "vocab_size": 131072, "head_dim": 160, "sliding_window": 32768,
           "rope_parameters": {"rope_theta": 1e8, "rope_type": "default"}, "eos_token_id": [2, 4]"#,
        160,
        Some(32768),
        1e8,
    );
    check(r#""model_type": "llama", "vocab_size": 49152, "rope_theta": 100000, "bos_token_id": 1"#, 128, None, 1e5);
}

/// Fields that transformers and others write, and that have no effect.
#[test]
fn published_configs_carry_more_than_counts() {
    let smollm2 = r#""model_type": "llama", "vocab_size": 49152, "architectures": ["LlamaForCausalLM"],
        "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "initializer_range": 0.041666666666666664, "is_llama_config": true, "max_position_embeddings": 8192,
        "mlp_bias": false, "pad_token_id": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": false,
        "rope_scaling": null, "rope_theta": 100000, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}, "transformers_version": "4.42.3",
        "use_cache": true"#;
    let config = parse(smollm2).unwrap();
    assert_eq!((config.rope_theta, config.tie_word_embeddings), (1e5, true));
    let unsloth = r#""model_type": "mistral", "vocab_size": 32768, "_name_or_path": "x", "unsloth_version": "2026.1",
        "dtype": "bfloat16", "layer_types": null, "quantization_config": null, "use_sliding_window": false,
        "rope_parameters": {"rope_theta": 1e6, "rope_type": "default", "factor": 1.0}, "auto_map": {"AutoTokenizer": "t"}"#;
    let config = parse(unsloth).unwrap();
    assert_eq!((config.rope_theta, config.sliding_window), (1e6, None));
    let layers = vec![r#""full_attention""#; 32].join(", ");
    parse(&format!(r#""model_type": "llama", "vocab_size": 9, "layer_types": [{layers}]"#)).unwrap();
}

#[test]
fn null_key_value_heads_are_all_heads() {
    let heads = |kind: &str, rest: &str| {
        let config = format!(
            r#"{{"model_type": "{kind}", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
            "num_attention_heads": 16, "vocab_size": 9{rest}}}"#
        );
        MistralConfig::from_json(&config).unwrap().num_key_value_heads
    };
    assert_eq!(heads("mistral", r#", "num_key_value_heads": null"#), 16);
    assert_eq!(heads("llama", r#", "num_key_value_heads": null"#), 16);
    assert_eq!(heads("mistral", ""), 8);
    assert_eq!(heads("llama", ""), 16);
}

#[test]
fn unsupported_fields_are_named() {
    let check = |rest: &str, name: &str| match parse(rest) {
        Err(Error::ConfigField { field, .. }) => assert_eq!(field, name, "{rest}"),
        other => panic!("{rest}: {other:?}"),
    };
    let good = r#""model_type": "mistral", "vocab_size": 9"#;
    check(r#""model_type": "mixtral", "vocab_size": 9"#, "model_type");
    check(r#""model_type": "gemma3_text", "vocab_size": 9"#, "model_type");
    check(r#""model_type": "ministral3", "vocab_size": 9"#, "rope_parameters");
    check(r#""vocab_size": 9"#, "model_type");
    check(r#""model_type": "mistral""#, "vocab_size");
    check(&format!(r#"{good}, "hidden_act": "gelu""#), "hidden_act");
    check(&format!(r#"{good}, "attention_bias": true"#), "attention_bias");
    check(&format!(r#"{good}, "mlp_bias": true"#), "mlp_bias");
    check(&format!(r#"{good}, "rope_scaling": {{"rope_type": "yarn"}}"#), "rope_scaling.factor");
    check(&format!(r#"{good}, "rope_parameters": {{"rope_type": "llama3"}}"#), "rope_parameters.low_freq_factor");
    for (rest, name) in [
        (r#""attention_bias": 1"#, "attention_bias"),
        (r#""qkv_bias": true"#, "qkv_bias"),
        (r#""tie_word_embeddings": "yes""#, "tie_word_embeddings"),
        (r#""quantization_config": {"quant_method": "awq"}"#, "quantization_config.quant_method"),
        (r#""partial_rotary_factor": 0.5"#, "partial_rotary_factor"),
        (r#""rope_interleaved": true"#, "rope_interleaved"),
        (r#""layer_types": ["full_attention", "sliding_attention"]"#, "layer_types"),
        (r#""auto_map": {"AutoModelForCausalLM": "code.Model"}"#, "auto_map"),
        (r#""no_rope_layers": [1, 1, 0]"#, "no_rope_layers"),
        (r#""logit_scale": 0.0625"#, "logit_scale"),
        (r#""num_local_experts": 8"#, "num_local_experts"),
        (r#""final_logit_softcapping": 30.0"#, "final_logit_softcapping"),
        (r#""rope_scaling": {"factor": 8.0}"#, "rope_scaling.factor"),
        (r#""rope_scaling": {"rope_type": 3}"#, "rope_scaling.rope_type"),
        (r#""rope_scaling": {"type": "dynamic", "factor": 2.0}"#, "rope_scaling.type"),
        (r#""rope_scaling": {"rope_type": "longrope", "short_factor": [1.0]}"#, "rope_scaling.rope_type"),
        (r#""rope_scaling": {"type": "linear", "factor": -2.0}"#, "rope_scaling.factor"),
        (r#""rope_scaling": {"type": "linear", "factor": 2.0, "beta_fast": 32}"#, "rope_scaling.beta_fast"),
        (
            r#""rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "linear", "factor": 4.0}"#,
            "rope_scaling",
        ),
        (
            r#""rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1}"#,
            "rope_scaling.high_freq_factor",
        ),
        (r#""rope_theta": 1.0, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}"#, "rope_scaling"),
        (
            r#""rope_scaling": {"rope_type": "yarn", "factor": 4.0, "mscale": -100.0, "mscale_all_dim": 1.0}"#,
            "rope_scaling",
        ),
        (r#""rope_parameters": {"full_attention": {"rope_type": "default"}}"#, "rope_parameters.full_attention"),
        (r#""rope_parameters": {"partial_rotary_factor": 0.25}"#, "rope_parameters.partial_rotary_factor"),
    ] {
        check(&format!("{good}, {rest}"), name);
    }
    check(&format!(r#"{good}, "head_dim": 15"#), "head_dim");
    check(&format!(r#"{good}, "head_dim": "16""#), "head_dim");
    check(&format!(r#"{good}, "sliding_window": 0"#), "sliding_window");
    check(&format!(r#"{good}, "eos_token_id": "x""#), "eos_token_id");
    assert!(matches!(MistralConfig::from_json("{"), Err(Error::ConfigSyntax { .. })));
    assert!(matches!(MistralConfig::from_json("[]"), Err(Error::ConfigField { .. })));
}
