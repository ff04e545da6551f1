//! The records of a run, found from its adapter.

use std::fs;
use std::path::{Path, PathBuf};

use foehn_corpus::{Record, read_clean};
use foehn_lora::Manifest;

use crate::Recipe;

/// Records and their origin, in words.
pub(crate) struct Records {
    pub origin: String,
    pub list: Vec<Record>,
}

impl Records {
    pub fn read(path: &Path) -> foehn_corpus::Result<Self> {
        Ok(Self { origin: foehn_files::printable(path.display()).to_string(), list: read_clean(path)? })
    }
}

/// The folder of the run that made an adapter, if it is there.
pub(crate) fn run_of(adapter: &Path) -> Option<PathBuf> {
    let run = fs::canonicalize(adapter).ok()?.parent()?.to_owned();
    ["metrics.jsonl", "clean.jsonl"].iter().any(|file| run.join(file).is_file()).then_some(run)
}

/// The training and the validation records of a run, held out as its recipe says.
pub(crate) fn records_of(run: &Path, manifest: Option<&Manifest>) -> foehn_corpus::Result<[Option<Records>; 2]> {
    let clean = run.join("clean.jsonl");
    if !clean.is_file() {
        return Ok([None, None]);
    }
    let all = Records::read(&clean)?;
    let recipe = manifest.and_then(|manifest| serde_json::from_value::<Recipe>(manifest.recipe.clone()).ok());
    if let Some(path) = recipe.as_ref().and_then(|recipe| recipe.validation_data.as_ref()).filter(|path| path.is_file())
    {
        return Ok([Some(all), Some(Records::read(path)?)]);
    }
    let fraction = recipe.as_ref().map_or(0.0, |recipe| recipe.training.validation.fraction);
    if fraction <= 0.0 || fraction >= 1.0 {
        return Ok([Some(all), None]);
    }
    let seed = recipe.map_or(0, |recipe| recipe.training.seed);
    let (training, held_out) = crate::job::split_off(all.list, fraction, seed)?;
    let held_out = Records { origin: format!("the share of {} that the run held out", all.origin), list: held_out };
    Ok([
        Some(Records { origin: all.origin, list: training }),
        Some(held_out).filter(|held_out| !held_out.list.is_empty()),
    ])
}
