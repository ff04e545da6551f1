//! Adapters of mistral-finetune: `lora.safetensors`, with `params.json` beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use foehn_mistral::{MistralConfig, half_split_row, interleaved_row, native_name, part_of_native};
use foehn_weights::{Tensor, Weights, save_safetensors};
use serde::Deserialize;
use serde_json::json;

use crate::gguf::rows;
use crate::{Adapter, Error, LoraConfig, Matrices, TargetModules};

pub(crate) const TENSORS: &str = "lora.safetensors";
const PARAMS: &str = "params.json";
/// The scale that mistral-finetune trains with, and mistral-inference applies, if none is given.
const SCALING: f64 = 2.0;

/// What is needed of `params.json`: the width of a head, since rows of q and k are interleaved by head, and the scale.
#[derive(Deserialize)]
struct Params {
    dim: Option<usize>,
    n_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default)]
    lora: Option<Lora>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Lora {
    #[serde(rename = "enable")]
    _enable: Option<bool>,
    rank: Option<usize>,
    scaling: Option<f64>,
    dropout: Option<f32>,
}

impl Params {
    fn head_dim(&self) -> Option<usize> {
        let even = self.dim.zip(self.n_heads.filter(|heads| *heads > 0)).map(|(dim, heads)| dim / heads);
        self.head_dim.or(even).filter(|width| *width > 0 && width.is_multiple_of(2))
    }
}

/// Reads the adapter in a folder.
pub(crate) fn load(folder: &Path) -> Result<Adapter, Error> {
    let path = folder.join(PARAMS);
    let params: Params = crate::files::read_json(&path)?;
    let Some(head_dim) = params.head_dim() else {
        let found = params.head_dim.map_or_else(|| "nothing".to_owned(), |width| width.to_string());
        let expected = "an even width, or dim and n_heads".to_owned();
        return Err(Error::Unsupported { path, field: "head_dim".to_owned(), found, expected });
    };
    let weights = Weights::open(folder.join(TENSORS))?;
    let (mut modules, mut targets) = (BTreeMap::new(), BTreeSet::new());
    for name in weights.names() {
        let unsupported = || Error::UnsupportedTensor { name: name.to_owned() };
        let inner = name.strip_prefix("layers.").and_then(|rest| rest.strip_suffix(".weight"));
        let (place, which) = inner.and_then(|inner| inner.rsplit_once(".lora_")).ok_or_else(unsupported)?;
        let (index, part) = place.split_once('.').ok_or_else(unsupported)?;
        let ours = part_of_native(part).ok_or_else(unsupported)?;
        let partner = match which {
            "A" => format!("layers.{place}.lora_B.weight"),
            "B" => format!("layers.{place}.lora_A.weight"),
            _ => return Err(unsupported()),
        };
        if weights.info(&partner).is_none() {
            return Err(Error::Unpaired { name: partner });
        }
        if which == "A" {
            let mut pair = crate::files::pair(&weights, name, &partner)?;
            if ours.ends_with("q_proj") || ours.ends_with("k_proj") {
                pair.b = half_split(&pair, head_dim).ok_or_else(|| Error::Shape {
                    name: partner.clone(),
                    found: vec![pair.b.len() / pair.r, pair.r],
                    expected: vec![head_dim, pair.r],
                })?;
            }
            targets.insert(ours.to_owned());
            modules.insert(format!("model.layers.{index}.{ours}"), pair);
        }
    }
    let Some(r) = modules.values().map(|pair| pair.r).next() else {
        return Err(Error::Empty { path: folder.to_owned() });
    };
    if let Some((name, pair)) = modules.iter().find(|(_, pair)| pair.r != r) {
        return Err(Error::Shape { name: name.clone(), found: vec![pair.r], expected: vec![r] });
    }
    let lora = params.lora.unwrap_or_default();
    if let Some(rank) = lora.rank.filter(|rank| *rank != r) {
        let expected = format!("{r}, the rank of the matrices");
        return Err(Error::Unsupported { path, field: "lora.rank".to_owned(), found: rank.to_string(), expected });
    }
    let config = LoraConfig {
        r,
        lora_alpha: lora.scaling.unwrap_or(SCALING) * r as f64,
        lora_dropout: lora.dropout.unwrap_or(0.0),
        target_modules: TargetModules::Suffixes(targets.into_iter().collect()),
        ..LoraConfig::default()
    };
    config.check()?;
    Ok(Adapter { config, modules, manifest: None })
}

impl Adapter {
    /// Writes the adapter in the format of mistral-finetune: `lora.safetensors` and `params.json`, which mistral-inference
    /// loads beside a base of Mistral's own format.
    ///
    /// That format has one rank and one scale, 2. So B takes what differs from the scale, and matrices of a lower
    /// rank get rows and columns of zeros. Each file is replaced atomically.
    ///
    /// # Errors
    /// Those of [`check_config`](Self::check_config), [`Error::NotFinite`] if a scale makes a value infinite,
    /// [`Error::File`] and [`Error::Weights`] if writing fails.
    pub fn save_native(&self, folder: &Path, config: &MistralConfig) -> Result<(), Error> {
        self.check_config(config)?;
        std::fs::create_dir_all(folder).map_err(|source| Error::File { path: folder.to_owned(), source })?;
        let r = self.modules.values().map(|pair| pair.r).max().unwrap_or(0);
        let mut tensors = Vec::new();
        for (module, pair) in &self.modules {
            let name = native_name(&format!("{}.lora", config.language_module(module)));
            let factor = self.config.scale(module)? / SCALING;
            let (input, out) = (pair.a.len() / pair.r, pair.b.len() / pair.r);
            let mut a = pair.a.clone();
            a.resize(r * input, 0.0);
            let scaled = |value: &f32| (f64::from(*value) * factor) as f32;
            let padded = |row: &[f32]| row.iter().map(scaled).chain((row.len()..r).map(|_| 0.0)).collect::<Vec<_>>();
            let mut b: Vec<f32> = pair.b.chunks(pair.r).flat_map(padded).collect();
            if module.ends_with(".q_proj") || module.ends_with(".k_proj") {
                b = rows(&b, r, |row| half_split_row(row, config.head_dim));
            }
            tensors.push(Tensor::f32(format!("{name}_A.weight"), vec![r, input], a));
            tensors.push(Tensor::f32(format!("{name}_B.weight"), vec![out, r], b));
        }
        save_safetensors(&folder.join(TENSORS), &tensors, &BTreeMap::new())?;
        let params = json!({
            "dim": config.hidden_size,
            "n_layers": config.num_hidden_layers,
            "head_dim": config.head_dim,
            "hidden_dim": config.intermediate_size,
            "n_heads": config.num_attention_heads,
            "n_kv_heads": config.num_key_value_heads,
            "norm_eps": config.rms_norm_eps,
            "vocab_size": config.vocab_size,
            "rope_theta": config.rope_theta,
            "lora": {"enable": true, "rank": r, "scaling": SCALING, "dropout": 0.0},
        });
        crate::files::write_json(&folder.join(PARAMS), &params)
    }
}

/// The rows of B, whose pairs of the rotation lie beside each other in each head, with each pair half a head apart.
fn half_split(pair: &Matrices, head_dim: usize) -> Option<Vec<f32>> {
    let count = pair.b.len() / pair.r;
    count.is_multiple_of(head_dim).then(|| rows(&pair.b, pair.r, |row| interleaved_row(row, head_dim)))
}
