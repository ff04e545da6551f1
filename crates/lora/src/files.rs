//! PEFT's adapter files: `adapter_config.json`, `adapter_model.safetensors`, and Foehn's manifest beside them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use foehn_weights::{Tensor, Weights, save_safetensors};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::adapter::tensor_name;
use crate::{Adapter, Error, LoraConfig, Matrices, TargetModules};

const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";
const MANIFEST: &str = "foehn.json";

/// Fields of `adapter_config.json` that change the computation in a way that is not supported, with the value that
/// leaves it alone. Absent, null, false and empty values leave it alone too.
const UNSUPPORTED: [&str; 15] = [
    "alora_invocation_tokens",
    "arrow_config",
    "exclude_modules",
    "fan_in_fan_out",
    "layer_replication",
    "layers_pattern",
    "layers_to_transform",
    "lora_bias",
    "modules_to_save",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
];

impl Adapter {
    /// Reads an adapter's folder as PEFT (or Foehn) wrote it.
    ///
    /// # Errors
    /// [`Error::File`] where a file is missing, [`Error::Syntax`], [`Error::Unsupported`] naming the field,
    /// [`Error::Weights`] for a broken tensor file, [`Error::Foreign`] and [`Error::Unpaired`] for tensors that are no
    /// pairs of LoRA matrices.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(CONFIG);
        let config = config_from(&read_json(&path)?, &path)?;
        let weights = open(&folder.join(TENSORS))?;
        let manifest = folder.join(MANIFEST);
        let manifest = if manifest.exists() { Some(read_json(&manifest)?) } else { None };
        Ok(Self { config, modules: pairs(&weights)?, manifest })
    }

    /// Writes the adapter's folder so that PEFT reads it. Each file is replaced as a whole.
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Weights`] where the disk refuses.
    pub fn save(&self, folder: &Path) -> Result<(), Error> {
        fs::create_dir_all(folder).map_err(|source| Error::File { path: folder.to_owned(), source })?;
        let mut tensors = Vec::new();
        for (module, pair) in &self.modules {
            let (a, b) = (Cow::from(&pair.a), Cow::from(&pair.b));
            tensors.push(Tensor::f32(tensor_name(module, "A"), vec![pair.r, a.len() / pair.r], a));
            tensors.push(Tensor::f32(tensor_name(module, "B"), vec![b.len() / pair.r, pair.r], b));
        }
        save_safetensors(&folder.join(TENSORS), &tensors, &[("format".into(), "pt".into())].into())?;
        if let Some(manifest) = &self.manifest {
            write_json(&folder.join(MANIFEST), manifest)?;
        }
        write_json(&folder.join(CONFIG), &self.config_json())
    }

    fn config_json(&self) -> Value {
        let LoraConfig { r, lora_alpha, lora_dropout, use_rslora, rank_pattern, alpha_pattern, .. } = &self.config;
        // PEFT itself writes "all-linear" as the list of the names that it stood for.
        let target_modules = match &self.config.target_modules {
            TargetModules::AllLinear => json!(self.suffixes()),
            given => json!(given),
        };
        let base = self.manifest.as_ref().map(|manifest| manifest.base_name.clone());
        json!({
            "alpha_pattern": alpha_pattern,
            "base_model_name_or_path": base,
            "bias": "none",
            "inference_mode": true,
            "init_lora_weights": true,
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
    if map.get("bias").and_then(Value::as_str).is_some_and(|bias| bias != "none") {
        return Err(unsupported("bias", "none"));
    }
    if let Some(field) = UNSUPPORTED.into_iter().find(|field| map.get(*field).is_some_and(|value| !is_off(value))) {
        return Err(unsupported(field, "null"));
    }
    let known = ["r", "lora_alpha", "lora_dropout", "use_rslora", "target_modules", "rank_pattern", "alpha_pattern"];
    let kept = map.iter().filter(|(name, value)| known.contains(&name.as_str()) && !value.is_null());
    let kept: Map<String, Value> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    let config: LoraConfig = serde_json::from_value(Value::Object(kept))
        .map_err(|source| Error::Syntax { path: path.to_owned(), source })?;
    config.check()?;
    Ok(config)
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn pairs(weights: &Weights) -> Result<BTreeMap<String, Matrices>, Error> {
    let mut modules = BTreeMap::new();
    for name in weights.names() {
        let inner = name.strip_prefix("base_model.model.").and_then(|rest| rest.strip_suffix(".weight"));
        let Some((module, which)) = inner.and_then(|inner| inner.rsplit_once(".lora_")) else {
            return Err(Error::Foreign { name: name.to_owned() });
        };
        let partner = match which {
            "A" => tensor_name(module, "B"),
            "B" => tensor_name(module, "A"),
            _ => return Err(Error::Foreign { name: name.to_owned() }),
        };
        if weights.info(&partner).is_none() {
            return Err(Error::Unpaired { name: partner });
        }
        if which == "A" {
            let (a, a_shape) = weights.load_f32(name)?;
            let (b, b_shape) = weights.load_f32(&partner)?;
            let &[r, _] = a_shape.as_slice() else {
                return Err(Error::Shape { name: name.to_owned(), found: a_shape, expected: vec![0, 0] });
            };
            if r == 0 || b_shape.len() != 2 || b_shape[1] != r {
                let expected = vec![b_shape.first().copied().unwrap_or(0), r];
                return Err(Error::Shape { name: partner, found: b_shape, expected });
            }
            modules.insert(module.to_owned(), Matrices { r, a, b });
        }
    }
    Ok(modules)
}

fn open(path: &Path) -> Result<Weights, Error> {
    fs::metadata(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    Ok(Weights::open(path)?)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|source| Error::Syntax { path: path.to_owned(), source })
}

/// Writes beside the place, syncs, renames.
fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let mut text = serde_json::to_vec_pretty(value).map_err(|source| failed(source.into()))?;
    text.push(b'\n');
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}
