//! The settings of a generation. They are checked before anything is computed.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How the next token is chosen. The default is greedy.
///
/// The steps and their order are those of transformers: repetition penalty, temperature, top-k, top-p, min-p, draw. One
/// difference: where several tokens tie for the last place, transformers keeps all of them, and this crate keeps those
/// with the lower ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingConfig {
    /// The divisor of the logits. With 0, the most probable token is taken and nothing is drawn.
    pub temperature: f32,
    /// Draw only from this number of most probable tokens.
    pub top_k: Option<usize>,
    /// Draw only from the smallest set of most probable tokens whose probabilities reach this sum, in `(0, 1]`.
    pub top_p: Option<f32>,
    /// Draw only from tokens that are at least this times as probable as the most probable one, in `[0, 1]`.
    pub min_p: Option<f32>,
    /// For all tokens of prompt and output, divides positive logits and multiplies negative ones. 1 has no effect.
    pub repetition_penalty: f32,
    /// The seed of the random draws.
    pub seed: u64,
    /// The random stream of the first sequence of a batch, one of the seed's 2⁶⁴ streams. Sequence `i` draws from
    /// `stream + i`. So to repeat sequence `i` of a batch in a request of its own, add `i` here.
    pub stream: u64,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: None, top_p: None, min_p: None, repetition_penalty: 1.0, seed: 0, stream: 0 }
    }
}

impl SamplingConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Setting`], naming the field.
    pub fn check(&self) -> Result<()> {
        let in_range = |value: Option<f32>, low: f32| value.is_none_or(|value| value >= low && value <= 1.0);
        let shown = |value: Option<f32>| value.map_or_else(String::new, |value| value.to_string());
        let rules = [
            (
                self.temperature.is_finite() && self.temperature >= 0.0,
                "temperature",
                self.temperature.to_string(),
                "a finite number of at least 0",
            ),
            (self.top_k != Some(0), "top_k", "0".to_owned(), "at least 1"),
            (in_range(self.top_p, f32::MIN_POSITIVE), "top_p", shown(self.top_p), "a number over 0 and up to 1"),
            (in_range(self.min_p, 0.0), "min_p", shown(self.min_p), "a number from 0 to 1"),
            (
                self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0,
                "repetition_penalty",
                self.repetition_penalty.to_string(),
                "a finite number over 0",
            ),
        ];
        first_broken(rules)
    }
}

/// How much is generated, and what ends it besides the model's own stop tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GenerateConfig {
    /// The longest output, in tokens, the stop token included.
    pub max_new_tokens: usize,
    /// Texts that end the output. They are removed from it.
    pub stop: Vec<String>,
    /// How tokens are chosen.
    pub sampling: SamplingConfig,
    /// Computes in single precision throughout. If not, keys, values and adapters are rounded to half precision, and,
    /// on a processor with integer dot products, the inputs of quantised weights to eight bits. That is faster and
    /// slightly inexact.
    pub exact: bool,
}

impl Default for GenerateConfig {
    /// Greedy, up to 256 tokens, not exact.
    fn default() -> Self {
        Self { max_new_tokens: 256, stop: Vec::new(), sampling: SamplingConfig::default(), exact: false }
    }
}

impl GenerateConfig {
    /// Checks the ranges, those of [`SamplingConfig`] included.
    ///
    /// # Errors
    /// [`Error::Setting`], naming the field.
    pub fn check(&self) -> Result<()> {
        let empty = self.stop.iter().any(String::is_empty);
        first_broken([
            (self.max_new_tokens > 0, "max_new_tokens", "0".to_owned(), "at least 1"),
            (!empty, "stop", "an empty text".to_owned(), "texts of at least one character"),
        ])?;
        self.sampling.check()
    }
}

/// The first rule that does not hold. A rule is `(holds, field, found, expected)`.
fn first_broken<const N: usize>(rules: [(bool, &'static str, String, &'static str); N]) -> Result<()> {
    match rules.into_iter().find(|(holds, ..)| !holds) {
        None => Ok(()),
        Some((_, field, found, expected)) => Err(Error::Setting { field, found, expected }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, broken: Option<&str>) {
        let config: GenerateConfig = serde_json::from_str(json).unwrap();
        let found = config.check().map_err(|error| match error {
            Error::Setting { field, .. } => field,
            other => panic!("{other}"),
        });
        assert_eq!(found.err(), broken, "{json}");
    }

    #[test]
    fn settings_out_of_range_are_named() {
        check("{}", None);
        check(r#"{"sampling": {"temperature": 1.5, "top_k": 1, "top_p": 1.0, "min_p": 0.0, "seed": 7}}"#, None);
        check(r#"{"sampling": {"temperature": -0.1}}"#, Some("temperature"));
        check(r#"{"sampling": {"top_k": 0}}"#, Some("top_k"));
        check(r#"{"sampling": {"top_p": 0.0}}"#, Some("top_p"));
        check(r#"{"sampling": {"top_p": 1.5}}"#, Some("top_p"));
        check(r#"{"sampling": {"min_p": -0.5}}"#, Some("min_p"));
        check(r#"{"sampling": {"repetition_penalty": 0.0}}"#, Some("repetition_penalty"));
        check(r#"{"max_new_tokens": 0}"#, Some("max_new_tokens"));
        check(r#"{"stop": ["a", ""]}"#, Some("stop"));
        let nan = SamplingConfig { temperature: f32::NAN, ..SamplingConfig::default() };
        assert!(matches!(nan.check(), Err(Error::Setting { field: "temperature", .. })));
    }

    #[test]
    fn a_misspelt_setting_is_refused() {
        let error = serde_json::from_str::<GenerateConfig>(r#"{"sampling": {"topk": 5}}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `topk`"));
    }
}
