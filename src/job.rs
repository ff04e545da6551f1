//! A whole job: data is cleaned, a model is loaded, an adapter is trained.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use foehn_corpus::{
    CleanReport, OffTarget, Pipeline, SenseLexicon, clean, is_clean, mark_path, read_clean, split_stratified,
    write_clean,
};
use foehn_finetune::{Dataset, Event, Folder, Outcome, Run, TrainingConfig, train};
use foehn_record::Record;

use crate::plan::Choice;
use crate::{LoadError, Loading, Pretrained, Recipe, load_text, sha256_of_file};

/// A job after its data is cleaned.
///
/// ```no_run
/// use std::ops::ControlFlow;
/// use foehn::{Job, Recipe, finetune::Folder};
///
/// let recipe = Recipe { data: "my-data.jsonl".into(), ..Recipe::default() };
/// let job = Job::prepare(recipe, Folder::begin("runs/mine".as_ref())?)?;
/// let mut base = job.load(&foehn::device("flex")?, &mut |_| ())?;
/// let outcome = job.train(&mut base, &mut |_| (), &mut |_| ControlFlow::Continue(()))?;
/// println!("{} steps, {:?}", outcome.steps, outcome.adapter);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Job {
    recipe: Recipe,
    folder: Folder,
    data: TrainingData,
}

/// The training records of a run, and their origin.
#[derive(Debug)]
pub struct TrainingData {
    /// The clean records, as in `clean.jsonl` in the run's folder.
    pub records: Vec<Record>,
    /// SHA-256 of that file.
    pub sha256: String,
    /// The report of the cleaning; `None` if the recipe's data was already clean and is used unchanged.
    pub report: Option<CleanReport>,
}

impl Job {
    /// Writes the clean records of the recipe's data into the run's folder, as `clean.jsonl` and `clean.report.json`.
    ///
    /// If the mark of the data says that a pipeline of this version has already cleaned it, the data is used unchanged.
    /// Otherwise the recipe's pipeline cleans it; limits on tokens use the tokenizer of the recipe's model. If the run
    /// is resumed and the records would differ from those in the folder, nothing in the folder is changed.
    ///
    /// # Errors
    /// [`JobError`].
    pub fn prepare(recipe: Recipe, folder: Folder) -> Result<Self, JobError> {
        let data = training_data(&recipe, &folder)?;
        Ok(Self { recipe, folder, data })
    }

    /// The settings.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The training data.
    pub fn data(&self) -> &TrainingData {
        &self.data
    }

    /// The records to train on, and those that are held out for validation.
    pub(crate) fn split_records(&self) -> Result<(Vec<Record>, Vec<Record>), JobError> {
        split(self.data.records.clone(), &self.recipe.training)
    }

    /// Replaces the settings that a [`Choice`] has changed to fit the memory.
    pub fn adopt(&mut self, choice: &Choice) {
        self.recipe.base = choice.base;
        self.recipe.training.micro_batch_rows = choice.settings.micro_batch_rows;
        self.recipe.training.recompute = choice.settings.recompute;
    }

    /// Loads the recipe's model, in the storage format of the recipe.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(&self, device: &Device, progress: &mut dyn FnMut(Loading<'_>)) -> Result<Pretrained, LoadError> {
        Pretrained::load_as(&self.recipe.model, self.recipe.base, device, progress)
    }

    /// Holds out the recipe's share for validation and trains the adapter, which stays attached. `observe` gets every
    /// event and can end the run, as in [`train`].
    ///
    /// # Errors
    /// [`JobError`].
    pub fn train(
        self,
        base: &mut Pretrained,
        progress: &mut dyn FnMut(Loading<'_>),
        observe: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Outcome, JobError> {
        let Self { recipe, folder, data } = self;
        let config = &recipe.training;
        let mut manifest = base.manifest_with(progress).map_err(Box::new)?;
        manifest.data_sha256 = data.sha256;
        manifest.recipe = serde_json::to_value(&recipe).unwrap_or_default();
        let (records, held_out) = split(data.records, config)?;
        let dataset = |records: &[Record]| {
            Dataset::new(records, &base.template, &base.tokenizer, base.model.config(), config.max_length)
        };
        let training = dataset(&records)?;
        let validation = if held_out.is_empty() { None } else { Some(dataset(&held_out)?) };
        let run = Run { config, training: &training, validation: validation.as_ref(), manifest, out: folder };
        Ok(train(&mut base.model, run, observe)?)
    }
}

/// Errors of a job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// An error of reading or cleaning.
    #[error(transparent)]
    Corpus(#[from] foehn_corpus::Error),
    /// An output of the run is one of its inputs.
    #[error(transparent)]
    Outputs(#[from] foehn_files::Conflict),
    /// An error of the tokenizer that a pipeline needs for counting, or of hashing a file.
    #[error(transparent)]
    Load(#[from] Box<LoadError>),
    /// An error of the training.
    #[error(transparent)]
    Training(#[from] foehn_finetune::Error),
    /// A file of the run's folder cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The data, when cleaned again, differs from the data that the run was trained on so far.
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

fn split(records: Vec<Record>, config: &TrainingConfig) -> Result<(Vec<Record>, Vec<Record>), JobError> {
    let fraction = config.validation.fraction;
    Ok(match fraction > 0.0 {
        true => split_stratified(records, fraction, config.seed, "task")?,
        false => (records, Vec::new()),
    })
}

fn training_data(recipe: &Recipe, folder: &Folder) -> Result<TrainingData, JobError> {
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
    // Written to a temporary place first: for a resumed run, the records may turn out to differ from those in the
    // folder.
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
