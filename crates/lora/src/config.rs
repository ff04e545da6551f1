//! The settings of an adapter, with PEFT's names.

use serde::{Deserialize, Deserializer, Serialize};

use crate::Error;
use crate::pattern::{self, Compiled, Patterns};

/// The settings of `adapter_config.json` that the computation depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// The rank.
    pub r: usize,
    /// The numerator of the scale.
    pub lora_alpha: f64,
    /// Dropout of the adapter's input in training, in `[0, 1)`.
    pub lora_dropout: f32,
    /// Whether the scale is `alpha / sqrt(r)` instead of `alpha / r` (Kalajdzievski 2023, "rsLoRA").
    pub use_rslora: bool,
    /// The layers that get an adapter.
    pub target_modules: TargetModules,
    /// Layers that get none, although they are targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_modules: Option<TargetModules>,
    /// The indices of the decoder layers whose targets get an adapter; empty means all. A target that is listed by its
    /// full name gets one in any case. Not with a regular expression as targets.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_more")]
    pub layers_to_transform: Vec<usize>,
    /// Regular expressions for what precedes a layer's index in a name; empty means any name (here it is `layers`).
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_more")]
    pub layers_pattern: Vec<String>,
    /// Ranks of modules whose name ends in a pattern. If several patterns match, the first one is used.
    pub rank_pattern: Patterns<usize>,
    /// Alphas of modules whose name ends in a pattern. If several patterns match, the first one is used.
    pub alpha_pattern: Patterns<f64>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            r: 8,
            lora_alpha: 16.0,
            lora_dropout: 0.0,
            use_rslora: false,
            target_modules: TargetModules::AllLinear,
            exclude_modules: None,
            layers_to_transform: Vec::new(),
            layers_pattern: Vec::new(),
            rank_pattern: Patterns::default(),
            alpha_pattern: Patterns::default(),
        }
    }
}

impl LoraConfig {
    /// The largest rank. No matrix of a language model today has a longer side, and a rank above the sides of a matrix
    /// cannot improve its update.
    pub const MAX_RANK: usize = 65_536;

    /// Whether a layer gets an adapter, given its full name (`model.layers.0.self_attn.q_proj`).
    ///
    /// # Errors
    /// [`Error::Pattern`] if a regular expression does not compile, or if matching takes too many steps.
    pub fn is_target(&self, module: &str) -> Result<bool, Error> {
        self.compile()?.is_target(module)
    }

    /// The rank of a module's adapter.
    ///
    /// # Errors
    /// [`Error::Pattern`] if a key of `rank_pattern` is not a regular expression.
    pub fn rank(&self, module: &str) -> Result<usize, Error> {
        Ok(self.rank_pattern.compile("rank_pattern")?.first(module)?.unwrap_or(self.r))
    }

    /// The factor of a module's low-rank product.
    ///
    /// # Errors
    /// [`Error::Pattern`] if a key of `rank_pattern` or `alpha_pattern` is not a regular expression.
    pub fn scale(&self, module: &str) -> Result<f64, Error> {
        let alpha = self.alpha_pattern.compile("alpha_pattern")?.first(module)?.unwrap_or(self.lora_alpha);
        Ok(self.scale_of(alpha, self.rank(module)?))
    }

    pub(crate) fn scale_of(&self, alpha: f64, rank: usize) -> f64 {
        alpha / if self.use_rslora { (rank as f64).sqrt() } else { rank as f64 }
    }

    /// Compiles all patterns, before any of them is used.
    pub(crate) fn compile(&self) -> Result<Compiled<'_>, Error> {
        Compiled::new(self)
    }

    /// Checks the ranges of all settings.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the first setting out of its range, [`Error::Pattern`] for an invalid regular
    /// expression, [`Error::UnsupportedLayer`] if a target is the embedding or the head.
    pub fn check(&self) -> Result<(), Error> {
        let setting = |field, found: String, expected| Err(Error::Setting { field, found, expected });
        if let Some(&r) =
            std::iter::once(&self.r).chain(self.rank_pattern.values()).find(|&&r| !(1..=Self::MAX_RANK).contains(&r))
        {
            return setting("r", r.to_string(), "from 1 to 65536");
        }
        if let Some(alpha) = std::iter::once(&self.lora_alpha)
            .chain(self.alpha_pattern.values())
            .find(|alpha| !(alpha.is_finite() && **alpha > 0.0))
        {
            return setting("lora_alpha", alpha.to_string(), "a positive number");
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            return setting("lora_dropout", self.lora_dropout.to_string(), "at least 0 and below 1");
        }
        if self.exclude_modules == Some(TargetModules::AllLinear) {
            return setting("exclude_modules", "all-linear".into(), "a list of names or a regular expression");
        }
        if matches!(self.target_modules, TargetModules::Regex(_)) && !self.layers_to_transform.is_empty() {
            let found = format!("{:?}", self.layers_to_transform);
            return setting("layers_to_transform", found, "nothing, where target_modules is a regular expression");
        }
        if !self.layers_pattern.is_empty() && self.layers_to_transform.is_empty() {
            let found = format!("{:?}", self.layers_pattern);
            return setting("layers_pattern", found, "nothing, without layers_to_transform");
        }
        self.compile().map(|_| ())
    }
}

/// A value or a list of values, as PEFT writes some settings.
fn one_or_more<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore<T> {
        One(T),
        More(Vec<T>),
    }
    Ok(match OneOrMore::deserialize(from)? {
        OneOrMore::One(value) => vec![value],
        OneOrMore::More(values) => values,
    })
}

/// Which linear layers get an adapter, with PEFT's meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Raw", into = "Raw")]
pub enum TargetModules {
    /// Every linear layer except the head: `"all-linear"`.
    AllLinear,
    /// Layers whose full name is an entry of the list, or ends in a dot followed by an entry.
    Suffixes(Vec<String>),
    /// Layers whose full name matches the whole regular expression.
    Regex(String),
}

impl TargetModules {
    /// Whether a layer is a target, given its full name (`model.layers.0.self_attn.q_proj`).
    ///
    /// # Errors
    /// [`Error::Pattern`] if the regular expression does not compile, or if matching takes too many steps.
    pub fn matches(&self, module: &str) -> Result<bool, Error> {
        match self {
            Self::AllLinear => Ok(true),
            Self::Suffixes(list) => Ok(list.iter().any(|suffix| pattern::ends_in(module, suffix))),
            Self::Regex(pattern) => pattern::whole("target_modules", pattern)?.is_match(module),
        }
    }
}

/// The form of [`TargetModules`] in `adapter_config.json`: a list or a string.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Raw {
    List(Vec<String>),
    Text(String),
}

impl From<Raw> for TargetModules {
    fn from(raw: Raw) -> Self {
        match raw {
            Raw::List(list) => Self::Suffixes(list),
            Raw::Text(text) if text == "all-linear" => Self::AllLinear,
            Raw::Text(text) => Self::Regex(text),
        }
    }
}

impl From<TargetModules> for Raw {
    fn from(targets: TargetModules) -> Self {
        match targets {
            TargetModules::Suffixes(list) => Self::List(list),
            TargetModules::AllLinear => Self::Text("all-linear".into()),
            TargetModules::Regex(pattern) => Self::Text(pattern),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_match_as_peft_means_them() {
        let check = |targets: &str, module: &str, expected: bool| {
            let targets: TargetModules = serde_json::from_str(targets).unwrap();
            assert_eq!(targets.matches(module).unwrap(), expected, "{targets:?} {module}");
        };
        let q0 = "model.layers.0.self_attn.q_proj";
        check(r#""all-linear""#, q0, true);
        check(r#"["q_proj", "v_proj"]"#, q0, true);
        check(r#"["proj"]"#, q0, false);
        check(r#"["self_attn.q_proj"]"#, q0, true);
        check(r#"["model.layers.0.self_attn.q_proj"]"#, q0, true);
        check(r#"[]"#, q0, false);
        check(r#"".*q_proj""#, q0, true);
        check(r#""q_proj""#, q0, false);
        check(r#"".*layers\\.[12]\\..*q_proj""#, q0, false);
        check(r#"".*(?<!self_attn\\.)q_proj""#, q0, false);
        check(r#""a|.*q_proj""#, q0, true);
    }

    #[test]
    fn patterns_set_rank_and_scale() {
        let config: LoraConfig = serde_json::from_str(
            r#"{"r": 8, "lora_alpha": 16, "rank_pattern": {"q_proj": 4, "layers.1.mlp.up_proj": 2}, "alpha_pattern": {"up_proj": 32}}"#,
        )
        .unwrap();
        let check = |module: &str, rank: usize, scale: f64| {
            assert_eq!((config.rank(module).unwrap(), config.scale(module).unwrap()), (rank, scale), "{module}");
        };
        check("model.layers.0.self_attn.q_proj", 4, 4.0);
        check("model.layers.1.mlp.up_proj", 2, 16.0);
        check("model.layers.11.mlp.up_proj", 8, 4.0);
        check("model.layers.0.mlp.down_proj", 8, 2.0);
        let rs = LoraConfig { r: 16, lora_alpha: 8.0, use_rslora: true, ..LoraConfig::default() };
        assert_eq!(rs.scale("x").unwrap(), 2.0);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let check = |config: LoraConfig, name: &str| match config.check() {
            Err(Error::Setting { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        };
        check(LoraConfig { r: 0, ..LoraConfig::default() }, "r");
        check(LoraConfig { r: LoraConfig::MAX_RANK + 1, ..LoraConfig::default() }, "r");
        check(LoraConfig { rank_pattern: [("q".into(), usize::MAX)].into_iter().collect(), ..Default::default() }, "r");
        check(LoraConfig { lora_alpha: f64::NAN, ..LoraConfig::default() }, "lora_alpha");
        check(LoraConfig { lora_dropout: 1.0, ..LoraConfig::default() }, "lora_dropout");
        let broken = TargetModules::Regex("(".into());
        assert!(matches!(broken.matches("x"), Err(Error::Pattern { .. })));
    }
}
