//! What a run begins from.

use std::path::Path;

use foehn_lora::{Adapter, LoraConfig, Manifest};
use foehn_mistral::Mistral;

use crate::checkpoint::MAX_STEPS;
use crate::{Error, Run, TrainingConfig, resume};

/// The run's config, if the model and the settings allow it.
pub(super) fn checked(model: &Mistral, run: &Run<'_>) -> Result<TrainingConfig, Error> {
    let config = run.config.clone();
    config.check()?;
    let total = config.total_steps(run.training.samples.len());
    if total > MAX_STEPS {
        let expected = "so many that the run has at most 99999999 steps";
        return Err(Error::Setting { field: "epochs", found: config.epochs.to_string(), expected });
    }
    if config.recompute && !foehn_kernels::can_recompute(&model.device()) {
        let expected = "false: the device does not support it, `flex` alone does";
        return Err(Error::Setting { field: "recompute", found: "true".into(), expected });
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

pub(super) fn manifest(run: &Run<'_>, config: &TrainingConfig) -> Manifest {
    let mut manifest = Manifest { seed: config.seed, ..run.manifest.clone() };
    if manifest.data_sha256.is_empty() {
        manifest.data_sha256 = run.training.sha256();
    }
    // Keys of the caller's recipe that are not training settings are kept.
    let mut settings = manifest.recipe.as_object().cloned().unwrap_or_default();
    if let Ok(serde_json::Value::Object(own)) = serde_json::to_value(config) {
        settings.extend(own);
    }
    manifest.recipe = settings.into();
    manifest
}
