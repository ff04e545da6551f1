//! Checks whether a checkpoint belongs to the run that is to be resumed.

use std::path::Path;

use foehn_lora::{Adapter, LoraConfig, Manifest};
use serde_json::{Map, Value};

use crate::{Error, TrainingConfig};

/// Settings that may change: paths, names, and when files are written. The contents at these paths are compared by
/// hash.
const FREE: [&str; 9] = [
    "model",
    "template",
    "data",
    "pipeline",
    "lexicon",
    "init_adapter",
    "checkpoint_steps",
    "keep_checkpoints",
    "recompute",
];

/// Tables that do not concern the training: what is asked before and after, and how answers are decoded.
const BESIDE: [&str; 2] = ["evaluation", "generation"];

/// Compares what a checkpoint was made from with the run to be resumed. Returns a text for each change and its effect.
///
/// The learning rate of a step depends on the number of steps of the whole run. If `epochs` or `max_steps` has changed,
/// the remaining steps have the learning rates of a run of the new length. The steps already taken are not affected.
pub(crate) fn changes(place: &Path, found: &Manifest, expected: &Manifest) -> Result<Vec<String>, Error> {
    let mismatch = |key: &str, old: String, new: String| {
        Err(Error::ResumeMismatch { path: place.to_owned(), key: key.to_owned(), old, new })
    };
    let hashes = [
        ("base", &found.base_sha256, &expected.base_sha256),
        ("tokenizer", &found.tokenizer_sha256, &expected.tokenizer_sha256),
        ("template", &found.template_sha256, &expected.template_sha256),
        ("dataset", &found.data_sha256, &expected.data_sha256),
    ];
    for (key, old, new) in hashes {
        if old != new {
            return mismatch(key, old.clone(), new.clone());
        }
    }
    if found.data_weights != expected.data_weights {
        let said = |weights: &Vec<(usize, f64)>| match weights.is_empty() {
            true => "none".to_owned(),
            false => format!("{weights:?} (records, weight)"),
        };
        return mismatch("the weights of `data`", said(&found.data_weights), said(&expected.data_weights));
    }
    let (old, new) = (&found.validation_sha256, &expected.validation_sha256);
    // Manifests of older versions do not have it.
    if old != new && !old.is_empty() && !new.is_empty() {
        return mismatch("validation data", old.clone(), new.clone());
    }
    let of = |manifest: &Manifest| {
        leaves(&manifest.recipe)
            .map_err(|error| Error::Checkpoint { path: place.to_owned(), reason: format!("its settings: {error}") })
    };
    let (old, new) = (of(found)?, of(expected)?);
    let mut changes = Vec::new();
    let keys = old.iter().chain(&new).map(|(key, _)| key);
    let mut seen = Vec::new();
    for key in keys {
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let value = |of: &[(String, Value)]| of.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        let [before, after] = [value(&old), value(&new)];
        let table = key.split('.').next().unwrap_or(key);
        if before == after || FREE.contains(&key.as_str()) || BESIDE.contains(&table) {
            continue;
        }
        let [before, after] = [before, after].map(|value| value.map_or("none".to_owned(), |value| value.to_string()));
        match key.as_str() {
            "micro_batch_rows" => changes.push(format!("`{key}` {before} to {after}: sums are rounded otherwise")),
            "epochs" | "max_steps" => {
                changes.push(format!("`{key}` {before} to {after}: the learning rate follows the new number of steps"));
            }
            _ => return mismatch(key, before, after),
        }
    }
    Ok(changes)
}

/// The values of a recipe by their dotted keys. The training settings are deserialised first, so that a setting that
/// the older version did not have gets its default.
fn leaves(recipe: &Value) -> serde_json::Result<Vec<(String, Value)>> {
    fn put(prefix: &str, value: Value, into: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    put(&if prefix.is_empty() { key } else { format!("{prefix}.{key}") }, value, into);
                }
            }
            value => into.push((prefix.to_owned(), value)),
        }
    }
    let known = serde_json::to_value(TrainingConfig { init_adapter: Some("".into()), ..TrainingConfig::default() })?;
    let is_known = |key: &str| known.get(key).is_some();
    let (own, mut all): (Map<_, _>, Map<_, _>) =
        recipe.as_object().cloned().unwrap_or_default().into_iter().partition(|(key, _)| is_known(key));
    if let Value::Object(own) = serde_json::to_value(serde_json::from_value::<TrainingConfig>(own.into())?)? {
        all.extend(own);
    }
    let mut found = Vec::new();
    put("", all.into(), &mut found);
    Ok(found)
}

/// Checks that an adapter matches `[lora]`. `fresh` is a new adapter made from `[lora]`.
pub(crate) fn check_init(path: &Path, adapter: &Adapter, fresh: &Adapter) -> Result<(), Error> {
    let differs = |what: &str, found: String, expected: String| {
        Err(Error::InitAdapter { path: path.to_owned(), what: what.to_owned(), found, expected })
    };
    let names = |adapter: &Adapter| adapter.modules.keys().cloned().collect::<Vec<_>>();
    if let Some(name) = names(adapter).iter().find(|name| !fresh.modules.contains_key(*name)) {
        return differs("the module", name.clone(), "none of that name".into());
    }
    if let Some(name) = names(fresh).iter().find(|name| !adapter.modules.contains_key(*name)) {
        return differs("the module", format!("no {name}"), "one of that name".into());
    }
    for (name, pair) in &adapter.modules {
        if pair.r != fresh.modules[name].r {
            return differs(&format!("{name} with the rank"), pair.r.to_string(), fresh.modules[name].r.to_string());
        }
        let scales = [adapter.config.scale(name)?, fresh.config.scale(name)?];
        if scales[0] != scales[1] {
            return differs(&format!("{name} with the scale"), scales[0].to_string(), scales[1].to_string());
        }
    }
    Ok(())
}

/// Whether the settings of a checkpoint's adapter match the checkpoint's own `lora` settings.
pub(crate) fn is_of(config: &LoraConfig, lora: &LoraConfig) -> bool {
    // "all-linear" is stored as the list of names that it stands for, so the targets are not compared.
    LoraConfig { target_modules: lora.target_modules.clone(), ..config.clone() } == *lora
}
