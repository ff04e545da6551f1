//! What a run is trained on: clean records, made once and kept in the run's folder.

use std::path::{Path, PathBuf};

use foehn_corpus::{OffTarget, Pipeline, Report, SenseLexicon, clean, is_clean, mark_path, read_clean, write_clean};
use foehn_finetune::{Folder, Recipe};
use foehn_record::Record;

use crate::{LoadError, load_text, sha256_of_file};

/// The records of a run, and where they come from.
#[derive(Debug)]
pub struct TrainingData {
    /// The clean records, as `clean.jsonl` in the run's folder holds them.
    pub records: Vec<Record>,
    /// SHA-256 of that file.
    pub sha256: String,
    /// The account of the cleaning; `None` where the recipe's data was clean already and is trained on as it is.
    pub report: Option<Report>,
}

/// Why a run's data cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// Reading or cleaning.
    #[error(transparent)]
    Corpus(#[from] foehn_corpus::Error),
    /// An output of the run is one of its inputs.
    #[error(transparent)]
    Outputs(#[from] foehn_files::Conflict),
    /// The tokenizer that a pipeline counts with, or a file's hash.
    #[error(transparent)]
    Load(#[from] Box<LoadError>),
    /// A file of the run's folder cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The data, cleaned again, is not what the run was trained on so far.
    #[error(
        "{data} gives other clean records than {clean} holds, on which the run was trained: it cannot go on with them"
    )]
    DataChanged {
        /// The recipe's data.
        data: PathBuf,
        /// The run's clean file.
        clean: PathBuf,
    },
}

/// The clean records of a recipe's data, which are left in the run's folder as `clean.jsonl` with `clean.report.json`.
///
/// Data that a pipeline of this version has made already, as its mark says, is trained on as it is; other data goes through
/// the recipe's pipeline, whose limits on tokens count those of the recipe's model. Where the run goes on and the records
/// would be others than those in the folder, nothing in it is changed.
///
/// # Errors
/// [`JobError`].
pub fn training_data(recipe: &Recipe, folder: &Folder) -> Result<TrainingData, JobError> {
    let place = |name: &str| folder.path().join(name);
    let inputs: Vec<&Path> = [Some(&recipe.data), recipe.pipeline.as_ref(), recipe.lexicon.as_ref()]
        .into_iter()
        .flatten()
        .map(PathBuf::as_path)
        .collect();
    let (clean_path, report_path) = (place("clean.jsonl"), place("clean.report.json"));
    let outputs =
        [clean_path.clone(), report_path.clone(), place("report.json"), place("metrics.jsonl"), place("loss.svg")];
    foehn_files::check_outputs(&inputs, &outputs)?;

    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| JobError::Write { path, source }
    };
    // Made beside its place, since a run that goes on may find that it is not what it was trained on.
    let scratch =
        tempfile::Builder::new().prefix(".partial-").tempdir_in(folder.path()).map_err(failed(folder.path()))?;
    let fresh = scratch.path().join("clean.jsonl");
    let report = match is_clean(&recipe.data)? {
        Some(_) => {
            write_clean(&fresh, &read_clean(&recipe.data)?)?;
            None
        }
        None => {
            let report = clean(
                std::slice::from_ref(&recipe.data),
                &fresh,
                &scratch.path().join("report.json"),
                &pipeline(recipe)?,
            )?;
            report.require_kept()?;
            Some(report)
        }
    };
    let (sha256, records) = (sha256_of_file(&fresh).map_err(Box::new)?, read_clean(&fresh)?);
    if folder.resumes() && clean_path.exists() && sha256_of_file(&clean_path).map_err(Box::new)? != sha256 {
        return Err(JobError::DataChanged { data: recipe.data.clone(), clean: clean_path });
    }
    std::fs::rename(&fresh, &clean_path).map_err(failed(&clean_path))?;
    let mark = mark_path(&fresh);
    if mark.exists() {
        std::fs::rename(&mark, mark_path(&clean_path)).map_err(failed(&clean_path))?;
    }
    foehn_files::sync_folder(folder.path()).map_err(failed(&clean_path))?;
    if let Some(report) = &report {
        report.save(&report_path)?;
    }
    Ok(TrainingData { records, sha256, report })
}

fn pipeline(recipe: &Recipe) -> Result<Pipeline, JobError> {
    let mut pipeline = recipe.pipeline.as_deref().map_or_else(|| Ok(Pipeline::default()), Pipeline::load)?;
    if pipeline.needs_counter() {
        let (tokenizer, _) = load_text(&recipe.model, &mut |_| ()).map_err(Box::new)?;
        pipeline = pipeline.counting(move |text: &str| tokenizer.count(text));
    }
    Ok(match &recipe.lexicon {
        Some(path) => pipeline.with(OffTarget::new(SenseLexicon::load(path)?)),
        None => pipeline,
    })
}
