//! `params.json` of Mistral's own checkpoints.

use serde_json::{Map, Value};

use super::{Json, MistralConfig, ModelType, QueryScale, RopeScaling, field};
use crate::Error;

/// Keys that are read.
const READ: [&str; 17] = [
    "dim",
    "n_layers",
    "head_dim",
    "hidden_dim",
    "n_heads",
    "n_kv_heads",
    "norm_eps",
    "vocab_size",
    "rope_theta",
    "sliding_window",
    "max_position_embeddings",
    "max_seq_len",
    "tied_embeddings",
    "use_biases",
    "causal",
    "yarn",
    "llama_4_scaling",
];

/// Keys that do not affect the language model: the vision model beside it, and how a program runs it.
const WITHOUT_EFFECT: [&str; 7] =
    ["vision_encoder", "multimodal", "model_parallel", "ragged_attention", "model_type", "max_batch_size", "dtype"];

impl MistralConfig {
    /// Whether a file is a `params.json`.
    pub(super) fn is_params(map: &Map<String, Value>) -> bool {
        map.contains_key("dim") && map.contains_key("n_layers")
    }

    /// The network of a `params.json`.
    pub(super) fn from_params(map: &Map<String, Value>) -> Result<Self, Error> {
        let json = Json(map);
        for (key, value) in map.iter().filter(|(_, value)| !is_off(value)) {
            if !READ.contains(&key.as_str()) && !WITHOUT_EFFECT.contains(&key.as_str()) {
                return Err(field(key, value, "no such key: it is not known here, and may mean another network"));
            }
        }
        for (key, expected) in [("use_biases", false), ("causal", true)] {
            if let Some(found) = json.flag(key)?.filter(|found| *found != expected) {
                return Err(field(key, found, expected));
            }
        }
        let (hidden_size, heads) = (json.required("dim")?, json.required("n_heads")?);
        let max_position_embeddings = match json.count("max_position_embeddings")? {
            Some(length) => length,
            None => json.count("max_seq_len")?.unwrap_or(4096 * 32),
        };
        let query_scale = query_scale(&json)?;
        let layers = json.required("n_layers")?;
        if layers > super::MOST_LAYERS {
            return Err(field("n_layers", layers, format!("at most {}", super::MOST_LAYERS)));
        }
        Self {
            model_type: if query_scale.is_some() { ModelType::Ministral3 } else { ModelType::Mistral },
            is_wrapped: false,
            hidden_size,
            intermediate_size: json.required("hidden_dim")?,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: json.count("n_kv_heads")?.unwrap_or(heads),
            head_dim: json.count("head_dim")?.unwrap_or(hidden_size / heads.max(1)),
            vocab_size: json.required("vocab_size")?,
            max_position_embeddings,
            rope_theta: json.number("rope_theta")?.unwrap_or(1e4),
            rope_scaling: yarn(&json)?,
            query_scale,
            layers_without_rope: Vec::new(),
            rms_norm_eps: json.number("norm_eps")?.unwrap_or(1e-5),
            sliding_window: json.count("sliding_window")?,
            layers_without_window: Vec::new(),
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            qk_norm: false,
            tie_word_embeddings: json.flag("tied_embeddings")?.unwrap_or(false),
            // The ids of `<s>` and `</s>` in every tokenizer of Mistral's.
            bos_token_id: Some(1),
            eos_token_id: vec![2],
        }
        .checked()
    }
}

/// Whether a value says that something is not there.
fn is_off(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false))
}

fn inner<'a>(json: &Json<'a>, name: &str, read: &[&str]) -> Result<Option<Json<'a>>, Error> {
    let Some(value) = json.get(name) else { return Ok(None) };
    let Some(map) = value.as_object() else { return Err(field(name, value, "an object")) };
    match map.keys().find(|key| !read.contains(&key.as_str())) {
        Some(key) => Err(field(format!("{name}.{key}"), &map[key], "no such key: it may mean another rotation")),
        None => Ok(Some(Json(map))),
    }
}

fn query_scale(json: &Json<'_>) -> Result<Option<QueryScale>, Error> {
    match inner(json, "llama_4_scaling", &["original_max_position_embeddings", "beta"])? {
        None => Ok(None),
        Some(scale) => {
            let beta = scale.number("beta")?.ok_or_else(|| field("llama_4_scaling.beta", "nothing", "a number"))?;
            super::rope::query_scale_of(beta, scale.required("original_max_position_embeddings")?)
        }
    }
}

fn yarn(json: &Json<'_>) -> Result<Option<RopeScaling>, Error> {
    let read = ["original_max_position_embeddings", "factor", "apply_scale", "alpha", "beta"];
    let Some(yarn) = inner(json, "yarn", &read)? else { return Ok(None) };
    let positive = |key: &str, usual: Option<f64>| {
        let value = yarn.number(key)?.or(usual).unwrap_or(0.0);
        let is_usable = value > 0.0 && value.is_finite();
        if is_usable { Ok(value) } else { Err(field(format!("yarn.{key}"), value, "a positive number")) }
    };
    let applies = yarn.flag("apply_scale")?.unwrap_or(true);
    Ok(Some(RopeScaling::Yarn {
        factor: positive("factor", None)?,
        original_max_position_embeddings: yarn.required("original_max_position_embeddings")?.max(1),
        beta_fast: positive("beta", Some(32.0))?,
        beta_slow: positive("alpha", Some(1.0))?,
        attention_factor: (!applies).then_some(1.0),
        mscale: None,
        mscale_all_dim: None,
        truncate: true,
    }))
}
