//! The adapter, its base, the records and the measurements that the checks share.

use std::fs;
use std::path::Path;

use foehn_corpus::Record;
use foehn_finetune::StepMetrics;
use foehn_lora::{Adapter, Manifest, attach};
use foehn_mistral::Mistral;
use foehn_tokens::Sample;
use foehn_weights::Weights;

use super::rendering::Rendering;
use super::{DoctorError, Inputs, chain};
use crate::run_data::{Records, records_of, run_of};
use crate::{Loading, Pretrained};

/// The largest number of records that are computed, and of their tokens.
const COMPUTED: usize = 32;
const COMPUTED_TOKENS: usize = 4096;

/// The number of samples that are also compared token by token, prompts included.
const TEXTS: usize = 8;

/// The number of tokens of one forward pass.
const ROWS: usize = 1024;

const QUESTIONS: [[&str; 2]; 3] = [
    ["What is the capital of France?", "The capital of France is Paris."],
    ["Name three colours.", "Red, green and blue."],
    ["Write one sentence about the sea.", "The sea was calm, and a small boat went slowly towards the harbour."],
];

/// All that the checks read.
pub(super) struct Case<'a> {
    pub base: &'a Pretrained,
    pub inputs: &'a Inputs,
    /// The hashes of the base.
    pub hashes: Manifest,
    pub adapter: Result<Adapter, Broken>,
    pub manifest: Option<Manifest>,
    /// The losses of the run's steps.
    pub losses: Option<Vec<f64>>,
    pub training: Option<Records>,
    pub validation: Option<Records>,
    pub rendering: Rendering,
    pub probes: Probes,
    /// The model with its adapter and the measurements on the probes, or why there are none.
    pub measured: Result<Measured, Unmeasured>,
}

/// Why the model with its adapter was not measured.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unmeasured {
    #[error("the adapter has numbers that are not finite")]
    Broken,
    #[error("no record can be rendered with the base's template")]
    NoProbes,
    #[error("the adapter does not fit the base")]
    Misfit,
    #[error("with the adapter attached, {0}")]
    NotFinite(foehn_score::NotFinite),
    #[error("without the adapter, {0}")]
    BaseNotFinite(foehn_score::NotFinite),
}

/// The numbers of an adapter that are not finite.
pub(super) struct Broken {
    /// The names of the tensors, escaped, and the number of all tensors.
    pub tensors: Vec<String>,
    pub all: usize,
    pub first: String,
}

/// What is computed with and without the adapter.
pub(super) struct Probes {
    pub samples: Vec<Sample>,
    /// The records of the samples.
    pub records: Vec<Record>,
    pub are_data: bool,
}

pub(super) struct Measured {
    pub attached: Mistral,
    /// For each sample, the log-probability of each trained token.
    pub without: Vec<Vec<f32>>,
    pub with: Vec<Vec<f32>>,
}

impl<'a> Case<'a> {
    pub fn open(
        base: &'a Pretrained,
        inputs: &'a Inputs,
        progress: &mut dyn FnMut(Loading<'_>),
    ) -> Result<Self, DoctorError> {
        let folder = &inputs.adapter;
        let adapter = load(folder)?;
        let manifest = match &adapter {
            Ok(adapter) => adapter.manifest.clone(),
            Err(_) => manifest(folder),
        };
        let run = run_of(folder);
        let losses = run.as_deref().map(losses).transpose()?.flatten();
        let [training, validation] = records(inputs, run.as_deref(), manifest.as_ref())?;
        let hashes = base.manifest_with(progress).map_err(Box::new)?;
        let rendering = Rendering::new(base, training.as_ref());
        let probes = Probes::new(base, training.as_ref());
        let measured = match &adapter {
            Ok(adapter) => Measured::new(base, adapter, &probes),
            Err(_) => Err(Unmeasured::Broken),
        };
        Ok(Self { base, inputs, hashes, adapter, manifest, losses, training, validation, rendering, probes, measured })
    }

    /// The log-probabilities of the probes under another model.
    pub fn scored(&self, model: &Mistral) -> Result<Vec<Vec<f32>>, foehn_score::NotFinite> {
        score(model, &self.probes.samples)
    }

    /// `312 answer tokens of 32 records`
    pub fn probed(&self) -> String {
        let tokens: usize = self.probes.samples.iter().map(Sample::supervised).sum();
        let samples = super::count(self.probes.samples.len(), "record");
        match self.probes.are_data {
            true => format!("{tokens} answer tokens of {samples}"),
            false => format!("{tokens} answer tokens of {} general questions", self.probes.samples.len()),
        }
    }
}

impl Measured {
    fn new(base: &Pretrained, adapter: &Adapter, probes: &Probes) -> Result<Self, Unmeasured> {
        if probes.samples.is_empty() {
            return Err(Unmeasured::NoProbes);
        }
        let mut attached = base.model.clone();
        attach(&mut attached, adapter).map_err(|_| Unmeasured::Misfit)?;
        let without = score(&base.model, &probes.samples).map_err(Unmeasured::BaseNotFinite)?;
        let with = score(&attached, &probes.samples).map_err(Unmeasured::NotFinite)?;
        Ok(Self { attached, without, with })
    }
}

impl Probes {
    /// Conversations for an adapter without data.
    pub fn general() -> Vec<Record> {
        QUESTIONS.map(|[question, answer]| Record::pair(question, answer)).into()
    }

    /// A few samples with all their tokens scored, those of the prompts too: the adapter has made the answers sure,
    /// and what is sure hardly moves.
    pub fn texts(&self) -> Vec<Sample> {
        let whole = |sample: &Sample| Sample::from_text(sample.input_ids().to_vec()).ok();
        spread(&self.samples, TEXTS).filter_map(whole).collect()
    }

    /// Records from all over the training data; without data, general questions.
    fn new(base: &Pretrained, training: Option<&Records>) -> Self {
        let general = Self::general();
        let (all, are_data) = training.map_or((&general, false), |records| (&records.list, true));
        let context = base.model.config().max_position_embeddings.min(COMPUTED_TOKENS);
        let (mut samples, mut records, mut tokens) = (Vec::new(), Vec::new(), 0);
        for record in spread(all, COMPUTED) {
            let Ok(sample) = base.template.sample(&base.tokenizer, record) else { continue };
            let known = sample.input_ids().iter().all(|&id| (id as usize) < base.model.config().vocab_size);
            if !known || sample.len() > context || tokens + sample.len() > COMPUTED_TOKENS {
                continue;
            }
            tokens += sample.len();
            samples.push(sample);
            records.push(record.clone());
        }
        Self { samples, records, are_data }
    }
}

/// At most `most` items, evenly spread.
pub(super) fn spread<T>(all: &[T], most: usize) -> impl Iterator<Item = &T> {
    let taken = most.min(all.len());
    (0..taken).filter_map(move |index| all.get(index * all.len() / taken))
}

/// The mean negative log-probability of all tokens, in nats.
pub(super) fn loss(log_probs: &[Vec<f32>]) -> f64 {
    let tokens: usize = log_probs.iter().map(Vec::len).sum();
    -log_probs.iter().flatten().map(|value| f64::from(*value)).sum::<f64>() / tokens.max(1) as f64
}

/// The mean of each sample's negative log-probabilities.
pub(super) fn losses_by_sample(log_probs: &[Vec<f32>]) -> Vec<f64> {
    log_probs.iter().map(|sample| loss(std::slice::from_ref(sample))).collect()
}

/// The mean absolute difference of two lists of log-probabilities.
pub(super) fn distance(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    let (sum, tokens) =
        pairs.fold((0.0, 0usize), |(sum, tokens), (a, b)| (sum + (f64::from(*a) - f64::from(*b)).abs(), tokens + 1));
    sum / tokens.max(1) as f64
}

/// The log-probability of each trained token of each sample.
pub(super) fn score(model: &Mistral, samples: &[Sample]) -> Result<Vec<Vec<f32>>, foehn_score::NotFinite> {
    foehn_score::log_probs(model, &samples.iter().collect::<Vec<_>>(), ROWS)
}

/// The adapter, or its tensors with numbers that are not finite.
pub(super) fn load(folder: &Path) -> Result<Result<Adapter, Broken>, DoctorError> {
    let failed = |source| DoctorError::Adapter { path: folder.to_owned(), source: Box::new(source) };
    match Adapter::load(folder) {
        Ok(adapter) => Ok(Ok(adapter)),
        Err(foehn_lora::Error::Weights { source: first @ foehn_weights::Error::NotFinite { .. } }) => {
            let weights = Weights::open(folder.join("adapter_model.safetensors"))
                .map_err(|source| failed(foehn_lora::Error::Weights { source }))?;
            let is_broken = |name: &&str| matches!(weights.load_f32(name), Err(foehn_weights::Error::NotFinite { .. }));
            let tensors = weights.names().filter(is_broken).map(|name| foehn_files::printable(name).to_string());
            Ok(Err(Broken { tensors: tensors.collect(), all: weights.names().len(), first: chain(&first) }))
        }
        Err(error) => Err(failed(error)),
    }
}

/// The manifest of an adapter that cannot be loaded.
fn manifest(folder: &Path) -> Option<Manifest> {
    let text = foehn_files::read_to_string(folder.join("foehn.json"), foehn_files::MAX_TEXT).ok()?;
    serde_json::from_str(&text).ok()
}

/// The losses in the run's `metrics.jsonl`; `None` if it has none.
fn losses(run: &Path) -> Result<Option<Vec<f64>>, DoctorError> {
    let path = run.join("metrics.jsonl");
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = fs::read(&path).map_err(|source| DoctorError::Metrics { path, source })?;
    let text = String::from_utf8_lossy(&bytes);
    // Other lines are validations, or were cut off by a crash.
    let losses = text.lines().filter_map(|line| serde_json::from_str::<StepMetrics>(line).ok()).map(|step| step.loss);
    Ok(Some(losses.collect::<Vec<f64>>()).filter(|losses| !losses.is_empty()))
}

/// The training and the validation records: the given files, or those of the run, held out as the recipe says.
fn records(
    inputs: &Inputs,
    run: Option<&Path>,
    manifest: Option<&Manifest>,
) -> Result<[Option<Records>; 2], DoctorError> {
    let validation = inputs.validation.as_deref().map(Records::read).transpose()?;
    if let Some(path) = &inputs.data {
        return Ok([Some(Records::read(path)?), validation]);
    }
    let [training, held_out] = run.map_or(Ok([None, None]), |run| records_of(run, manifest))?;
    Ok([training, validation.or(held_out)])
}
