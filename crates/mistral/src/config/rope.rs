//! How the rotary frequencies are scaled for longer texts than a model was first trained on.

use std::f64::consts::PI;

use foehn_kernels::{QueryScale, Rope};
use foehn_weights::Gguf;
use serde_json::{Map, Value, json};

use super::{Json, field};
use crate::Error;

/// A scaling of the rotary frequencies, with the names of `rope_parameters` in `config.json`.
///
/// Source: `modeling_rope_utils.py` of transformers 5.24.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// All frequencies are divided by the factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1 and later: low frequencies are divided by the factor, high ones are kept, those between are blended.
    Llama3 {
        /// The divisor.
        factor: f64,
        /// Wavelengths longer than `original_max_position_embeddings` over this are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths shorter than `original_max_position_embeddings` over this are high frequencies.
        high_freq_factor: f64,
        /// The length that the model was first trained on, in tokens.
        original_max_position_embeddings: usize,
    },
    /// YaRN (Peng et al. 2023, arXiv:2309.00071): a ramp over the dimensions of a head from kept to divided
    /// frequencies, and a factor for queries and keys.
    Yarn {
        /// The divisor.
        factor: f64,
        /// The length that the model was first trained on, in tokens.
        original_max_position_embeddings: usize,
        /// Dimensions that turn more often than this over the original length are kept.
        beta_fast: f64,
        /// Dimensions that turn less often than this over the original length are divided.
        beta_slow: f64,
        /// The factor for queries and keys; it follows from `factor` if not given.
        attention_factor: Option<f64>,
        /// Changes the factor for queries and keys.
        mscale: Option<f64>,
        /// Divides the factor for queries and keys.
        mscale_all_dim: Option<f64>,
        /// Whether the ends of the ramp are whole dimensions.
        truncate: bool,
    },
    /// Each frequency is divided by a number of its own. A GGUF can say so, and a `config.json` cannot.
    Divisors {
        /// The divisors, `[head_dim / 2]`.
        divisors: Vec<f32>,
    },
}

/// The key of `rope_parameters` for [`QueryScale::beta`].
const BETA: &str = "llama_4_scaling_beta";

pub(super) fn query_scale_of(beta: f64, original: usize) -> Result<Option<QueryScale>, Error> {
    if !(beta.is_finite() && beta >= 0.0) {
        return Err(field(BETA, beta, "a number of at least 0"));
    }
    let original = u32::try_from(original).ok().filter(|length| *length > 0);
    let original = original.ok_or_else(|| field("original_max_position_embeddings", "0", "a length"))?;
    Ok(Some(QueryScale { beta: beta as f32, original }).filter(|scale| scale.beta != 0.0))
}

impl RopeScaling {
    /// The rotary frequencies of heads of width `head_dim` with the base `theta`.
    pub(crate) fn rope(scaling: Option<&Self>, head_dim: usize, theta: f64) -> Rope {
        let plain = Rope::new(head_dim, theta);
        match scaling {
            None => plain,
            Some(Self::Linear { factor }) => plain.map(|_, frequency| frequency / *factor as f32),
            Some(&Self::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings,
            }) => {
                let [factor, low, high] = [factor, low, high].map(|value| value as f32);
                let original = original_max_position_embeddings as f32;
                plain.map(|_, frequency| {
                    let wavelength = 2.0 * std::f32::consts::PI / frequency;
                    if wavelength > original / low {
                        frequency / factor
                    } else if wavelength < original / high {
                        frequency
                    } else {
                        let smooth = (original / wavelength - low) / (high - low);
                        (1.0 - smooth) * frequency / factor + smooth * frequency
                    }
                })
            }
            Some(Self::Divisors { divisors }) => plain.map(|pair, frequency| frequency / divisors[pair]),
            Some(yarn @ Self::Yarn { factor, .. }) => {
                let [first, last] = yarn.ramp(head_dim, theta);
                let divisor = *factor as f32;
                let scaled = plain.map(|pair, frequency| {
                    let ramp = ((pair as f64 - first) / (last - first)).clamp(0.0, 1.0) as f32;
                    frequency / divisor * ramp + frequency * (1.0 - ramp)
                });
                scaled.with_factor(yarn.attention_factor() as f32)
            }
        }
    }

    /// The dimensions between which YaRN's ramp lies.
    fn ramp(&self, head_dim: usize, theta: f64) -> [f64; 2] {
        let Self::Yarn { original_max_position_embeddings, beta_fast, beta_slow, truncate, .. } = *self else {
            return [0.0, 1.0];
        };
        let width = head_dim as f64;
        let turns = |turns: f64| {
            width * (original_max_position_embeddings as f64 / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln())
        };
        let (mut first, mut last) = (turns(beta_fast), turns(beta_slow));
        if truncate {
            (first, last) = (first.floor(), last.ceil());
        }
        (first, last) = (first.max(0.0), last.min(width - 1.0));
        // As in transformers: a ramp has some length.
        [first, if first == last { last + 0.001 } else { last }]
    }

    /// The factor of the cosines and sines.
    pub(super) fn attention_factor(&self) -> f64 {
        let Self::Yarn { factor, attention_factor, mscale, mscale_all_dim, .. } = *self else { return 1.0 };
        let of = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
        attention_factor.unwrap_or(match (mscale, mscale_all_dim) {
            (Some(mscale), Some(all)) if mscale != 0.0 && all != 0.0 => of(mscale) / of(all),
            _ => of(1.0),
        })
    }

    /// The scaling in `rope_parameters`, or in `rope_scaling` of older configs, and, for models that have one, the factor
    /// of the queries; `max_position_embeddings` is the config's.
    pub(super) fn from_json(
        json: &Json<'_>,
        max_position_embeddings: usize,
        has_query_scale: bool,
    ) -> Result<(Option<Self>, Option<QueryScale>), Error> {
        let names = ["rope_parameters", "rope_scaling"];
        if has_query_scale && names.iter().all(|name| json.get(name).is_none()) {
            return Err(field("rope_parameters", "nothing", "an object"));
        }
        let mut found = None;
        let mut query_scale = None;
        for name in names {
            let Some(value) = json.get(name) else { continue };
            let Some(rope) = value.as_object() else { return Err(field(name, value, "an object")) };
            if has_query_scale && let Some(beta) = Json(rope).number(BETA)? {
                let original = Json(rope).required("original_max_position_embeddings")?;
                query_scale = query_scale_of(beta, original)?;
            }
            let scaling = Self::from_object(name, rope, max_position_embeddings, has_query_scale)?;
            match (&found, &scaling) {
                (Some(first), Some(second)) if first != second => {
                    return Err(field(name, value, "what `rope_parameters` says"));
                }
                _ => found = found.or(scaling),
            }
        }
        Ok((found, query_scale))
    }

    fn from_object(
        name: &str,
        rope: &Map<String, Value>,
        max_length: usize,
        has_query_scale: bool,
    ) -> Result<Option<Self>, Error> {
        let json = Json(rope);
        let full = |key: &str| format!("{name}.{key}");
        let named = |error: Error| match error {
            Error::ConfigField { field, found, expected } => {
                Error::ConfigField { field: full(&field), found, expected }
            }
            other => other,
        };
        let (kind, key) = match json.text("rope_type").map_err(named)? {
            Some(kind) => (Some(kind), "rope_type"),
            None => (json.text("type").map_err(named)?, "type"),
        };
        let kind = kind.unwrap_or("default");
        let read: &[&str] = match kind {
            "default" => &[],
            "linear" => &["factor"],
            "llama3" => &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
            "yarn" => &[
                "factor",
                "original_max_position_embeddings",
                "beta_fast",
                "beta_slow",
                "attention_factor",
                "mscale",
                "mscale_all_dim",
                "truncate",
            ],
            other => return Err(field(full(key), other, "default, linear, llama3 or yarn")),
        };
        for (key, value) in rope.iter().filter(|(_, value)| !value.is_null()) {
            let is_one = value.as_f64() == Some(1.0);
            match key.as_str() {
                "rope_theta" | "rope_type" | "type" => {}
                _ if read.contains(&key.as_str()) => {}
                // Only some scalings read it; the others do not change with it.
                "original_max_position_embeddings" => {}
                // The second is a note of the config's length.
                BETA | "max_position_embeddings" if has_query_scale => {}
                "factor" | "partial_rotary_factor" | "attention_factor" if is_one => {}
                "factor" | "partial_rotary_factor" | "attention_factor" => return Err(field(full(key), value, 1)),
                _ => return Err(field(full(key), value, "no such key: it may mean another rotation")),
            }
        }
        let number = |key: &str| json.number(key).map_err(named);
        let positive = |key: &str, usual: Option<f64>| {
            let value = number(key)?.or(usual).ok_or_else(|| field(full(key), "nothing", "a number"))?;
            if value > 0.0 && value.is_finite() { Ok(value) } else { Err(field(full(key), value, "a positive number")) }
        };
        let original = || {
            let key = "original_max_position_embeddings";
            let length = json.count(key).map_err(named)?.unwrap_or(max_length);
            if (1..=1 << 30).contains(&length) { Ok(length) } else { Err(field(full(key), length, "from 1 to 2^30")) }
        };
        Ok(Some(match kind {
            "linear" => Self::Linear { factor: positive("factor", None)? },
            "llama3" => {
                let low_freq_factor = positive("low_freq_factor", None)?;
                let high_freq_factor = positive("high_freq_factor", None)?;
                if high_freq_factor <= low_freq_factor {
                    let expected = format!("more than low_freq_factor = {low_freq_factor}");
                    return Err(field(full("high_freq_factor"), high_freq_factor, expected));
                }
                Self::Llama3 {
                    factor: positive("factor", None)?,
                    low_freq_factor,
                    high_freq_factor,
                    original_max_position_embeddings: original()?,
                }
            }
            "yarn" => Self::Yarn {
                factor: positive("factor", None)?,
                original_max_position_embeddings: original()?,
                beta_fast: positive("beta_fast", Some(32.0))?,
                beta_slow: positive("beta_slow", Some(1.0))?,
                attention_factor: match number("attention_factor")? {
                    None => None,
                    Some(_) => Some(positive("attention_factor", None)?),
                },
                mscale: number("mscale")?,
                mscale_all_dim: number("mscale_all_dim")?,
                truncate: json.flag("truncate").map_err(named)?.unwrap_or(true),
            },
            _ => return Ok(None),
        }))
    }

    /// The value for `rope_scaling` of a `config.json`.
    pub(super) fn to_json(scaling: Option<&Self>, query_scale: Option<QueryScale>) -> Value {
        let mut value = scaling.map_or(Value::Null, Self::object);
        if let Some(scale) = query_scale {
            if value.is_null() {
                value = json!({ "rope_type": "default" });
            }
            value[BETA] = super::decimal(scale.beta).into();
            value["original_max_position_embeddings"] = scale.original.into();
        }
        value
    }

    fn object(&self) -> Value {
        match self {
            // No reader knows this type, so none computes anything else.
            Self::Divisors { .. } => json!({ "rope_type": "divisors" }),
            Self::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_max_position_embeddings,
            }),
            Self::Yarn {
                factor,
                original_max_position_embeddings,
                beta_fast,
                beta_slow,
                attention_factor,
                mscale,
                mscale_all_dim,
                truncate,
            } => {
                let mut value = json!({
                    "rope_type": "yarn",
                    "factor": factor,
                    "original_max_position_embeddings": original_max_position_embeddings,
                    "beta_fast": beta_fast,
                    "beta_slow": beta_slow,
                    "truncate": truncate,
                });
                let given =
                    [("attention_factor", attention_factor), ("mscale", mscale), ("mscale_all_dim", mscale_all_dim)];
                for (key, number) in given.into_iter().filter_map(|(key, number)| Some((key, (*number)?))) {
                    value[key] = number.into();
                }
                value
            }
        }
    }

    /// The scaling in a GGUF's metadata, and, for models that have one, the factor of the queries. Without a type,
    /// llama.cpp treats a factor as linear scaling; there 0 means no scaling.
    pub(super) fn from_gguf(
        gguf: &Gguf,
        architecture: &str,
        has_query_scale: bool,
    ) -> Result<(Option<Self>, Option<QueryScale>), Error> {
        let full = |key: &str| format!("{architecture}.{key}");
        let number = |key: &str| gguf.get_f32(&full(key)).map(|value| value.map(super::decimal));
        let kind = gguf.get_str(&full("rope.scaling.type"))?;
        let context = |key: &str| gguf.get_u32(&full(key)).map(|value| value.map(|value| value as usize));
        let original = match context("rope.scaling.original_context_length")? {
            Some(length) => Some(length),
            None => context("context_length")?,
        };
        let query_scale = match number("attention.temperature_scale")? {
            Some(beta) if has_query_scale && beta != 0.0 => query_scale_of(beta, original.unwrap_or(0))?,
            Some(beta) if beta != 0.0 => return Err(field(full("attention.temperature_scale"), beta, 0)),
            _ => None,
        };
        let factor = || {
            for key in ["rope.scaling.factor", "rope.scale_linear"] {
                match number(key)? {
                    None => {}
                    Some(factor) if factor.is_finite() && factor >= 0.0 => {
                        return Ok(Some(factor).filter(|factor| ![0.0, 1.0].contains(factor)));
                    }
                    Some(factor) => return Err(field(full(key), factor, "a positive number")),
                }
            }
            match kind {
                None => Ok(None),
                Some(_) => Err(field(full("rope.scaling.factor"), "nothing", "a positive number")),
            }
        };
        let scaling = match kind {
            Some("none") => None,
            None | Some("linear") => factor()?.map(|factor| Self::Linear { factor }),
            Some("yarn") => match factor()? {
                None => None,
                Some(factor) => {
                    let log_multiplier = number("rope.scaling.yarn_log_multiplier")?.filter(|value| *value != 0.0);
                    Some(Self::Yarn {
                        factor,
                        original_max_position_embeddings: original
                            .filter(|length| (1..=1 << 30).contains(length))
                            .ok_or_else(|| {
                                field(full("rope.scaling.original_context_length"), "nothing", "a length")
                            })?,
                        beta_fast: number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                        beta_slow: number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                        attention_factor: None,
                        // As in llama.cpp, which takes 1 for the first where there is the second.
                        mscale: log_multiplier.map(|_| 1.0),
                        mscale_all_dim: log_multiplier,
                        truncate: true,
                    })
                }
            },
            Some(kind) => return Err(field(full("rope.scaling.type"), kind, "none, linear or yarn")),
        };
        Ok((scaling, query_scale))
    }

    /// The scaling that the divisors of the frequencies mean, which a GGUF has as the tensor `rope_freqs.weight`: that of
    /// a published Llama 3 model, or else the divisors themselves.
    pub(crate) fn from_divisors(divisors: &[f32], head_dim: usize, theta: f64) -> Result<Self, Error> {
        let plain = Rope::new(head_dim, theta);
        let settings = [8.0, 16.0, 32.0].map(|factor| Self::Llama3 {
            factor,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        });
        let is_of = |scaling: &Self| {
            let scaled = Self::rope(Some(scaling), head_dim, theta);
            let expected = plain.frequencies().iter().zip(scaled.frequencies()).map(|(plain, scaled)| plain / scaled);
            expected.zip(divisors).all(|(expected, found)| (expected / found - 1.0).abs() < 1e-4)
        };
        if divisors.len() != head_dim / 2 {
            return Err(field("rope_freqs.weight", divisors.len(), format!("{} numbers", head_dim / 2)));
        }
        if let Some(found) = divisors.iter().find(|divisor| !(divisor.is_finite() && **divisor > 0.0)) {
            return Err(field("rope_freqs.weight", found, "positive numbers"));
        }
        let known = settings.into_iter().find(is_of);
        Ok(known.unwrap_or_else(|| Self::Divisors { divisors: divisors.to_vec() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The divisors that llama.cpp's converter writes for a Llama 3 model are recognised; others are kept as they are.
    #[test]
    fn the_divisors_of_a_gguf_are_llama_3() {
        for (factor, head_dim) in [(8.0, 128), (32.0, 64), (32.0, 128)] {
            // `LlamaModel.generate_extra_tensors` of llama.cpp's `convert_hf_to_gguf.py`.
            let divisor = |pair: usize| {
                let frequency = 1.0 / 5e5f64.powf((2 * pair) as f64 / head_dim as f64);
                let wavelength = 2.0 * PI / frequency;
                if wavelength < 8192.0 / 4.0 {
                    1.0
                } else if wavelength > 8192.0 {
                    factor
                } else {
                    let smooth = (8192.0 / wavelength - 1.0) / (4.0 - 1.0);
                    1.0 / ((1.0 - smooth) / factor + smooth)
                }
            };
            let mut divisors: Vec<f32> = (0..head_dim / 2).map(|pair| divisor(pair) as f32).collect();
            let found = RopeScaling::from_divisors(&divisors, head_dim, 5e5).unwrap();
            assert!(matches!(found, RopeScaling::Llama3 { factor: of, .. } if of == factor), "{found:?}");
            let plain = Rope::new(head_dim, 1e4);
            divisors[head_dim / 2 - 1] *= 1.01;
            let kept = RopeScaling::from_divisors(&divisors, head_dim, 1e4).unwrap();
            assert_eq!(kept, RopeScaling::Divisors { divisors: divisors.clone() });
            let scaled = RopeScaling::rope(Some(&kept), head_dim, 1e4);
            for ((plain, scaled), divisor) in plain.frequencies().iter().zip(scaled.frequencies()).zip(&divisors) {
                assert_eq!(plain / divisor, *scaled);
            }
            for broken in [&divisors[1..], &vec![0.0; head_dim / 2], &vec![f32::NAN; head_dim / 2]] {
                let error = RopeScaling::from_divisors(broken, head_dim, 5e5).unwrap_err();
                assert!(error.to_string().contains("rope_freqs.weight"), "{error}");
            }
        }
    }
}
