//! Checkpoints: everything that a run needs to go on as if never interrupted.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use foehn_lora::{Adapter, Manifest, Parameter};
use foehn_weights::{Weights, save_safetensors};
use serde::{Deserialize, Serialize};

use crate::{AdamW, AdamWConfig, Error};

const STATE: &str = "state.json";
const OPTIMIZER: &str = "optimizer.safetensors";
const BEST: &str = "best";
const PREFIX: &str = "step-";

/// The part of a run's state that is no tensor. Data order, schedule and dropout are functions of the recipe's seed and
/// the step, so the step is all that is kept of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Steps taken.
    pub step: usize,
    /// The lowest validation loss so far.
    pub best_loss: Option<f64>,
    /// Validations since then.
    pub since_best: usize,
}

/// A run's state at a step.
pub(crate) struct Checkpoint {
    pub state: State,
    pub adapter: Adapter,
    /// The adapter of the lowest validation loss, where that decides.
    pub best: Option<Adapter>,
    pub optimizer: AdamW,
}

impl Checkpoint {
    /// Writes the checkpoint's folder beside its place and renames it; removes older ones. Returns its path.
    pub fn save(&self, folder: &Path, parameters: &[Parameter]) -> Result<PathBuf, Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let place = folder.join(format!("{PREFIX}{:08}", self.state.step));
        let partial = tempfile::Builder::new().prefix(".partial-").tempdir_in(folder).map_err(failed(folder))?;
        self.adapter.save(partial.path())?;
        if let Some(best) = &self.best {
            best.save(&partial.path().join(BEST))?;
        }
        save_moments(&partial.path().join(OPTIMIZER), &self.optimizer, parameters)?;
        let state = serde_json::to_vec_pretty(&self.state).map_err(|source| failed(&place)(source.into()))?;
        write_file(&partial.path().join(STATE), &state)?;
        if place.exists() {
            fs::remove_dir_all(&place).map_err(failed(&place))?;
        }
        fs::rename(partial.path(), &place).map_err(failed(&place))?;
        for older in all(folder)?.into_iter().filter(|path| *path != place) {
            fs::remove_dir_all(&older).map_err(failed(&older))?;
        }
        Ok(place)
    }

    /// Reads a checkpoint's folder; `parameters` are those of the model that the run trains, and `manifest` is what
    /// the run would write.
    pub fn load(
        place: &Path,
        config: AdamWConfig,
        parameters: impl FnOnce(&Adapter) -> Result<Vec<Parameter>, Error>,
        manifest: &Manifest,
    ) -> Result<Self, Error> {
        let state_path = place.join(STATE);
        let text =
            fs::read_to_string(&state_path).map_err(|source| Error::File { path: state_path.clone(), source })?;
        let state: State = serde_json::from_str(&text)
            .map_err(|source| Error::Checkpoint { path: state_path, reason: source.to_string() })?;
        let adapter = Adapter::load(place)?;
        check_manifest(place, adapter.manifest.as_ref(), manifest)?;
        let best = place.join(BEST);
        let best = if best.exists() { Some(Adapter::load(&best)?) } else { None };
        let parameters = parameters(&adapter)?;
        let moments = load_moments(&place.join(OPTIMIZER), &parameters)?;
        let tensors: Vec<Tensor<2>> = parameters.into_iter().map(|parameter| parameter.tensor).collect();
        let optimizer = AdamW::restored(config, &tensors, moments, state.step as u32);
        Ok(Self { state, adapter, best, optimizer })
    }
}

/// The newest checkpoint under a folder.
pub(crate) fn newest(folder: &Path) -> Result<Option<PathBuf>, Error> {
    Ok(all(folder)?.pop())
}

/// Writes a file beside its place, syncs and renames it.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// All checkpoints, oldest first: their names sort by step.
fn all(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let failed = |source| Error::File { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn check_manifest(place: &Path, found: Option<&Manifest>, expected: &Manifest) -> Result<(), Error> {
    let empty = Manifest::default();
    let found = found.unwrap_or(&empty);
    let pairs = [
        ("base", found.base_sha256 == expected.base_sha256),
        ("tokenizer", found.tokenizer_sha256 == expected.tokenizer_sha256),
        ("template", found.template_sha256 == expected.template_sha256),
        ("dataset", found.data_sha256 == expected.data_sha256),
        ("recipe", found.recipe == expected.recipe),
    ];
    match pairs.into_iter().find(|(_, same)| !same) {
        Some((what, _)) => Err(Error::ResumeMismatch { path: place.to_owned(), what }),
        None => Ok(()),
    }
}

fn save_moments(path: &Path, optimizer: &AdamW, parameters: &[Parameter]) -> Result<(), Error> {
    let mut tensors = Vec::new();
    for (parameter, (first, second)) in parameters.iter().zip(optimizer.moments()) {
        for (prefix, moment) in [("exp_avg", first), ("exp_avg_sq", second)] {
            let values: Vec<f32> = moment.to_data().try_into_vec().expect("moments are f32");
            let name = format!("{prefix}.{}", parameter.name);
            tensors.push(foehn_weights::Tensor::f32(name, moment.dims().to_vec(), values));
        }
    }
    Ok(save_safetensors(path, &tensors, &Default::default())?)
}

fn load_moments(path: &Path, parameters: &[Parameter]) -> Result<Vec<[Vec<f32>; 2]>, Error> {
    let weights = Weights::open(path)?;
    let moment = |prefix: &str, parameter: &Parameter| {
        let name = format!("{prefix}.{}", parameter.name);
        let (values, shape) = weights.load_f32(&name)?;
        if shape != parameter.tensor.dims() {
            let reason = format!("`{name}` has shape {shape:?}, expected {:?}", parameter.tensor.dims());
            return Err(Error::Checkpoint { path: path.to_owned(), reason });
        }
        Ok(values)
    };
    parameters.iter().map(|parameter| Ok([moment("exp_avg", parameter)?, moment("exp_avg_sq", parameter)?])).collect()
}
