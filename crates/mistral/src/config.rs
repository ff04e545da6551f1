//! The shape of a Mistral-family network, from `config.json` or from a GGUF's metadata.

use foehn_weights::Gguf;
use serde_json::{Map, Value, json};

use crate::Error;

mod known;
mod rope;

pub use rope::RopeScaling;

/// The fields of `config.json` that the computation depends on, with the same names.
#[derive(Clone, Debug, PartialEq)]
pub struct MistralConfig {
    /// Width of the residual stream (`d_model`).
    pub hidden_size: usize,
    /// Width of the feed-forward block.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads.
    pub num_key_value_heads: usize,
    /// Width of a head; not always `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// The longest sequence that the model supports, in tokens.
    pub max_position_embeddings: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are scaled; `None` if they are not.
    pub rope_scaling: Option<RopeScaling>,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// A query sees itself and the `sliding_window - 1` tokens before it; `None` sees all.
    pub sliding_window: Option<usize>,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// The first token of a sequence.
    pub bos_token_id: Option<u32>,
    /// Every token that ends a generation.
    pub eos_token_id: Vec<u32>,
}

impl MistralConfig {
    /// Reads a `config.json` as transformers 4 or 5 writes it.
    ///
    /// A `llama` config without biases is the same network and is accepted.
    ///
    /// # Errors
    /// [`Error::ConfigSyntax`]; [`Error::ConfigField`] naming a field that is missing, or one whose value is not
    /// supported (an unknown scaling of RoPE, biases, another activation or `model_type`).
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let value: Value = serde_json::from_str(text).map_err(|source| Error::ConfigSyntax { source })?;
        let Value::Object(map) = value else {
            return Err(field("config.json", "a list or a scalar", "an object"));
        };
        let json = Json(&map);
        let model_type = json.text("model_type")?.unwrap_or_default();
        if !["mistral", "llama"].contains(&model_type) {
            return Err(field("model_type", show(map.get("model_type")), "mistral or llama"));
        }
        json.refuse_unsupported()?;
        known::check_json(&map)?;
        let heads = json.required("num_attention_heads")?;
        let hidden_size = json.required("hidden_size")?;
        let window = match map.get("sliding_window") {
            None if model_type == "mistral" => Some(4096),
            None => None,
            Some(_) => json.count("sliding_window")?,
        };
        let window = match json.flag("use_sliding_window")? {
            Some(false) => None,
            _ => window,
        };
        let layers = json.required("num_hidden_layers")?;
        json.check_layer_types(layers, window)?;
        let max_position_embeddings = json.count("max_position_embeddings")?.unwrap_or(match model_type {
            "mistral" => 4096 * 32,
            _ => 2048,
        });
        Self {
            hidden_size,
            intermediate_size: json.required("intermediate_size")?,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            // As in transformers: null means the number of attention heads for both model types; an absent field means
            // 8 for Mistral.
            num_key_value_heads: json.count("num_key_value_heads")?.unwrap_or(match model_type {
                "mistral" if !map.contains_key("num_key_value_heads") => 8,
                _ => heads,
            }),
            head_dim: json.count("head_dim")?.unwrap_or(hidden_size / heads.max(1)),
            vocab_size: json.required("vocab_size")?,
            max_position_embeddings,
            rope_theta: json.rope_theta()?,
            rope_scaling: RopeScaling::from_json(&json, max_position_embeddings)?,
            rms_norm_eps: json.number("rms_norm_eps")?.unwrap_or(1e-6),
            sliding_window: window,
            tie_word_embeddings: json.flag("tie_word_embeddings")?.unwrap_or(false),
            bos_token_id: json.ids("bos_token_id")?.first().copied(),
            eos_token_id: json.ids("eos_token_id")?,
        }
        .checked()
    }

    /// Reads the metadata of a GGUF of architecture `llama` (llama.cpp's name for Mistral too).
    ///
    /// # Errors
    /// [`Error::ConfigField`] naming a key that is missing or not supported, [`Error::Weights`] for a value of a type
    /// that the format does not allow there.
    pub fn from_gguf(gguf: &Gguf, tied: bool, vocab_size: usize) -> Result<Self, Error> {
        let architecture = gguf.get_str("general.architecture")?.unwrap_or("nothing");
        if architecture != "llama" {
            return Err(field("general.architecture", architecture, "llama"));
        }
        known::check_gguf(gguf)?;
        let count = |key: &str| gguf.get_u32(key).map(|value| value.map(|value| value as usize));
        let required = |key: &str| count(key)?.ok_or_else(|| field(key, "nothing", "a number"));
        let heads = required("llama.attention.head_count")?;
        let hidden_size = required("llama.embedding_length")?;
        let head_dim = count("llama.attention.key_length")?.unwrap_or(hidden_size / heads.max(1));
        for key in ["llama.rope.dimension_count", "llama.attention.value_length"] {
            if let Some(found) = count(key)?.filter(|&found| found != head_dim) {
                return Err(field(key, found, head_dim));
            }
        }
        Self {
            hidden_size,
            intermediate_size: required("llama.feed_forward_length")?,
            num_hidden_layers: required("llama.block_count")?,
            num_attention_heads: heads,
            num_key_value_heads: count("llama.attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            vocab_size,
            max_position_embeddings: required("llama.context_length")?,
            // The file stores an f32. Its shortest decimal is the value in the author's config.
            rope_theta: gguf.get_f32("llama.rope.freq_base")?.map_or(1e4, decimal),
            rope_scaling: RopeScaling::from_gguf(gguf)?,
            rms_norm_eps: gguf.get_f32("llama.attention.layer_norm_rms_epsilon")?.map_or(1e-6, decimal),
            sliding_window: count("llama.attention.sliding_window")?.filter(|&window| window > 0),
            tie_word_embeddings: tied,
            bos_token_id: gguf.get_u32("tokenizer.ggml.bos_token_id")?,
            eos_token_id: gguf.get_u32("tokenizer.ggml.eos_token_id")?.into_iter().collect(),
        }
        .checked()
    }

    /// The config as a `config.json` for f32 weights. From it, transformers builds the same network.
    pub fn to_json(&self) -> Value {
        json!({
            "architectures": ["MistralForCausalLM"],
            "model_type": "mistral",
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.max_position_embeddings,
            "rope_theta": self.rope_theta,
            "rope_scaling": self.rope_scaling.as_ref().map(RopeScaling::to_json),
            "rms_norm_eps": self.rms_norm_eps,
            "sliding_window": self.sliding_window,
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id,
            "torch_dtype": "float32",
        })
    }

    /// Takes the scaling that the divisors of the frequencies in a GGUF mean.
    pub(crate) fn scale_frequencies(&mut self, divisors: &[f32]) -> Result<(), Error> {
        if let Some(scaling) = &self.rope_scaling {
            return Err(field("rope_freqs.weight", format!("beside {scaling:?}"), "one scaling"));
        }
        self.rope_scaling = Some(RopeScaling::from_divisors(divisors, self.head_dim, self.rope_theta)?);
        Ok(())
    }

    /// The frequencies of the rotation.
    pub fn rope(&self) -> foehn_kernels::Rope {
        RopeScaling::rope(self.rope_scaling.as_ref(), self.head_dim, self.rope_theta)
    }

    /// Checks once the properties that later code relies on.
    fn checked(self) -> Result<Self, Error> {
        let counts = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("sliding_window", self.sliding_window.unwrap_or(1)),
        ];
        for (name, value) in counts {
            if value == 0 || value > 1 << 30 {
                return Err(field(name, value, "a number from 1 to 2^30"));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let expected = format!("a divisor of num_attention_heads = {}", self.num_attention_heads);
            return Err(field("num_key_value_heads", self.num_key_value_heads, expected));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(field("head_dim", self.head_dim, "an even number"));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta > 0.0) {
            return Err(field("rope_theta", self.rope_theta, "a positive number"));
        }
        let is_usable = |frequency: &f32| frequency.is_finite() && *frequency > 0.0;
        if !self.rope().frequencies().iter().all(is_usable) {
            return Err(field(
                "rope_scaling",
                format!("{:?}", self.rope_scaling),
                "settings whose frequencies are numbers",
            ));
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return Err(field("rms_norm_eps", self.rms_norm_eps, "a number of at least 0"));
        }
        Ok(self)
    }
}

/// A JSON object. Its getters return errors that name the field. `null` counts as absent.
struct Json<'a>(&'a Map<String, Value>);

impl<'a> Json<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn count(&self, name: &str) -> Result<Option<usize>, Error> {
        self.get(name)
            .map(|value| value.as_u64().map(|n| n as usize).ok_or_else(|| field(name, value, "a whole number")))
            .transpose()
    }

    fn required(&self, name: &str) -> Result<usize, Error> {
        self.count(name)?.ok_or_else(|| field(name, "nothing", "a whole number"))
    }

    fn number(&self, name: &str) -> Result<Option<f64>, Error> {
        self.get(name).map(|value| value.as_f64().ok_or_else(|| field(name, value, "a number"))).transpose()
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, Error> {
        self.get(name).map(|value| value.as_str().ok_or_else(|| field(name, value, "a string"))).transpose()
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        self.get(name).map(|value| value.as_bool().ok_or_else(|| field(name, value, "true or false"))).transpose()
    }

    /// An id or a list of ids.
    fn ids(&self, name: &str) -> Result<Vec<u32>, Error> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let one = |value: &Value| {
            value
                .as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| field(name, value, "a token id or a list of them"))
        };
        match value {
            Value::Array(list) => list.iter().map(one).collect(),
            single => Ok(vec![one(single)?]),
        }
    }

    /// transformers 5 writes `rope_parameters: {rope_theta, rope_type}`, transformers 4 wrote `rope_theta`.
    fn rope_theta(&self) -> Result<f64, Error> {
        let nested = self.get("rope_parameters").and_then(Value::as_object).map(Json);
        let theta = match nested {
            Some(rope) => rope.number("rope_theta")?,
            None => None,
        };
        Ok(theta.or(self.number("rope_theta")?).unwrap_or(1e4))
    }

    fn refuse_unsupported(&self) -> Result<(), Error> {
        // Both are names of the same function.
        let activation = self.text("hidden_act")?.unwrap_or("silu");
        if !["silu", "swish"].contains(&activation) {
            return Err(field("hidden_act", activation, "silu"));
        }
        Ok(())
    }

    /// Checks that every layer has the attention type that the window implies.
    fn check_layer_types(&self, layers: usize, window: Option<usize>) -> Result<(), Error> {
        let Some(value) = self.get("layer_types") else { return Ok(()) };
        let kind = if window.is_some() { "sliding_attention" } else { "full_attention" };
        let is_one_kind = |list: &Vec<Value>| list.len() == layers && list.iter().all(|found| found == kind);
        match value.as_array().is_some_and(is_one_kind) {
            true => Ok(()),
            false => Err(field("layer_types", value, format!("{layers} times {kind:?}"))),
        }
    }
}

fn show(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".into(), Value::to_string)
}

fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn field(name: impl Into<String>, found: impl ToString, expected: impl ToString) -> Error {
    Error::ConfigField { field: name.into(), found: found.to_string(), expected: expected.to_string() }
}

#[cfg(test)]
mod tests {
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
            assert_eq!(
                (config.head_dim, config.sliding_window, config.rope_theta),
                (head_dim, window, theta),
                "{rest}"
            );
            assert_eq!(MistralConfig::from_json(&config.to_json().to_string()).unwrap(), config, "{rest}");
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
        check(r#""model_type": "ministral3", "vocab_size": 9"#, "model_type");
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
            (r#""quantization_config": {"quant_method": "fp8"}"#, "quantization_config"),
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
}
