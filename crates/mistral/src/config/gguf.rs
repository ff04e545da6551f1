//! A config as the metadata of a GGUF.

use foehn_weights::GgufValue;

use super::family::every;
use super::{MistralConfig, ModelType, RopeScaling, field};
use crate::Error;

impl MistralConfig {
    /// llama.cpp's name for the network, `general.architecture` of a GGUF.
    ///
    /// # Errors
    /// [`Error::ConfigField`] for a family that llama.cpp does not compute as this network, or one with windows or
    /// unrotated layers that no key of a GGUF can name.
    pub fn gguf_architecture(&self) -> Result<&'static str, Error> {
        let family = self.model_type.family();
        // llama.cpp's name for Mistral and Llama is the same.
        let name = family.gguf.or((self.model_type == ModelType::Llama).then_some("llama"));
        let Some(name) = name else {
            return Err(field(
                "model_type",
                family.model_type,
                "a family that GGUF has; windows by layer have no key there",
            ));
        };
        if let (Some(window), true) = (self.sliding_window, name != "llama" || !self.layers_without_window.is_empty()) {
            return Err(field("sliding_window", window, "null: no key of a GGUF says which layers have it"));
        }
        // llama.cpp reads biases of these two architectures alone.
        let is_biased = self.mlp_bias || self.o_bias || self.qkv_bias && name != "qwen2";
        if is_biased && name != "llama" {
            return Err(field("attention_bias", true, format!("false: llama.cpp reads no such biases of {name}")));
        }
        let unrotated = if family.unrotated { every(4, self.num_hidden_layers) } else { Vec::new() };
        if self.layers_without_rope != unrotated {
            let found = format!("{:?}", self.layers_without_rope);
            return Err(field("no_rope_layers", found, format!("{unrotated:?}, as llama.cpp has it in its code")));
        }
        Ok(name)
    }

    /// The keys of a GGUF's metadata from which [`from_gguf`](Self::from_gguf) and llama.cpp build the same network, without
    /// those of the tokenizer. Llama 3's scaling is not among them: it is the tensor of
    /// [`gguf_divisors`](Self::gguf_divisors).
    ///
    /// # Errors
    /// [`Error::ConfigField`] for what a GGUF cannot express.
    pub fn gguf_metadata(&self) -> Result<Vec<(String, GgufValue)>, Error> {
        let name = self.gguf_architecture()?;
        let count = |value: usize| GgufValue::from(u32::try_from(value).unwrap_or(u32::MAX));
        let mut keys = vec![
            ("block_count", count(self.num_hidden_layers)),
            ("context_length", count(self.max_position_embeddings)),
            ("embedding_length", count(self.hidden_size)),
            ("feed_forward_length", count(self.intermediate_size)),
            ("attention.head_count", count(self.num_attention_heads)),
            ("attention.head_count_kv", count(self.num_key_value_heads)),
            ("attention.key_length", count(self.head_dim)),
            ("attention.value_length", count(self.head_dim)),
            ("attention.layer_norm_rms_epsilon", GgufValue::from(self.rms_norm_eps as f32)),
            ("rope.dimension_count", count(self.head_dim)),
            ("rope.freq_base", GgufValue::from(self.rope_theta as f32)),
            ("vocab_size", count(self.vocab_size)),
        ];
        keys.extend(self.sliding_window.map(|window| ("attention.sliding_window", count(window))));
        let mut original = None;
        match self.rope_scaling {
            None | Some(RopeScaling::Llama3 { .. } | RopeScaling::Divisors { .. }) => {}
            Some(RopeScaling::Linear { factor }) => keys.extend([
                ("rope.scaling.type", GgufValue::from("linear")),
                ("rope.scaling.factor", GgufValue::from(factor as f32)),
            ]),
            Some(
                ref yarn @ RopeScaling::Yarn { factor, beta_fast, beta_slow, original_max_position_embeddings, .. },
            ) => {
                original = Some(original_max_position_embeddings);
                keys.extend([
                    ("rope.scaling.type", GgufValue::from("yarn")),
                    ("rope.scaling.factor", GgufValue::from(factor as f32)),
                    ("rope.scaling.yarn_beta_fast", GgufValue::from(beta_fast as f32)),
                    ("rope.scaling.yarn_beta_slow", GgufValue::from(beta_slow as f32)),
                ]);
                let multiplier = yarn.log_multiplier()?;
                keys.extend(
                    multiplier.map(|value| ("rope.scaling.yarn_log_multiplier", GgufValue::from(value as f32))),
                );
            }
        }
        if let Some(scale) = self.query_scale {
            let length = scale.original as usize;
            if original.is_some_and(|original| original != length) {
                return Err(field("original_max_position_embeddings", length, "one length for both scalings"));
            }
            original = Some(length);
            keys.push(("attention.temperature_scale", GgufValue::from(scale.beta)));
        }
        keys.extend(original.map(|length| ("rope.scaling.original_context_length", count(length))));
        let named = keys.into_iter().map(|(key, value)| (format!("{name}.{key}"), value));
        Ok([("general.architecture".to_owned(), GgufValue::from(name))].into_iter().chain(named).collect())
    }

    /// The divisors of the rotary frequencies, `[head_dim / 2]`, that a GGUF has as the tensor `rope_freqs.weight`; `None` if
    /// it has none.
    pub fn gguf_divisors(&self) -> Option<Vec<f32>> {
        match &self.rope_scaling {
            Some(RopeScaling::Divisors { divisors }) => Some(divisors.clone()),
            Some(scaling @ RopeScaling::Llama3 { .. }) => {
                let rope = |scaling| RopeScaling::rope(scaling, self.head_dim, self.rope_theta);
                let (plain, scaled) = (rope(None), rope(Some(scaling)));
                Some(
                    plain
                        .frequencies()
                        .iter()
                        .zip(scaled.frequencies())
                        .map(|(plain, scaled)| plain / scaled)
                        .collect(),
                )
            }
            _ => None,
        }
    }
}

impl RopeScaling {
    /// The value of `rope.scaling.yarn_log_multiplier` with which a GGUF means this scaling.
    fn log_multiplier(&self) -> Result<Option<f64>, Error> {
        let Self::Yarn { mscale_all_dim, truncate, .. } = self else { return Ok(None) };
        if !truncate {
            return Err(field("rope_parameters.truncate", false, "true, as llama.cpp has it in its code"));
        }
        let factor = self.attention_factor();
        let with = |all: Option<f64>| {
            let mut other = self.clone();
            if let Self::Yarn { attention_factor, mscale, mscale_all_dim, .. } = &mut other {
                (*attention_factor, *mscale, *mscale_all_dim) = (None, all.map(|_| 1.0), all);
            }
            (other.attention_factor() - factor).abs() < 1e-9
        };
        // A multiplier of 1 gives the factor 1.
        [None, *mscale_all_dim, Some(1.0)].into_iter().find(|all| with(*all)).ok_or_else(|| {
            field("rope_parameters.attention_factor", factor, "the one that llama.cpp computes from the other keys")
        })
    }
}
