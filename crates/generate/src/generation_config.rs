//! Reads and writes `generation_config.json`, the file beside a model that says how its answers are decoded.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::{Error, Result, SamplingConfig};

/// The file's name.
pub const FILE: &str = "generation_config.json";

/// The top-k that transformers uses where the file samples and names none.
const DEFAULT_TOP_K: u64 = 50;

/// Keys that do not change how a token is chosen, or that are read elsewhere.
const NEUTRAL: [&str; 12] = [
    "_from_model_config",
    "bos_token_id",
    "decoder_start_token_id",
    "eos_token_id",
    "max_length",
    "max_new_tokens",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "return_dict_in_generate",
    "transformers_version",
    "use_cache",
];

/// The values with which transformers' other keys have no effect.
const WITHOUT_EFFECT: [(&str, f64); 6] = [
    ("num_beams", 1.0),
    ("typical_p", 1.0),
    ("epsilon_cutoff", 0.0),
    ("eta_cutoff", 0.0),
    ("length_penalty", 1.0),
    ("no_repeat_ngram_size", 0.0),
];

impl SamplingConfig {
    /// The decoding that the `generation_config.json` in a folder asks for, as transformers reads it; `None` if there is
    /// no such file.
    ///
    /// # Errors
    /// [`Error::GenerationConfig`] if the file cannot be read, or asks for a decoding that is not supported here.
    pub fn of_folder(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let failed = |why: String| Error::GenerationConfig { path: path.clone(), why };
        let text =
            foehn_files::read_to_string(&path, foehn_files::MAX_TEXT).map_err(|error| failed(error.to_string()))?;
        let keys: Map<String, Value> = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        let config = Self::from_keys(&keys).map_err(failed)?;
        config.check()?;
        Ok(Some(config))
    }

    fn from_keys(keys: &Map<String, Value>) -> std::result::Result<Self, String> {
        let is_set = |key: &str| keys.get(key).is_some_and(|value| !value.is_null());
        let number = |key: &str| match keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| format!("`{key}` is {value}, expected a number")),
        };
        let known = ["do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"];
        for (key, value) in keys.iter().filter(|(_, value)| !value.is_null() && **value != Value::Bool(false)) {
            let neutral = WITHOUT_EFFECT.iter().any(|(name, neutral)| name == key && value.as_f64() == Some(*neutral));
            if !neutral && !known.contains(&key.as_str()) && !NEUTRAL.contains(&key.as_str()) {
                return Err(format!("`{key}` = {value} is not supported"));
            }
        }
        let samples = match keys.get("do_sample") {
            None | Some(Value::Null) => false,
            Some(value) => value.as_bool().ok_or_else(|| format!("`do_sample` is {value}, expected true or false"))?,
        };
        let penalty = number("repetition_penalty")?.unwrap_or(1.0) as f32;
        let greedy = Self { repetition_penalty: penalty, ..Self::default() };
        if !samples {
            return Ok(greedy);
        }
        let top_k = match keys.get("top_k").filter(|_| is_set("top_k")) {
            None => DEFAULT_TOP_K,
            Some(value) => value.as_u64().ok_or_else(|| format!("`top_k` is {value}, expected a whole number"))?,
        };
        Ok(Self {
            temperature: number("temperature")?.unwrap_or(1.0) as f32,
            top_k: usize::try_from(top_k).ok().filter(|top_k| *top_k > 0),
            top_p: number("top_p")?.map(|top_p| top_p as f32).filter(|top_p| *top_p < 1.0),
            min_p: number("min_p")?.map(|min_p| min_p as f32).filter(|min_p| *min_p > 0.0),
            ..greedy
        })
    }

    /// The text of a `generation_config.json` with which transformers decodes in this way.
    pub fn to_generation_config(&self) -> String {
        // The shortest decimal form of the f32, not its exact value.
        let shown = |value: f32| value.to_string().parse::<f64>().unwrap_or(value.into());
        let mut keys = Map::new();
        let samples = self.temperature > 0.0;
        keys.insert("do_sample".into(), samples.into());
        if samples {
            keys.insert("temperature".into(), json!(shown(self.temperature)));
            keys.insert("top_k".into(), self.top_k.unwrap_or(0).into());
            keys.insert("top_p".into(), json!(self.top_p.map_or(1.0, shown)));
            if let Some(min_p) = self.min_p {
                keys.insert("min_p".into(), json!(shown(min_p)));
            }
        }
        if self.repetition_penalty != 1.0 {
            keys.insert("repetition_penalty".into(), json!(shown(self.repetition_penalty)));
        }
        format!("{:#}\n", Value::Object(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn read(text: &str) -> std::result::Result<SamplingConfig, String> {
        SamplingConfig::from_keys(&serde_json::from_str(text).unwrap())
    }

    /// What transformers' `GenerationConfig.from_dict` and `get_logits_processor` make of the same files.
    #[test]
    fn a_file_is_read_as_transformers_reads_it() {
        let greedy = SamplingConfig::default();
        assert_eq!(read(r#"{"temperature": 0.7, "top_p": 0.9, "eos_token_id": [1, 2]}"#), Ok(greedy.clone()));
        let sampled = SamplingConfig { temperature: 1.0, top_k: Some(50), ..greedy.clone() };
        assert_eq!(read(r#"{"do_sample": true}"#), Ok(sampled.clone()));
        let all = SamplingConfig {
            temperature: 0.5,
            top_k: None,
            top_p: Some(0.9),
            min_p: Some(0.1),
            repetition_penalty: 1.05,
            ..greedy
        };
        let text = r#"{"do_sample": true, "temperature": 0.5, "top_k": 0, "top_p": 0.9, "min_p": 0.1,
            "repetition_penalty": 1.05, "num_beams": 1, "use_cache": true, "top_h": null}"#;
        assert_eq!(read(text), Ok(all));
        assert_eq!(read(r#"{"do_sample": true, "top_p": 1.0}"#), Ok(sampled));
    }

    #[test]
    fn a_decoding_that_is_not_supported_is_named() {
        for (text, expected) in [
            (r#"{"num_beams": 4}"#, "num_beams"),
            (r#"{"penalty_alpha": 0.6}"#, "penalty_alpha"),
            (r#"{"do_sample": "yes"}"#, "do_sample"),
            (r#"{"do_sample": true, "top_k": -1}"#, "top_k"),
            (r#"{"do_sample": true, "temperature": "hot"}"#, "temperature"),
        ] {
            assert!(read(text).unwrap_err().contains(expected), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let sampled = SamplingConfig {
            temperature: 0.7,
            top_k: Some(40),
            top_p: Some(0.95),
            min_p: Some(0.05),
            repetition_penalty: 1.1,
            ..SamplingConfig::default()
        };
        for config in [SamplingConfig::default(), sampled] {
            assert_eq!(read(&config.to_generation_config()), Ok(config));
        }
    }
}
