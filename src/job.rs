//! A whole job: data is cleaned, a model is loaded, an adapter is trained.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use foehn_corpus::{
    CleanReport, Lexicon, NearDuplicates, OffTarget, Pipeline, SplitReport, clean, is_clean, mark_path, prove_split,
    read_clean, split_proven, write_clean,
};
use foehn_evaluate::{Suite, check_disjoint};
use foehn_finetune::{Dataset, Event, Fate, Folder, Outcome, Renderer, Run, TooLong, TrainingConfig, train};
use foehn_generate::GENERATION_CONFIG;
use foehn_record::Record;
use foehn_tokens::TemplateChoice;

use crate::plan::Choice;
use crate::{DataFiles, LoadError, Loading, Pretrained, Recipe, load_text, sha256_of_file};

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
    /// The clean records to train on. With the held-out ones they are those of `clean.jsonl` in the run's folder.
    pub records: Vec<Record>,
    /// The weight of each of them: how often it is seen in an epoch.
    pub weights: Vec<f64>,
    /// The records to validate on; empty if the recipe holds out none.
    pub validation: Vec<Record>,
    /// SHA-256 of `clean.jsonl`.
    pub sha256: String,
    /// The weights of the records of `clean.jsonl`, as in [`Manifest::data_weights`](foehn_lora::Manifest::data_weights).
    pub parts: Vec<(usize, f64)>,
    /// SHA-256 of the recipe's validation file, if it has one.
    pub validation_sha256: Option<String>,
    /// The report of the cleaning; `None` if the recipe's data was already clean and is used unchanged.
    pub report: Option<CleanReport>,
}

impl TrainingData {
    /// The number of records to train on and to validate on.
    pub fn count(&self) -> usize {
        self.records.len() + self.validation.len()
    }

    /// Whether all records are plain text, for which a model needs no chat template.
    pub fn is_text(&self) -> bool {
        self.records.iter().chain(&self.validation).all(|record| record.plain_text().is_some())
    }
}

impl Job {
    /// Writes the clean records of the recipe's data into the run's folder, as `clean.jsonl` and `clean.report.json`.
    ///
    /// If the data is one file, and its mark says that a pipeline of this version has already cleaned it, it is used
    /// unchanged. Otherwise the recipe's pipeline cleans all files together, so that no record stands in two of them; limits on tokens use the tokenizer of the recipe's model. If the run
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

    /// The questions of the recipe's evaluation: its suite, its data, or else the validation records; and its general
    /// questions. `None` if the recipe has neither questions nor validation records. Where the recipe does not refuse
    /// long records, the validation records are those that fit the model's context.
    ///
    /// # Errors
    /// [`JobError::Evaluation`] if a file cannot be used, or if the training records contain one of its items.
    pub fn suite(&self, base: &Pretrained) -> Result<Option<Suite>, JobError> {
        let recipe = &self.recipe.evaluation;
        let config = recipe.data_config().map_err(JobError::Label)?;
        let mut suite = match (&recipe.suite, &recipe.data) {
            (Some(path), _) => Some(Suite::open(path)?),
            (None, Some(path)) => Some(Suite::from_data(path, &config)?),
            (None, None) => match self.fitting(base) {
                records if records.is_empty() => None,
                records => Some(Suite::from_records("held out", &records, &config)?),
            },
        };
        if let Some(path) = &recipe.general {
            suite.get_or_insert_default().join(Suite::open(path)?);
        }
        if let Some(suite) = &suite {
            check_disjoint(suite, &self.data.records)?;
        }
        Ok(suite)
    }

    /// The validation records that fit the model's context; all, if the recipe refuses long ones.
    fn fitting(&self, base: &Pretrained) -> Vec<Record> {
        let TrainingConfig { too_long, .. } = self.recipe.training;
        let limit = base.model.config().max_position_embeddings;
        let renderer = Renderer { template: &base.template, tokenizer: &base.tokenizer, limit, too_long };
        let fits = |record: &&Record| {
            too_long == TooLong::Error
                || renderer.record(record).is_ok_and(|rendered| matches!(rendered.fate, Fate::Whole | Fate::Cut))
        };
        self.data.validation.iter().filter(fits).cloned().collect()
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
        let Recipe { model, base, template, .. } = &self.recipe;
        match self.data.is_text() {
            true => Pretrained::load_for_text(model, *base, template.as_ref(), device, progress),
            false => Pretrained::load_with(model, *base, template.as_ref(), device, progress),
        }
    }

    /// Trains the adapter, which stays attached. `observe` gets every event and can end the run, as in [`train`]. The
    /// recipe's decoding is written beside the adapter.
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
        manifest.data_weights = data.parts;
        manifest.validation_sha256 = data.validation_sha256.unwrap_or_default();
        manifest.recipe = serde_json::to_value(&recipe).unwrap_or_default();
        let dataset = |records: &[Record]| {
            let (template, tokenizer, shape) = (&base.template, &base.tokenizer, base.model.config());
            Dataset::for_training(config, records, template, tokenizer, shape)
        };
        let training = dataset(&data.records)?.weighted(&data.weights)?;
        let validation = if data.validation.is_empty() { None } else { Some(dataset(&data.validation)?) };
        let run = Run { config, training: &training, validation: validation.as_ref(), manifest, out: folder };
        let outcome = train(&mut base.model, run, observe)?;
        if let (Some(adapter), Some(generation)) = (&outcome.adapter, &recipe.generation) {
            let path = adapter.join(GENERATION_CONFIG);
            let written = foehn_files::write(&path, generation.to_generation_config().as_bytes());
            written.map_err(|source| JobError::Write { path, source })?;
        }
        Ok(outcome)
    }
}

/// Errors of a job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// An error of reading or cleaning.
    #[error(transparent)]
    Corpus(#[from] foehn_corpus::Error),
    /// The recipe names no data.
    #[error("the recipe names no data: its `data` is a file or a list of files")]
    NoData,
    /// An output of the run is one of its inputs.
    #[error(transparent)]
    Outputs(#[from] foehn_files::Conflict),
    /// An error of the tokenizer that a pipeline needs for counting, or of hashing a file.
    #[error(transparent)]
    Load(#[from] Box<LoadError>),
    /// An error of the training.
    #[error(transparent)]
    Training(#[from] foehn_finetune::Error),
    /// An error of the questions before and after the training.
    #[error(transparent)]
    Evaluation(#[from] foehn_evaluate::Error),
    /// The recipe's label rule is not one.
    #[error(transparent)]
    Label(foehn_evaluate::LabelRuleError),
    /// Validation records that are also trained on.
    #[error(
        "{validation} and the training data share {what} (`{first}` and `{second}`): the validation would be of what is trained on",
        validation = validation.display(),
        first = foehn_files::printable(first),
        second = foehn_files::printable(second)
    )]
    Leak {
        /// The file with the validation records.
        validation: PathBuf,
        /// What they share.
        what: String,
        /// A training record.
        first: String,
        /// A validation record.
        second: String,
    },
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
        data: DataFiles,
        /// The run's clean file.
        clean: PathBuf,
    },
}

fn training_data(recipe: &Recipe, folder: &Folder) -> Result<TrainingData, JobError> {
    if recipe.data.is_empty() {
        return Err(JobError::NoData);
    }
    let place = |name: &str| folder.path().join(name);
    let evaluation = &recipe.evaluation;
    let template = match &recipe.template {
        Some(TemplateChoice::File(path)) => Some(path),
        _ => None,
    };
    let paths = recipe.data.paths();
    let inputs: Vec<&Path> = [
        recipe.pipeline.as_ref(),
        template,
        recipe.lexicon.as_ref(),
        recipe.validation_data.as_ref(),
        evaluation.suite.as_ref(),
        evaluation.data.as_ref(),
        evaluation.general.as_ref(),
    ]
    .into_iter()
    .flatten()
    .chain(&paths)
    .map(PathBuf::as_path)
    .collect();
    let (clean_path, report_path) = (place("clean.jsonl"), place("clean.report.json"));
    let outputs = [
        clean_path.clone(),
        report_path.clone(),
        place("report.json"),
        place("report.html"),
        place("metrics.jsonl"),
        place("loss.svg"),
    ];
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
    let report = match &paths[..] {
        [path] if is_clean(path)?.is_some() => {
            write_clean(&fresh, &read_clean(path)?)?;
            None
        }
        paths => {
            let report = clean(paths, &fresh, &scratch.path().join("report.json"), &pipeline(recipe)?)?;
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
    let (weights, parts) = weights(&recipe.data, report.as_ref(), records.len());
    let validation_sha256 = recipe.validation_data.as_deref().map(sha256_of_file).transpose().map_err(Box::new)?;
    let all = if parts.is_empty() { Vec::new() } else { records.clone() };
    let (records, validation) = held_out(recipe, records)?;
    let weights = of_training(&all, &weights, &records);
    Ok(TrainingData { records, weights, validation, sha256, parts, validation_sha256, report })
}

/// The weight of each clean record, and the same as stretches; no stretches if every record has the weight 1.
fn weights(data: &DataFiles, report: Option<&CleanReport>, records: usize) -> (Vec<f64>, Vec<(usize, f64)>) {
    let kept = match report {
        Some(report) => report.kept_of.iter().map(|kept| *kept as usize).collect(),
        None => vec![records],
    };
    let parts: Vec<(usize, f64)> = kept.into_iter().zip(data.iter().map(|file| file.weight)).collect();
    let weights = parts.iter().flat_map(|(count, weight)| std::iter::repeat_n(*weight, *count)).collect();
    let is_plain = parts.iter().all(|(_, weight)| *weight == 1.0);
    (weights, if is_plain { Vec::new() } else { parts })
}

/// The weights of the training records. They have the order of all records; of equal records, none or all are trained.
fn of_training(all: &[Record], weights: &[f64], training: &[Record]) -> Vec<f64> {
    if all.is_empty() {
        return vec![1.0; training.len()];
    }
    let mut left = training.iter().peekable();
    let is_next = |(record, _): &(&Record, &f64)| left.next_if(|next| next == record).is_some();
    all.iter().zip(weights).filter(is_next).map(|(_, weight)| *weight).collect()
}

/// The records to train on and those to validate on. Records of one group, with one prompt, and near-duplicates stay
/// together.
fn held_out(recipe: &Recipe, records: Vec<Record>) -> Result<(Vec<Record>, Vec<Record>), JobError> {
    let near = NearDuplicates::default();
    let fraction = recipe.training.validation.fraction;
    match &recipe.validation_data {
        Some(path) => {
            let validation = read_clean(path)?;
            let SplitReport { groups, prompts, near_duplicates, .. } = prove_split(&records, &validation, &near);
            match groups.into_iter().chain(prompts).chain(near_duplicates).next() {
                None => Ok((records, validation)),
                Some(crossing) => Err(JobError::Leak {
                    validation: path.clone(),
                    what: crossing.what,
                    first: crossing.training,
                    second: crossing.validation,
                }),
            }
        }
        None if fraction > 0.0 => Ok(split_off(records, fraction, recipe.training.seed)?),
        None => Ok((records, Vec::new())),
    }
}

/// Holds out a share of the groups.
pub(crate) fn split_off(
    records: Vec<Record>,
    fraction: f64,
    seed: u64,
) -> foehn_corpus::Result<(Vec<Record>, Vec<Record>)> {
    let split = split_proven(records, fraction, seed, "task", &NearDuplicates::default())?;
    Ok((split.training, split.validation))
}

fn pipeline(recipe: &Recipe) -> Result<Pipeline, JobError> {
    let mut pipeline = recipe.pipeline.as_deref().map_or_else(|| Ok(Pipeline::default()), Pipeline::load)?;
    if pipeline.needs_counter() {
        let (tokenizer, _) = load_text(&recipe.model, recipe.template.as_ref(), &mut |_| ()).map_err(Box::new)?;
        pipeline = pipeline.counting((tokenizer.fingerprint().to_owned(), move |text: &str| tokenizer.count(text)));
    }
    Ok(match &recipe.lexicon {
        Some(path) => pipeline.with(OffTarget::new(Lexicon::load(path)?)),
        None => pipeline,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_follow_their_records_through_a_split() {
        let record = |n: usize| Record::pair(format!("Question {n}?"), format!("Answer {n}."));
        let mut all: Vec<Record> = (0..40).map(record).collect();
        // The same record twice is on one side, twice.
        all[20] = all[3].clone();
        let weights: Vec<f64> = (0..40).map(|n| if n < 12 { 2.0 } else { 0.5 }).collect();
        let (training, validation) = split_off(all.clone(), 0.3, 7).unwrap();
        assert!(!validation.is_empty());
        let found = of_training(&all, &weights, &training);
        assert_eq!(found.len(), training.len());
        let known = |record: &Record| all.iter().position(|other| other == record).unwrap();
        let twice = training.iter().zip(&found).filter(|(record, _)| known(record) == 3).map(|(_, weight)| *weight);
        assert!([&[][..], &[2.0, 0.5]].contains(&twice.collect::<Vec<_>>().as_slice()));
        for (record, weight) in training.iter().zip(found).filter(|(record, _)| known(record) != 3) {
            assert_eq!(weight, weights[known(record)]);
        }
        assert_eq!(of_training(&[], &[], &training), vec![1.0; training.len()]);
    }
}
