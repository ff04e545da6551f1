//! What a run begins from.

use std::path::Path;

use foehn_lora::{Adapter, LoraConfig, Manifest, attach, detach};
use foehn_mistral::Mistral;

use crate::checkpoint::{MAX_STEPS, hash};
use crate::{Error, Objective, Run, TrainingConfig, resume};

/// The key of the manifest's settings with the hash of the adapter that the reference has.
const REFERENCE: &str = "reference_sha256";

/// The run's config, if the model and the settings allow it.
pub(super) fn checked(model: &Mistral, run: &Run<'_>) -> Result<TrainingConfig, Error> {
    let config = run.config.clone();
    config.check()?;
    for dataset in [Some(run.training), run.validation].into_iter().flatten() {
        dataset.check_objective(config.objective)?;
    }
    let total = run.training.total_steps(&config);
    if total == 0 {
        return Err(Error::NoData { reason: "with its weights, no epoch of the run has a record".into() });
    }
    if total > MAX_STEPS {
        let expected = "so many that the run has at most 99999999 steps";
        return Err(Error::Setting { field: "epochs", found: config.epochs.to_string(), expected });
    }
    if config.recompute && !foehn_kernels::can_recompute(&model.device()) {
        let expected = "false: the device does not support it, `flex` alone does";
        return Err(Error::Setting { field: "recompute", found: "true".into(), expected });
    }
    if !config.compute.is_available_on(&model.device()) {
        let expected = "f32: the device does not support it, `flex` alone does";
        return Err(Error::Setting { field: "compute", found: config.compute.to_string(), expected });
    }
    Ok(config)
}

/// The adapter before the first step. If it is loaded from a folder, the config's `[lora]` is replaced by its settings.
pub(super) fn first_adapter(model: &Mistral, config: &mut TrainingConfig) -> Result<Adapter, Error> {
    let Some(path) = config.init_adapter.clone() else { return Ok(Adapter::new(&config.lora, model, config.seed)?) };
    let mut adapter = Adapter::load(&path)?;
    if config.lora == LoraConfig::default() {
        config.lora = adapter.config.clone();
    } else {
        let fresh = Adapter::new(&config.lora, model, config.seed)?;
        resume::check_init(Path::new(&path), &adapter, &fresh)?;
        adapter.config = config.lora.clone();
    }
    Ok(adapter)
}

/// The model that the objective compares with: the base if the adapter is new, and therefore changes nothing, else the
/// base with the adapter.
pub(super) fn reference(model: &Mistral, config: &TrainingConfig, first: &Adapter) -> Result<Option<Mistral>, Error> {
    if config.objective != Objective::Dpo {
        return Ok(None);
    }
    let mut reference = model.clone();
    reference.set_compute(config.compute);
    drop(detach(&mut reference, &config.lora));
    if config.init_adapter.is_some() {
        attach(&mut reference, first)?;
    }
    Ok(Some(reference))
}

pub(super) fn manifest(run: &Run<'_>, config: &TrainingConfig) -> Result<Manifest, Error> {
    let mut manifest = Manifest { seed: config.seed, ..run.manifest.clone() };
    if manifest.data_sha256.is_empty() {
        manifest.data_sha256 = run.training.sha256();
    }
    // Keys of the caller's recipe that are not training settings are kept.
    let mut settings = manifest.recipe.as_object().cloned().unwrap_or_default();
    if let Ok(serde_json::Value::Object(own)) = serde_json::to_value(config) {
        settings.extend(own);
    }
    // The reference of a resumed run must be that of its beginning.
    if let (Objective::Dpo, Some(path)) = (config.objective, &config.init_adapter) {
        settings.insert(REFERENCE.to_owned(), reference_sha256(path)?.into());
    }
    manifest.recipe = settings.into();
    Ok(manifest)
}

/// The SHA-256 of an adapter's settings and tensors, in lower-case hexadecimal.
fn reference_sha256(folder: &Path) -> Result<String, Error> {
    let mut bytes = Vec::new();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        let path = folder.join(file);
        bytes.extend(std::fs::read(&path).map_err(|source| Error::File { path, source })?);
    }
    Ok(hash(&bytes))
}
