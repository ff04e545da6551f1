//! Checkpoints: everything that a run needs to continue as if it had not been interrupted.

mod seal;

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use foehn_files::DraftFolder;
use foehn_lora::{Adapter, Parameter};
use foehn_weights::{Weights, save_safetensors};
use serde::{Deserialize, Serialize};

use crate::{AdamW, AdamWConfig, Error, Warning};
pub(crate) use seal::hash;

const OPTIMIZER: &str = "optimizer.safetensors";
const BEST: &str = "best";
const PREFIX: &str = "step-";
/// Digits in a folder's name; with a fixed number, names sort by step.
const DIGITS: usize = 8;
/// The largest number of steps of a run: a larger one does not fit in a folder's name.
pub(crate) const MAX_STEPS: usize = 99_999_999;

/// The state of a run, apart from its tensors. Data order, schedule and dropout are functions of the seed and the step,
/// so only the step is stored for them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Steps taken.
    pub step: usize,
    /// The step after which the last validation was computed.
    pub validated: usize,
    /// The lowest validation loss so far.
    pub best_loss: Option<f64>,
    /// The step after which the lowest loss was measured.
    pub best_step: Option<usize>,
    /// The number of validations since then.
    pub since_best: usize,
}

/// The state of a run at one step.
pub(crate) struct Checkpoint {
    pub state: State,
    pub adapter: Adapter,
    /// The adapter with the lowest validation loss, if the run keeps the best adapter.
    pub best: Option<Adapter>,
}

impl Checkpoint {
    /// Writes the checkpoint to a temporary folder beside its place, then renames it. Returns its path.
    pub fn save(&self, folder: &Path, moments: &[foehn_weights::Tensor<'_>]) -> Result<PathBuf, Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { path, source }
        };
        let place = place_of(folder, self.state.step);
        let draft = DraftFolder::new(&place).map_err(failed(folder))?;
        self.adapter.save(draft.path())?;
        if let Some(best) = &self.best {
            best.save(&draft.path().join(BEST))?;
        }
        save_safetensors(&draft.path().join(OPTIMIZER), moments, &Default::default())?;
        seal::write(draft.path(), &self.state)?;
        draft.finish().map_err(failed(&place))?;
        Ok(place)
    }

    /// Reads a checkpoint's folder, after checking the sizes and hashes of its files.
    pub fn load(place: &Path) -> Result<Self, Error> {
        let state = seal::read(place)?;
        if step_of(place) != Some(state.step) {
            let reason = format!("it is of step {}, its folder is not", state.step);
            return Err(Error::Checkpoint { path: place.to_owned(), reason });
        }
        let best = place.join(BEST);
        let best = if best.exists() { Some(Adapter::load(&best)?) } else { None };
        Ok(Self { state, adapter: Adapter::load(place)?, best })
    }

    /// The optimiser's state. Called when the adapter is attached, so that `parameters` are known.
    pub fn optimizer(&self, place: &Path, config: AdamWConfig, parameters: Vec<Parameter>) -> Result<AdamW, Error> {
        let moments = load_moments(&place.join(OPTIMIZER), &parameters)?;
        let tensors: Vec<Tensor<2>> = parameters.into_iter().map(|parameter| parameter.tensor).collect();
        Ok(AdamW::restored(config, &tensors, moments, self.state.step as u32))
    }
}

/// The newest undamaged checkpoint, and a warning for each newer one that is damaged.
pub(crate) fn newest_whole(folder: &Path) -> Result<(PathBuf, Checkpoint, Vec<Warning>), Error> {
    let (mut warnings, mut first) = (Vec::new(), None);
    for place in all(folder)?.into_iter().rev() {
        match Checkpoint::load(&place) {
            Ok(checkpoint) => return Ok((place, checkpoint, warnings)),
            Err(error) => {
                warnings.push(Warning::DamagedCheckpoint { path: place, reason: said(&error) });
                first.get_or_insert(error);
            }
        }
    }
    Err(first.unwrap_or_else(|| Error::NoCheckpoint { path: folder.to_owned() }))
}

/// Removes all checkpoints up to that of `step`, except the last `keep` and that of the best step.
pub(crate) fn remove_older(folder: &Path, step: usize, keep: usize, best: Option<usize>) -> Result<(), Error> {
    let up_to: Vec<PathBuf> = all(folder)?.into_iter().filter(|place| step_of(place) <= Some(step)).collect();
    for place in up_to.iter().rev().skip(keep).filter(|place| best.is_none() || step_of(place) != best) {
        foehn_files::remove_folder(place).map_err(|source| Error::File { path: place.clone(), source })?;
    }
    Ok(())
}

/// Writes a file atomically.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    foehn_files::write(path, bytes).map_err(|source| Error::File { path: path.to_owned(), source })
}

/// All checkpoints, oldest first: their names sort by step.
pub(crate) fn all(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let failed = |source| Error::File { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if step_of(&path).is_some() && path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn place_of(folder: &Path, step: usize) -> PathBuf {
    folder.join(format!("{PREFIX}{step:0DIGITS$}"))
}

/// The step of a checkpoint's folder; `None` if the name is not that of a checkpoint.
fn step_of(place: &Path) -> Option<usize> {
    let digits = place.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    (digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// An error and its causes in one line.
pub(crate) fn said(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |said, cause| format!("{said}: {cause}"))
}

/// The optimiser's state as named tensors for a file.
pub(crate) fn moments(optimizer: &AdamW, parameters: &[Parameter]) -> Vec<foehn_weights::Tensor<'static>> {
    let mut tensors = Vec::new();
    for (parameter, (first, second)) in parameters.iter().zip(optimizer.moments()) {
        for (prefix, moment) in [("exp_avg", first), ("exp_avg_sq", second)] {
            let values: Vec<f32> = moment.to_data().try_into_vec().expect("moments are f32");
            let name = format!("{prefix}.{}", parameter.name);
            tensors.push(foehn_weights::Tensor::f32(name, moment.dims().to_vec(), values));
        }
    }
    tensors
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
