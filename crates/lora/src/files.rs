//! PEFT's adapter files: `adapter_config.json` and `adapter_model.safetensors`, with Foehn's manifest beside them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use foehn_weights::{Tensor, Weights, save_safetensors};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::adapter::tensor_name;
use crate::pattern::is_outer;
use crate::{Adapter, Error, LoraConfig, Manifest, Matrices, TargetModules, native};

const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";
/// A file that is a program, which only Python can read.
const PICKLE: &str = "adapter_model.bin";
const MANIFEST: &str = "foehn.json";

/// Fields of `adapter_config.json` that the computation depends on.
const SETTINGS: [&str; 10] = [
    "r",
    "lora_alpha",
    "lora_dropout",
    "use_rslora",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
];

/// Fields that describe where an adapter comes from or how its training began. PEFT ignores them when it loads,
/// whatever their value. Every other field may change the computation, and must be null, false or empty.
const NEUTRAL: [&str; 12] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
];

/// Initialisations that do not change the base's weights. The others (`pissa`, `olora`, `corda`, `loftq`, `lora_ga`)
/// subtract a part from them, so their adapter belongs to a modified base.
const BEGINNINGS: [&str; 4] = ["gaussian", "eva", "orthogonal", "mica"];

impl Manifest {
    /// The manifest in an adapter's folder; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Syntax`] if it cannot be read.
    pub fn of_folder(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(MANIFEST);
        if path.exists() { read_json(&path).map(Some) } else { Ok(None) }
    }
}

impl Adapter {
    /// Reads an adapter's folder in the format of PEFT or Foehn, or in that of mistral-finetune: `lora.safetensors`, with
    /// the model's `params.json` beside it.
    ///
    /// # Errors
    /// [`Error::File`] if a file is missing, [`Error::Syntax`], [`Error::Unsupported`] naming the field,
    /// [`Error::Pickle`],
    /// [`Error::Weights`] for a broken tensor file, [`Error::UnsupportedTensor`],
    /// [`Error::UnsupportedLayer`] and [`Error::Unpaired`] for tensors that are no pairs of LoRA matrices, [`Error::Empty`], [`Error::NotFinite`].
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(CONFIG);
        if !path.exists() && folder.join(native::TENSORS).is_file() {
            let adapter = native::load(folder)?;
            adapter.check_whole(folder)?;
            return Ok(adapter);
        }
        if folder.join(PICKLE).is_file() && !folder.join(TENSORS).exists() {
            return Err(Error::Pickle { path: folder.join(PICKLE) });
        }
        let config = config_from(&read_json(&path)?, &path)?;
        let weights = open(&folder.join(TENSORS))?;
        let manifest = Manifest::of_folder(folder)?;
        let adapter = Self { config, modules: pairs(&weights)?, manifest };
        adapter.check_whole(folder)?;
        Ok(adapter)
    }

    /// Writes the adapter's folder in PEFT's format. Each file is replaced atomically. If this adapter has no manifest,
    /// a manifest from an earlier adapter is removed.
    ///
    /// # Errors
    /// [`Error::Empty`] and [`Error::NotFinite`] for an adapter that is not usable, [`Error::File`] and
    /// [`Error::Weights`] if writing fails.
    pub fn save(&self, folder: &Path) -> Result<(), Error> {
        self.save_for(folder, self.manifest.as_ref().map(|manifest| manifest.base_name.as_str()))
    }

    /// As [`save`](Self::save), with another name of the base in `base_model_name_or_path`, such as its repository on the
    /// hub: PEFT loads the base by that name.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_for(&self, folder: &Path, base_name: Option<&str>) -> Result<(), Error> {
        self.check_whole(folder)?;
        fs::create_dir_all(folder).map_err(|source| Error::File { path: folder.to_owned(), source })?;
        let mut tensors = Vec::new();
        for (module, pair) in &self.modules {
            let (a, b) = (Cow::from(&pair.a), Cow::from(&pair.b));
            tensors.push(Tensor::f32(tensor_name(module, "A"), vec![pair.r, a.len() / pair.r], a));
            tensors.push(Tensor::f32(tensor_name(module, "B"), vec![b.len() / pair.r, pair.r], b));
        }
        let manifest = folder.join(MANIFEST);
        if self.manifest.is_none() && manifest.exists() {
            fs::remove_file(&manifest).map_err(|source| Error::File { path: manifest.clone(), source })?;
        }
        save_safetensors(&folder.join(TENSORS), &tensors, &[("format".into(), "pt".into())].into())?;
        if let Some(manifest) = &self.manifest {
            write_json(&folder.join(MANIFEST), manifest)?;
        }
        write_json(&folder.join(CONFIG), &self.config_json(base_name))
    }

    fn check_whole(&self, folder: &Path) -> Result<(), Error> {
        if self.modules.is_empty() {
            return Err(Error::Empty { path: folder.to_owned() });
        }
        self.check_values()
    }

    fn config_json(&self, base_name: Option<&str>) -> Value {
        let LoraConfig { r, lora_alpha, lora_dropout, use_rslora, rank_pattern, alpha_pattern, .. } = &self.config;
        // PEFT itself writes the list of names that "all-linear" stood for.
        let target_modules = match &self.config.target_modules {
            TargetModules::AllLinear => json!(self.suffixes()),
            given => json!(given),
        };
        let layers = (!self.config.layers_to_transform.is_empty()).then_some(&self.config.layers_to_transform);
        let layers_pattern = (!self.config.layers_pattern.is_empty()).then_some(&self.config.layers_pattern);
        json!({
            "alpha_pattern": alpha_pattern,
            "base_model_name_or_path": base_name,
            "bias": "none",
            "exclude_modules": self.config.exclude_modules,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": layers_pattern,
            "layers_to_transform": layers,
            "lora_alpha": lora_alpha,
            "lora_dropout": lora_dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": r,
            "rank_pattern": rank_pattern,
            "target_modules": target_modules,
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": use_rslora,
        })
    }

    fn suffixes(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.modules.keys().filter_map(|name| name.rsplit('.').next()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn config_from(map: &Map<String, Value>, path: &Path) -> Result<LoraConfig, Error> {
    let unsupported = |field: &str, expected: &str| Error::Unsupported {
        path: path.to_owned(),
        field: field.to_owned(),
        found: map.get(field).map_or_else(|| "nothing".into(), Value::to_string),
        expected: expected.to_owned(),
    };
    if map.get("peft_type").and_then(Value::as_str) != Some("LORA") {
        return Err(unsupported("peft_type", "LORA"));
    }
    let field = |name: &str| map.get(name).filter(|value| !is_off(value));
    if field("bias").is_some_and(|bias| bias != "none") {
        return Err(unsupported("bias", "none"));
    }
    let begins_on_the_base = |value: &Value| match value {
        Value::Bool(_) => true,
        Value::String(name) => BEGINNINGS.contains(&name.to_lowercase().as_str()),
        _ => false,
    };
    if field("init_lora_weights").is_some_and(|value| !begins_on_the_base(value)) {
        let expected = format!("true, false or one of {} (others change the base)", BEGINNINGS.join(", "));
        return Err(unsupported("init_lora_weights", &expected));
    }
    let read = ["peft_type", "bias", "init_lora_weights"];
    let passed = |name: &str| [&SETTINGS[..], &NEUTRAL, &read].iter().any(|list| list.contains(&name));
    if let Some((name, _)) = map.iter().find(|(name, value)| !passed(name) && !is_off(value)) {
        return Err(unsupported(name, "null"));
    }
    // Without it, PEFT would choose targets by the architecture's name.
    if map.get("target_modules").is_none_or(Value::is_null) {
        return Err(unsupported("target_modules", "a list of names or a pattern"));
    }
    let kept = map
        .iter()
        .filter(|(name, value)| SETTINGS.contains(&name.as_str()) && !value.is_null() && !is_empty_list(value));
    let mut kept: Map<String, Value> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    // PEFT's own default, for an old file that does not have the field.
    kept.entry("lora_alpha").or_insert(json!(8));
    let config: LoraConfig = serde_json::from_value(Value::Object(kept))
        .map_err(|source| Error::Syntax { path: path.to_owned(), source })?;
    config.check()?;
    Ok(config)
}

/// PEFT treats an empty list like nothing.
fn is_empty_list(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn pairs(weights: &Weights) -> Result<BTreeMap<String, Matrices>, Error> {
    let mut modules = BTreeMap::new();
    for name in weights.names() {
        if is_outer(name) {
            return Err(Error::UnsupportedLayer { name: name.to_owned() });
        }
        let inner = name.strip_prefix("base_model.model.").and_then(|rest| rest.strip_suffix(".weight"));
        let Some((module, which)) = inner.and_then(|inner| inner.rsplit_once(".lora_")) else {
            return Err(Error::UnsupportedTensor { name: name.to_owned() });
        };
        let partner = match which {
            "A" => tensor_name(module, "B"),
            "B" => tensor_name(module, "A"),
            _ => return Err(Error::UnsupportedTensor { name: name.to_owned() }),
        };
        if weights.info(&partner).is_none() {
            return Err(Error::Unpaired { name: partner });
        }
        if which == "A" {
            modules.insert(module.to_owned(), pair(weights, name, &partner)?);
        }
    }
    Ok(modules)
}

/// The two matrices of one adapter.
pub(crate) fn pair(weights: &Weights, a_name: &str, b_name: &str) -> Result<Matrices, Error> {
    let (a, a_shape) = weights.load_f32(a_name)?;
    let (b, b_shape) = weights.load_f32(b_name)?;
    let &[r, _] = a_shape.as_slice() else {
        return Err(Error::Shape { name: a_name.to_owned(), found: a_shape, expected: vec![0, 0] });
    };
    if r == 0 || b_shape.len() != 2 || b_shape[1] != r {
        let expected = vec![b_shape.first().copied().unwrap_or(0), r];
        return Err(Error::Shape { name: b_name.to_owned(), found: b_shape, expected });
    }
    Ok(Matrices { r, a, b })
}

fn open(path: &Path) -> Result<Weights, Error> {
    fs::metadata(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    Ok(Weights::open(path)?)
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = foehn_files::read_to_string(path, foehn_files::MAX_TEXT)
        .map_err(|source| Error::File { path: path.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|source| Error::Syntax { path: path.to_owned(), source })
}

/// Writes indented JSON atomically.
pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let mut text = serde_json::to_vec_pretty(value).map_err(|source| failed(source.into()))?;
    text.push(b'\n');
    foehn_files::write(path, &text).map_err(failed)
}
