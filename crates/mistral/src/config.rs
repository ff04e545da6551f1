//! The shape of a Mistral-family network, from `config.json` or from a GGUF's metadata.

use foehn_weights::Gguf;
use serde_json::{Map, Value, json};

use crate::Error;

mod family;
mod gguf;
mod known;
mod params;
mod rope;

pub use family::ModelType;
use family::{Biases, Family, Windows};
pub use foehn_kernels::QueryScale;
pub use rope::RopeScaling;

/// More than any published model has.
const MOST_LAYERS: usize = 4096;

/// The fields of `config.json` that the computation depends on, with the same names.
#[derive(Clone, Debug, PartialEq)]
pub struct MistralConfig {
    /// The family.
    pub model_type: ModelType,
    /// Whether it is the language model of a wrapper `mistral3`. Its modules' names then begin with
    /// `model.language_model.` and not with `model.`, as transformers and PEFT name them.
    pub is_wrapped: bool,
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
    /// The factor of the queries that grows with the position (`llama_4_scaling_beta` of `rope_parameters`).
    pub query_scale: Option<QueryScale>,
    /// The layers that do not rotate queries and keys, in ascending order (a 0 in `no_rope_layers`).
    pub layers_without_rope: Vec<usize>,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// A query sees itself and the `sliding_window - 1` tokens before it; `None` sees all.
    pub sliding_window: Option<usize>,
    /// The layers without the window, in ascending order (`full_attention` in `layer_types`).
    pub layers_without_window: Vec<usize>,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether o has a bias.
    pub o_bias: bool,
    /// Whether the projections of the feed-forward block have biases.
    pub mlp_bias: bool,
    /// Whether each head of the queries and keys is normalised before its rotation.
    pub qk_norm: bool,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// The first token of a sequence.
    pub bos_token_id: Option<u32>,
    /// Every token that ends a generation.
    pub eos_token_id: Vec<u32>,
}

impl MistralConfig {
    /// Reads a `config.json` as transformers 4 or 5 writes it, or a `params.json` of Mistral's own checkpoints.
    ///
    /// The families are those of [`ModelType`]. Of a wrapper `mistral3` of a language model and a vision model, the language
    /// model is read.
    ///
    /// # Errors
    /// [`Error::ConfigSyntax`]; [`Error::ConfigField`] naming a field that is missing, or one whose value is not
    /// supported (an unknown scaling of RoPE, another activation or `model_type`).
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let value: Value = serde_json::from_str(text).map_err(|source| Error::ConfigSyntax { source })?;
        let Value::Object(map) = value else {
            return Err(field("config.json", "a list or a scalar", "an object"));
        };
        if Self::is_params(&map) {
            return Self::from_params(&map);
        }
        // A wrapper of a vision model around a language model, which alone is read.
        if map.get("model_type").and_then(Value::as_str) == Some("mistral3") {
            known::check_wrapper(&map)?;
            return Ok(Self { is_wrapped: true, ..Self::from_map(family::text_config(&map)?)? });
        }
        Self::from_map(&map)
    }

    fn from_map(map: &Map<String, Value>) -> Result<Self, Error> {
        let json = Json(map);
        let family = Family::of_json(&json)?;
        json.refuse_unsupported()?;
        known::check_json(map, family)?;
        let heads = json.required("num_attention_heads")?;
        let hidden_size = json.required("hidden_size")?;
        let layers = json.required("num_hidden_layers")?;
        if layers > MOST_LAYERS {
            return Err(field("num_hidden_layers", layers, format!("at most {MOST_LAYERS}")));
        }
        let max_position_embeddings = json.count("max_position_embeddings")?.unwrap_or(family.max_positions);
        let layers_without_rope = family.unrotated(&json, layers)?;
        let window = family.window(&json, &layers_without_rope, layers)?;
        let attention_bias = json.flag("attention_bias")?.unwrap_or(false);
        let (rope_scaling, query_scale) = RopeScaling::from_json(&json, max_position_embeddings, family.query_scale)?;
        Self {
            model_type: family.kind,
            is_wrapped: false,
            hidden_size,
            intermediate_size: json.required("intermediate_size")?,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            // As in transformers: null means the number of attention heads.
            num_key_value_heads: match (json.count("num_key_value_heads")?, family.kv_heads) {
                (Some(count), _) => count,
                (None, Some(count)) if !map.contains_key("num_key_value_heads") => count,
                _ => heads,
            },
            head_dim: json.count("head_dim")?.or(family.head_dim).unwrap_or(hidden_size / heads.max(1)),
            vocab_size: json.required("vocab_size")?,
            max_position_embeddings,
            rope_theta: json.rope_theta()?.unwrap_or(family.theta),
            rope_scaling,
            query_scale,
            layers_without_rope,
            rms_norm_eps: json.number("rms_norm_eps")?.unwrap_or(family.eps),
            sliding_window: window.width,
            layers_without_window: window.without,
            qkv_bias: attention_bias || family.biases == Biases::Inputs,
            o_bias: attention_bias,
            mlp_bias: json.flag("mlp_bias")?.unwrap_or(false),
            qk_norm: family.qk_norm,
            tie_word_embeddings: json.flag("tie_word_embeddings")?.unwrap_or(family.tied),
            bos_token_id: json.ids("bos_token_id")?.first().copied(),
            eos_token_id: json.ids("eos_token_id")?,
        }
        .checked()
    }

    /// Reads the metadata of a GGUF of the architecture `llama` (llama.cpp's name for Mistral too), `mistral3`, `qwen2`,
    /// `qwen3` or `smollm3`. `has` says whether the file has a tensor of the first layer, such as `attn_q.bias`.
    ///
    /// # Errors
    /// [`Error::ConfigField`] naming a key that is missing or not supported, [`Error::Weights`] for a value of a type
    /// that the format does not allow there.
    pub fn from_gguf(gguf: &Gguf, tied: bool, vocab_size: usize, has: impl Fn(&str) -> bool) -> Result<Self, Error> {
        let architecture = gguf.get_str("general.architecture")?.unwrap_or("nothing");
        let (family, name) = Family::of_gguf(architecture)?;
        let (qkv_bias, o_bias, mlp_bias) = (has("attn_q.bias"), has("attn_output.bias"), has("ffn_gate.bias"));
        // The architecture `llama` is that of both; only one has biases.
        let is_llama = family.kind == ModelType::Mistral && (qkv_bias || mlp_bias);
        let family = if is_llama { ModelType::Llama.family() } else { family };
        known::check_gguf(gguf, name)?;
        let full = |key: &str| format!("{name}.{key}");
        let count = |key: &str| gguf.get_u32(&full(key)).map(|value| value.map(|value| value as usize));
        let number = |key: &str| gguf.get_f32(&full(key));
        let required = |key: &str| count(key)?.ok_or_else(|| field(full(key), "nothing", "a number"));
        let heads = required("attention.head_count")?;
        let hidden_size = required("embedding_length")?;
        let head_dim = count("attention.key_length")?.unwrap_or(hidden_size / heads.max(1));
        for key in ["rope.dimension_count", "attention.value_length"] {
            if let Some(found) = count(key)?.filter(|&found| found != head_dim) {
                return Err(field(full(key), found, head_dim));
            }
        }
        let layers = required("block_count")?;
        if layers > MOST_LAYERS {
            return Err(field(full("block_count"), layers, format!("at most {MOST_LAYERS}")));
        }
        let window = count("attention.sliding_window")?.filter(|&window| window > 0);
        if let Some(window) = window.filter(|_| family.windows != Windows::All) {
            // Only some layers would have it, and no key says which.
            return Err(field(full("attention.sliding_window"), window, 0));
        }
        let (rope_scaling, query_scale) = RopeScaling::from_gguf(gguf, name, family.query_scale)?;
        Self {
            model_type: family.kind,
            is_wrapped: false,
            hidden_size,
            intermediate_size: required("feed_forward_length")?,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: count("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            vocab_size,
            max_position_embeddings: required("context_length")?,
            // The file stores an f32. Its shortest decimal is the value in the author's config.
            rope_theta: number("rope.freq_base")?.map_or(1e4, decimal),
            rope_scaling,
            query_scale,
            // No key says so: llama.cpp has it in its code.
            layers_without_rope: if family.unrotated { family::every(4, layers) } else { Vec::new() },
            rms_norm_eps: number("attention.layer_norm_rms_epsilon")?.map_or(1e-6, decimal),
            sliding_window: window,
            layers_without_window: Vec::new(),
            qkv_bias,
            o_bias,
            mlp_bias,
            qk_norm: family.qk_norm,
            tie_word_embeddings: tied,
            bos_token_id: gguf.get_u32("tokenizer.ggml.bos_token_id")?,
            eos_token_id: gguf.get_u32("tokenizer.ggml.eos_token_id")?.into_iter().collect(),
        }
        .checked()
    }

    /// Whether a layer's queries see the [window](Self::sliding_window) alone.
    pub fn is_windowed(&self, layer: usize) -> bool {
        self.sliding_window.is_some() && !self.layers_without_window.contains(&layer)
    }

    /// Whether a layer rotates its queries and keys.
    pub fn is_rotated(&self, layer: usize) -> bool {
        !self.layers_without_rope.contains(&layer)
    }

    /// The name of a module as transformers and PEFT have it, given its name in a language model by itself.
    pub fn module_name(&self, name: &str) -> String {
        match name.strip_prefix("model.").filter(|_| self.is_wrapped) {
            Some(rest) => format!("model.language_model.{rest}"),
            None => name.to_owned(),
        }
    }

    /// The name of a module in a language model by itself, given that of transformers and PEFT.
    pub fn language_module(&self, name: &str) -> String {
        match name.strip_prefix("model.language_model.").filter(|_| self.is_wrapped) {
            Some(rest) => format!("model.{rest}"),
            None => name.to_owned(),
        }
    }

    /// Whether the rows of q and k are in interleaved pairs in a GGUF of this network.
    pub fn is_interleaved_in_gguf(&self) -> bool {
        self.model_type.family().interleaved
    }

    /// The config as a `config.json` for f32 weights, of a language model by itself. From it, transformers builds the same
    /// network.
    ///
    /// # Errors
    /// [`Error::ConfigField`] for rotary frequencies that a `config.json` cannot express.
    pub fn to_json(&self) -> Result<Value, Error> {
        if let Some(RopeScaling::Divisors { .. }) = self.rope_scaling {
            let found = "divisors of the frequencies that no `rope_type` has";
            return Err(field("rope_freqs.weight", found, "those of a published Llama 3 model"));
        }
        let family = self.model_type.family();
        let mut value = json!({
            "architectures": [family.class],
            "model_type": family.model_type,
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
            "rope_scaling": RopeScaling::to_json(self.rope_scaling.as_ref(), self.query_scale),
            "rms_norm_eps": self.rms_norm_eps,
            "sliding_window": self.sliding_window,
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id,
            "torch_dtype": "float32",
        });
        if family.biases == Biases::Asked {
            value["attention_bias"] = self.o_bias.into();
        }
        if family.mlp_bias {
            value["mlp_bias"] = self.mlp_bias.into();
        }
        if matches!(family.windows, Windows::Typed | Windows::Last | Windows::Unrotated) {
            let kind = |layer| if self.is_windowed(layer) { "sliding_attention" } else { "full_attention" };
            value["layer_types"] = (0..self.num_hidden_layers).map(kind).collect();
        }
        if matches!(family.windows, Windows::Last | Windows::Unrotated) {
            value["use_sliding_window"] = self.sliding_window.is_some().into();
        }
        if family.unrotated {
            let flag = |layer| u8::from(self.is_rotated(layer));
            value["no_rope_layers"] = (0..self.num_hidden_layers).map(flag).collect();
        }
        Ok(value)
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
        RopeScaling::rope(self.rope_scaling.as_ref(), self.head_dim, self.rope_theta).with_query_scale(self.query_scale)
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
        let are_possible = match self.model_type.family().biases {
            Biases::None => !self.qkv_bias && !self.o_bias,
            Biases::Inputs => self.qkv_bias && !self.o_bias,
            Biases::Asked => self.qkv_bias == self.o_bias,
        };
        if !are_possible {
            let found = format!("q, k, v: {}, o: {}", self.qkv_bias, self.o_bias);
            return Err(field("attention_bias", found, "biases as this type of model has them"));
        }
        if self.mlp_bias && !self.model_type.family().mlp_bias {
            return Err(field("mlp_bias", true, false));
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
        let factor = self.rope_scaling.as_ref().map_or(1.0, RopeScaling::attention_factor) as f32;
        if !self.rope().frequencies().iter().chain([&factor]).all(is_usable) {
            return Err(field(
                "rope_scaling",
                format!("{:?}", self.rope_scaling),
                "settings whose frequencies and factor are positive numbers",
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
    fn rope_theta(&self) -> Result<Option<f64>, Error> {
        let nested = self.get("rope_parameters").and_then(Value::as_object).map(Json);
        let theta = match nested {
            Some(rope) => rope.number("rope_theta")?,
            None => None,
        };
        Ok(theta.or(self.number("rope_theta")?))
    }

    fn refuse_unsupported(&self) -> Result<(), Error> {
        // Both are names of the same function.
        let activation = self.text("hidden_act")?.unwrap_or("silu");
        if !["silu", "swish"].contains(&activation) {
            return Err(field("hidden_act", activation, "silu"));
        }
        Ok(())
    }

    /// Whether each layer has a window, if `layer_types` says.
    fn layer_types(&self, layers: usize) -> Result<Option<Vec<bool>>, Error> {
        let Some(value) = self.get("layer_types") else { return Ok(None) };
        let is_windowed = |kind: &Value| match kind.as_str()? {
            "sliding_attention" => Some(true),
            "full_attention" => Some(false),
            _ => None,
        };
        let types: Option<Vec<bool>> = value.as_array().and_then(|list| list.iter().map(is_windowed).collect());
        match types.filter(|types| types.len() == layers) {
            Some(types) => Ok(Some(types)),
            None => Err(field("layer_types", value, format!("{layers} times full_attention or sliding_attention"))),
        }
    }
}

fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn field(name: impl Into<String>, found: impl ToString, expected: impl ToString) -> Error {
    Error::ConfigField { field: name.into(), found: found.to_string(), expected: expected.to_string() }
}

#[cfg(test)]
mod tests;
