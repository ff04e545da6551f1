//! The model families: what a config of each means where it says nothing, and what only some of them have.

use serde_json::{Value, json};

use super::{Json, field};
use crate::Error;

/// A family of models, by the `model_type` of its `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelType {
    /// Mistral 7B, Nemo, Small.
    Mistral,
    /// Llama 1 to 3.3, SmolLM2.
    Llama,
    /// Ministral 8B of 2024: windows by layer.
    Ministral,
    /// Ministral 3, Devstral Small 2: YaRN and a factor of the queries.
    Ministral3,
    /// Qwen2 and Qwen2.5: biases of q, k and v.
    Qwen2,
    /// Qwen3: norms of the heads of q and k.
    Qwen3,
    /// SmolLM3: layers without rotation.
    SmolLm3,
}

/// Which projections of attention have a bias.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Biases {
    None,
    /// q, k and v, always.
    Inputs,
    /// q, k, v and o, if `attention_bias` says so.
    Asked,
}

/// Which layers have a window, if a config has one and no `layer_types`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Windows {
    /// No layer: a window is refused.
    None,
    All,
    /// As [`All`](Self::All), but `layer_types` may say otherwise.
    Typed,
    /// With `use_sliding_window` alone: the layers from `max_window_layers` on.
    Last,
    /// With `use_sliding_window` alone: the layers without rotation.
    Unrotated,
}

/// What differs between the families.
///
/// Sources: the `configuration_*.py` of transformers 5.24, the architectures of llama.cpp.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    pub kind: ModelType,
    pub model_type: &'static str,
    /// The class in transformers.
    pub class: &'static str,
    /// `general.architecture` in a GGUF.
    pub gguf: Option<&'static str>,
    /// Key/value heads of a config that does not say; `None` means as many as query heads. `null` always means that.
    pub kv_heads: Option<usize>,
    /// The width of a head of a config that does not say; `None` means that it follows from the number of heads.
    pub head_dim: Option<usize>,
    pub max_positions: usize,
    pub theta: f64,
    pub eps: f64,
    pub tied: bool,
    /// The window of a config that does not say.
    pub window: Option<usize>,
    pub windows: Windows,
    pub biases: Biases,
    /// Whether `mlp_bias` may be set.
    pub mlp_bias: bool,
    pub qk_norm: bool,
    /// Whether `no_rope_layers` may be set, and every fourth layer has no rotation if it is not.
    pub unrotated: bool,
    /// Whether the queries have a factor that grows with the position.
    pub query_scale: bool,
    /// Whether llama.cpp's converter interleaves the rows of q and k.
    pub interleaved: bool,
}

const MISTRAL: Family = Family {
    kind: ModelType::Mistral,
    model_type: "mistral",
    class: "MistralForCausalLM",
    // llama.cpp's name for both.
    gguf: Some("llama"),
    kv_heads: Some(8),
    head_dim: None,
    max_positions: 4096 * 32,
    theta: 1e4,
    eps: 1e-6,
    tied: false,
    window: Some(4096),
    windows: Windows::All,
    biases: Biases::None,
    mlp_bias: false,
    qk_norm: false,
    unrotated: false,
    query_scale: false,
    interleaved: true,
};

pub(super) const FAMILIES: [Family; 7] = [
    MISTRAL,
    Family {
        kind: ModelType::Llama,
        model_type: "llama",
        class: "LlamaForCausalLM",
        gguf: None,
        kv_heads: None,
        max_positions: 2048,
        window: None,
        windows: Windows::None,
        biases: Biases::Asked,
        mlp_bias: true,
        ..MISTRAL
    },
    Family {
        kind: ModelType::Ministral,
        model_type: "ministral",
        class: "MinistralForCausalLM",
        gguf: None,
        windows: Windows::Typed,
        ..MISTRAL
    },
    Family {
        kind: ModelType::Ministral3,
        model_type: "ministral3",
        class: "Ministral3ForCausalLM",
        gguf: Some("mistral3"),
        head_dim: Some(128),
        max_positions: 262_144,
        eps: 1e-5,
        window: None,
        query_scale: true,
        ..MISTRAL
    },
    Family {
        kind: ModelType::Qwen2,
        model_type: "qwen2",
        class: "Qwen2ForCausalLM",
        gguf: Some("qwen2"),
        kv_heads: Some(32),
        max_positions: 32_768,
        windows: Windows::Last,
        biases: Biases::Inputs,
        interleaved: false,
        ..MISTRAL
    },
    Family {
        kind: ModelType::Qwen3,
        model_type: "qwen3",
        class: "Qwen3ForCausalLM",
        gguf: Some("qwen3"),
        kv_heads: Some(32),
        head_dim: Some(128),
        max_positions: 32_768,
        windows: Windows::Last,
        biases: Biases::Asked,
        qk_norm: true,
        interleaved: false,
        ..MISTRAL
    },
    Family {
        kind: ModelType::SmolLm3,
        model_type: "smollm3",
        class: "SmolLM3ForCausalLM",
        gguf: Some("smollm3"),
        kv_heads: Some(4),
        max_positions: 32_768,
        theta: 2e6,
        tied: true,
        window: None,
        windows: Windows::Unrotated,
        biases: Biases::Asked,
        mlp_bias: true,
        unrotated: true,
        ..MISTRAL
    },
];

impl ModelType {
    pub(super) fn family(self) -> &'static Family {
        FAMILIES.iter().find(|family| family.kind == self).unwrap_or(&FAMILIES[0])
    }
}

impl Family {
    /// The family of a config.
    pub fn of_json(json: &Json<'_>) -> Result<&'static Self, Error> {
        let found = json.text("model_type")?.unwrap_or_default();
        FAMILIES.iter().find(|family| family.model_type == found).ok_or_else(|| {
            let known: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
            let found = if found.is_empty() { "nothing".to_owned() } else { json!(found).to_string() };
            field("model_type", found, format!("one of {}, or the wrapper mistral3", known.join(", ")))
        })
    }

    /// The family of a GGUF.
    pub fn of_gguf(architecture: &str) -> Result<(&'static Self, &'static str), Error> {
        let found =
            FAMILIES.iter().find_map(|family| Some((family, family.gguf.filter(|name| *name == architecture)?)));
        found.ok_or_else(|| {
            let known: Vec<&str> = FAMILIES.iter().filter_map(|family| family.gguf).collect();
            field("general.architecture", architecture, format!("one of {}", known.join(", ")))
        })
    }

    /// The config's window, and the layers that do not have it.
    pub fn window(&self, json: &Json<'_>, unrotated: &[usize], layers: usize) -> Result<Window, Error> {
        let by_flag = matches!(self.windows, Windows::Last | Windows::Unrotated);
        let flag = json.flag("use_sliding_window")?;
        let width = match json.0.get("sliding_window") {
            None => self.window,
            Some(_) => json.count("sliding_window")?,
        };
        let width = width.filter(|_| flag.unwrap_or(!by_flag));
        if let (Windows::None, Some(width)) = (self.windows, width) {
            return Err(field(
                "sliding_window",
                width,
                format!("null: a model of the type {} has none", self.model_type),
            ));
        }
        let first = json.count("max_window_layers")?.unwrap_or(28);
        let has_window = |layer: &usize| match self.windows {
            Windows::None => false,
            Windows::All | Windows::Typed => true,
            Windows::Last => *layer >= first,
            Windows::Unrotated => unrotated.contains(layer),
        };
        let mut without: Vec<usize> = (0..layers).filter(|layer| width.is_some() && !has_window(layer)).collect();
        if let Some(types) = json.layer_types(layers)? {
            let typed: Vec<usize> = (0..layers).filter(|layer| width.is_some() && !types[*layer]).collect();
            // The class for `mistral` ignores the list, and computes one window for all layers.
            let is_ignored = matches!(self.windows, Windows::All | Windows::None);
            if types.contains(&true) && width.is_none() || is_ignored && typed != without {
                let found = json.get("layer_types").map_or_else(String::new, Value::to_string);
                let kind = if width.is_some() { "sliding_attention" } else { "full_attention" };
                return Err(field("layer_types", found, format!("{layers} times {kind:?}")));
            }
            without = typed;
        }
        let width = width.filter(|_| without.len() < layers);
        Ok(Window { width, without: if width.is_some() { without } else { Vec::new() } })
    }

    /// The layers without rotation.
    pub fn unrotated(&self, json: &Json<'_>, layers: usize) -> Result<Vec<usize>, Error> {
        if !self.unrotated {
            return Ok(Vec::new());
        }
        let Some(value) = json.get("no_rope_layers") else {
            let interval = json.count("no_rope_layer_interval")?.unwrap_or(4);
            if interval == 0 {
                return Err(field("no_rope_layer_interval", 0, "a number from 1 on"));
            }
            return Ok(every(interval, layers));
        };
        let flags: Option<Vec<u64>> = value.as_array().and_then(|list| list.iter().map(Value::as_u64).collect());
        match flags.filter(|flags| flags.len() >= layers && flags.iter().all(|flag| *flag < 2)) {
            Some(flags) => Ok((0..layers).filter(|layer| flags[*layer] == 0).collect()),
            None => Err(field("no_rope_layers", value, format!("{layers} times 0 or 1"))),
        }
    }
}

/// The last of every `interval` layers.
pub(super) fn every(interval: usize, layers: usize) -> Vec<usize> {
    (0..layers).filter(|layer| (layer + 1) % interval == 0).collect()
}

/// A window, and the layers without it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Window {
    pub width: Option<usize>,
    pub without: Vec<usize>,
}

/// `text_config` of a wrapper of a language model and a vision model.
pub(super) fn text_config(map: &serde_json::Map<String, Value>) -> Result<&serde_json::Map<String, Value>, Error> {
    match map.get("text_config") {
        Some(Value::Object(text)) => Ok(text),
        other => {
            let found = other.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
            Err(field("text_config", found, "an object"))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Error, MistralConfig};

    fn parse(kind: &str, more: &str) -> Result<MistralConfig, Error> {
        MistralConfig::from_json(&format!(
            r#"{{"model_type": "{kind}", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "head_dim": 8,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 48{more}}}"#
        ))
    }

    #[test]
    fn windows_and_rotations_are_those_of_the_family() {
        let check = |kind: &str, more: &str, window: Option<usize>, windowed: [bool; 4], rotated: [bool; 4]| {
            let config = parse(kind, more).unwrap();
            assert_eq!(config.sliding_window, window, "{kind}{more}");
            let layers = [0, 1, 2, 3];
            assert_eq!(layers.map(|layer| config.is_windowed(layer)), windowed, "{kind}{more}");
            assert_eq!(layers.map(|layer| config.is_rotated(layer)), rotated, "{kind}{more}");
        };
        let (no, yes) = ([false; 4], [true; 4]);
        check("mistral", "", Some(4096), yes, yes);
        check("llama", "", None, no, yes);
        check("llama", r#", "sliding_window": null"#, None, no, yes);
        // Without the flag, the width means nothing.
        check("qwen2", r#", "sliding_window": 9"#, None, no, yes);
        let on = r#", "use_sliding_window": true, "sliding_window": 9"#;
        check("qwen3", on, None, no, yes);
        check("qwen3", &format!(r#"{on}, "max_window_layers": 2"#), Some(9), [false, false, true, true], yes);
        check("smollm3", "", None, no, [true, true, true, false]);
        check("smollm3", on, Some(9), [false, false, false, true], [true, true, true, false]);
        check("smollm3", r#", "no_rope_layers": [0, 1, 1, 1]"#, None, no, [false, true, true, true]);
        let types = r#", "sliding_window": 7, "layer_types": ["full_attention", "sliding_attention", "full_attention",
            "sliding_attention"]"#;
        check("ministral", types, Some(7), [false, true, false, true], yes);
    }

    #[test]
    fn what_a_family_does_not_have_is_refused_by_name() {
        let check = |kind: &str, more: &str, name: &str| match parse(kind, more) {
            Err(Error::ConfigField { field, .. }) => assert_eq!(field, name, "{kind}{more}"),
            other => panic!("{kind}{more}: {other:?}"),
        };
        for kind in ["mixtral", "gemma3_text", "phi3", "deepseek_v3", "mistral4", "qwen3_moe", ""] {
            check(kind, "", "model_type");
        }
        check("llama", r#", "sliding_window": 4096"#, "sliding_window");
        check("qwen2", r#", "attention_bias": true"#, "attention_bias");
        check("qwen3", r#", "mlp_bias": true"#, "mlp_bias");
        check("mistral", r#", "no_rope_layers": [1, 1, 1, 1]"#, "no_rope_layers");
        check("mistral", r#", "max_window_layers": 2"#, "max_window_layers");
        check("smollm3", r#", "no_rope_layers": [1, 0]"#, "no_rope_layers");
        check("smollm3", r#", "no_rope_layers": [1, 2, 1, 1]"#, "no_rope_layers");
        check("smollm3", r#", "no_rope_layer_interval": 0"#, "no_rope_layer_interval");
        check("ministral", r#", "layer_types": ["full_attention"]"#, "layer_types");
        check("ministral", r#", "layer_types": ["a", "b", "c", "d"]"#, "layer_types");
        let scale = r#", "rope_parameters": {"rope_type": "default", "llama_4_scaling_beta": 0.1}"#;
        check("mistral", scale, "rope_parameters.llama_4_scaling_beta");
        check("ministral3", scale, "original_max_position_embeddings");
        let many = r#", "num_hidden_layers": 1000000"#;
        assert!(parse("qwen3", many).is_err());
        let bare = MistralConfig::from_json(r#"{"model_type": "mistral3"}"#).unwrap_err();
        assert!(bare.to_string().contains("text_config"), "{bare}");
        let wrapper = r#"{"model_type": "mistral3", "audio_config": {}, "text_config": {}}"#;
        assert!(MistralConfig::from_json(wrapper).unwrap_err().to_string().contains("audio_config"));
    }
}
