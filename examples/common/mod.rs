//! The arguments and the progress output that all examples share.
#![allow(dead_code)] // Each example uses its own part.

pub mod cleaning;
pub mod exporting;
pub mod gate;
pub mod planning;
pub mod terminal;
pub mod training;

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::terminal::{say, show_as_is, tell};
use anyhow::{Context, Result, ensure};
use clap::Args;
use foehn::burn::tensor::Device;
use foehn::corpus::Record;
use foehn::evaluate::{EvaluateConfig, Evaluation, Subject, Suite};
use foehn::files::{printable, printable_text};
use foehn::generate::SamplingConfig;
use foehn::hub::Progress;
use foehn::kernels::Compute;
use foehn::mistral::{Base, Mistral, MistralConfig};
use foehn::tokens::{Sample, TemplateChoice, Tokenizer};
use foehn::{Loading, Network, Pretrained};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The model and the device.
#[derive(Args, Clone, Debug)]
pub struct ModelArgs {
    /// A folder, a .gguf file, a Hugging Face repository (org/name) or a short name
    #[arg(long, default_value = "smollm2-135m-instruct")]
    pub model: String,
    /// The folder of a LoRA adapter (Foehn's or PEFT's)
    #[arg(long)]
    pub adapter: Option<PathBuf>,
    /// Load the adapter even if it was trained on another base, tokenizer or template
    #[arg(long)]
    pub allow_mismatch: bool,
    /// flex, ndarray, wgpu or cuda, if the build has it
    #[arg(long, default_value = "flex")]
    pub device: String,
    /// The storage format of the base in memory: stored, f32, bf16, q8_0, q4_k or nf4
    #[arg(long, default_value_t)]
    pub base: Base,
}

/// What matrix products round to.
#[derive(Args, Clone, Copy, Debug)]
pub struct ComputeArgs {
    /// What matrix products round both sides to: f32 (nothing, the reference) or bf16 (several times as fast on processors
    /// with AMX)
    #[arg(long, default_value_t)]
    pub compute: Compute,
}

impl ComputeArgs {
    /// Sets it on a model.
    pub fn set(self, model: &mut Mistral) -> Result<()> {
        let device = model.device();
        ensure!(
            self.compute.is_available_on(&device),
            "--compute {}: the device does not support it, flex alone does",
            self.compute
        );
        model.set_compute(self.compute);
        Ok(())
    }
}

impl ModelArgs {
    pub fn device(&self) -> Result<Device> {
        Ok(foehn::device(&self.device)?)
    }

    /// The network with its adapter.
    pub fn load_network(&self) -> Result<Network> {
        let mut network = Network::load(&self.model, self.base, &self.device()?, &mut show_loading())?;
        if let Some(folder) = &self.adapter {
            network.attach(folder, self.allow_mismatch, &mut show_loading())?;
        }
        Ok(network)
    }
}

/// The model, the device and the chat template.
#[derive(Args, Clone, Debug)]
pub struct TextModelArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Another chat template than the model's own: mistral-v1, -v2, -v3, -v7, -v11, -v13, chatml or a .jinja file. By
    /// default the one that the adapter was trained with
    #[arg(long)]
    pub template: Option<TemplateChoice>,
}

impl TextModelArgs {
    /// The given template, or else that of the adapter.
    pub fn template(&self) -> Result<Option<TemplateChoice>> {
        template(self.template.as_ref(), self.model.adapter.as_deref())
    }

    /// The model with its tokenizer, template and adapter.
    pub fn load(&self) -> Result<Pretrained> {
        self.load_for(true)
    }

    /// As [`load`](Self::load); where there is no conversation, the model need not have a template.
    pub fn load_for(&self, conversations: bool) -> Result<Pretrained> {
        let template = self.template()?;
        let (device, show) = (self.model.device()?, &mut show_loading());
        let load = if conversations { Pretrained::load_with } else { Pretrained::load_for_text };
        let mut base = load(&self.model.model, self.model.base, template.as_ref(), &device, show)?;
        if let Some(folder) = &self.model.adapter {
            base.attach_as(folder, self.model.allow_mismatch, &mut show_loading())?;
        }
        Ok(base)
    }
}

/// The given template, or else the one that the adapter was trained with.
pub fn template(given: Option<&TemplateChoice>, adapter: Option<&Path>) -> Result<Option<TemplateChoice>> {
    match (given, adapter) {
        (None, Some(folder)) => Ok(foehn::template_of_adapter(folder)?),
        (given, _) => Ok(given.cloned()),
    }
}

/// How answers are decoded.
#[derive(Args, Clone, Debug)]
pub struct SamplingArgs {
    /// The sampling temperature; 0 always takes the most probable token. Without any of these settings, the adapter's
    /// generation_config.json counts, if it has one
    #[arg(long)]
    temperature: Option<f32>,
    /// Draw only from this number of most probable tokens
    #[arg(long)]
    top_k: Option<usize>,
    /// Draw only from the smallest set of most probable tokens whose probabilities reach this sum
    #[arg(long)]
    top_p: Option<f32>,
    /// Draw only from tokens at least this times as probable as the most probable one
    #[arg(long)]
    min_p: Option<f32>,
    /// Above 1, tokens that have already occurred become less probable
    #[arg(long)]
    repetition_penalty: Option<f32>,
}

impl SamplingArgs {
    /// These settings; if none is given, those of the first adapter's folder; or else the greedy choice.
    pub fn config(&self, adapter: Option<&Path>) -> Result<SamplingConfig> {
        match self.given()? {
            Some(config) => Ok(config),
            None => Ok(adapter.map(SamplingConfig::of_folder).transpose()?.flatten().unwrap_or_default()),
        }
    }

    /// These settings; `None` if none is given.
    pub fn given(&self) -> Result<Option<SamplingConfig>> {
        let Self { temperature, top_k, top_p, min_p, repetition_penalty } = *self;
        let is_given = temperature.is_some() || repetition_penalty.is_some() || top_k.is_some();
        if !is_given && top_p.is_none() && min_p.is_none() {
            return Ok(None);
        }
        let greedy = SamplingConfig::default();
        let config = SamplingConfig {
            temperature: temperature.unwrap_or(0.0),
            repetition_penalty: repetition_penalty.unwrap_or(1.0),
            top_k,
            top_p,
            min_p,
            ..greedy
        };
        config.check()?;
        Ok(Some(config))
    }
}

/// The network of the arguments, or one with random weights in the shape of a `config.json`.
pub fn network_or_synthetic(arguments: &ModelArgs, config: Option<&Path>) -> Result<Mistral> {
    let Some(path) = config else { return Ok(arguments.load_network()?.model) };
    let config = config_of(path)?;
    let mut model = Mistral::synthetic(&config, arguments.base, &arguments.device()?, &mut show_parts("loading"));
    if let Some(folder) = &arguments.adapter {
        foehn::lora::attach(&mut model, &foehn::lora::Adapter::load(folder)?)?;
    }
    Ok(model)
}

/// The shape of a network in a `config.json`.
pub fn config_of(path: &Path) -> Result<MistralConfig> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    MistralConfig::from_json(&text).with_context(|| path.display().to_string())
}

/// The peak memory of this process, in MiB; `None` if the system does not report it.
pub fn peak_rss_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some((kib / 102.4).round() / 10.0)
}

/// The median, rounded to three decimals.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2] * 1000.0).round() / 1000.0
}

/// Token ids for measurements; always the same ones.
pub fn random_ids(vocab_size: usize) -> impl FnMut() -> u32 {
    let mut state = 1u64;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 33) % vocab_size as u64) as u32
    }
}

/// Prints on stderr where a model's files are fetched from; nothing if they are already on this disk.
pub fn show_fetch() -> impl FnMut(Progress<'_>) {
    let mut bar: Option<ProgressBar> = None;
    move |event| match event {
        Progress::Trying { source } => tell!("fetching the model from {source}"),
        Progress::Failed { source, reason } => tell!("  {source}: {reason}"),
        Progress::Waiting { folder } => tell!("waiting for another process that fetches into {}", folder.display()),
        Progress::Bytes { file, done, total } => {
            let bar = bar.get_or_insert_with(|| progress("fetching", total.unwrap_or(0)));
            bar.set_message(printable(file).to_string());
            bar.set_position(done);
            if Some(done) == total {
                bar.finish_and_clear();
            }
        }
        _ => {}
    }
}

/// Prints the progress of loading on stderr.
pub fn show_loading() -> impl FnMut(Loading<'_>) {
    let (mut fetch, mut weights, mut hash) = (show_fetch(), show_parts("loading"), show_parts("hashing"));
    let mib = |bytes: u64| bytes.div_ceil(1 << 20) as usize;
    move |event| match event {
        Loading::Files(event) => fetch(event),
        Loading::Weights { done, total } => weights(done, total),
        Loading::Hash { done, total } => hash(mib(done), mib(total)),
        Loading::Adapter(note) => tell!("note: {note}"),
        _ => {}
    }
}

/// Prints on stderr how many parts of a model are done.
fn show_parts(what: &str) -> impl FnMut(usize, usize) {
    let mut bar: Option<ProgressBar> = None;
    move |done, total| {
        let bar = bar.get_or_insert_with(|| progress(what, total as u64));
        bar.set_position(done as u64);
        if done == total {
            bar.finish_and_clear();
        }
    }
}

/// A progress bar with the remaining time on stderr; hidden if stderr is not a terminal.
pub fn progress(what: &str, total: u64) -> ProgressBar {
    let target = if stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    let style = ProgressStyle::with_template("{prefix:>12} [{bar:30}] {pos}/{len} {msg} (ETA {eta})");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.set_prefix(printable(what).to_string());
    bar
}

/// Measures a model with its attached adapter, with a progress bar. `without` is the model without one.
pub fn evaluate(
    name: &str,
    base: &Pretrained,
    without: &Mistral,
    suite: &Suite,
    config: &EvaluateConfig,
) -> Result<Evaluation> {
    let Pretrained { model, tokenizer, template, .. } = base;
    let subject = Subject { model, tokenizer, template, base: Some(without) };
    let items: usize = suite.tasks.iter().map(|task| task.items.len()).sum();
    tell!("asking the model ({name}): {items} items of {} tasks", suite.tasks.len());
    let bar = progress(name, 0);
    let run = foehn::evaluate::evaluate(name, subject, suite, config, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    Ok(run)
}

/// What a report says of its runs besides their figures: the model, the adapters' manifests, the versions.
pub fn about(model: &str, adapters: &[PathBuf]) -> BTreeMap<String, serde_json::Value> {
    let mut about =
        BTreeMap::from([("model".to_owned(), model.into()), ("foehn".to_owned(), env!("CARGO_PKG_VERSION").into())]);
    for folder in adapters {
        let manifest = std::fs::read_to_string(folder.join("foehn.json")).ok();
        let manifest = manifest.and_then(|text| serde_json::from_str(&text).ok());
        about.insert(format!("adapter {}", folder.display()), manifest.unwrap_or(serde_json::Value::Null));
    }
    about
}

/// The losses of a run's `metrics.jsonl`, if it is there: a key and a value of a report, which it draws. The name tells
/// one run's curve from another's.
pub fn loss_curve(run: &Path, name: Option<&str>) -> Option<(String, serde_json::Value)> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).ok()?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let (mut training, mut validation) = (Vec::new(), Vec::new());
    for line in lines {
        let Some(step) = line.get("step").cloned() else { continue };
        training.extend(line.get("loss").map(|loss| serde_json::json!([step, loss])));
        validation.extend(line.get("validation_loss").map(|loss| serde_json::json!([step, loss])));
    }
    let key = name.map_or_else(|| "loss_curve".to_owned(), |name| format!("loss_curve {name}"));
    Some((key, serde_json::json!({ "training": training, "validation": validation })))
}

/// Prints a conversation as the model gets it, with its trained tokens marked.
pub fn print_marked(name: &str, record: &Record, sample: &Sample, tokenizer: &Tokenizer) {
    let (turns, supervised) = (record.messages.len(), sample.supervised());
    say!("{name}: {turns} turns, {} tokens, {supervised} trained (marked)", sample.len());
    let (on, off) = if stdout().is_terminal() { ("\x1b[7m", "\x1b[0m") } else { ("[", "]") };
    let mut line = String::new();
    for (&id, &trained) in sample.input_ids().iter().zip(sample.loss_mask()) {
        let text = printable_text(tokenizer.decode(&[id], false)).to_string();
        line += &if trained { format!("{on}{text}{off}") } else { text };
    }
    show_as_is(format_args!("{line}\n  ids {:?}\n\n", sample.input_ids()));
}

/// A text in lines of up to 100 columns; all lines except the first are indented by `indent`.
pub fn wrapped(text: &str, indent: usize) -> String {
    let (mut out, mut column) = (String::new(), indent);
    for word in text.split_whitespace() {
        if column > indent && column + word.chars().count() + 1 > 100 {
            out += &format!("\n{:indent$}", "");
            column = indent;
        }
        let space = if column > indent { " " } else { "" };
        out += &format!("{space}{word}");
        column += space.len() + word.chars().count();
    }
    out
}

/// Runs an example. An error is printed with its causes, and the exit status is 1. After a signal the status is 128
/// plus its number.
pub fn run(main: impl FnOnce() -> Result<()>) -> ExitCode {
    foehn::kernels::keep_freed_memory();
    match main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<terminal::Stopped>() {
            Some(stopped) => {
                tell!("{stopped}");
                ExitCode::from(stopped.status)
            }
            None => {
                tell!("error: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}
