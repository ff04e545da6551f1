//! Measures a model, or compares a base with adapters, on anybody's held-out records or on a suite.
//!
//!     cargo run --release --example evaluate -- --data held-out.jsonl --adapter runs/mine/adapter
//!     cargo run --release --example evaluate -- --suite datasets/vakog/probes/suite.toml --adapter runs/vakog/adapter

mod common;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use common::terminal::{say, show_json, tell};
use foehn::corpus::read_clean;
use foehn::evaluate::{
    DataConfig, Decoding, EvaluateConfig, Evaluation, Gate, LabelRule, Report, Suite, check_disjoint,
};
use foehn::files::check_outputs;
use foehn::kernels::Compute;
use foehn::tokens::TemplateChoice;

/// Says whether adapters are better than their base, with statistics. Records with the right answers are enough
/// (--data): what the answers are decides how they are judged. A suite (--suite) says it itself.
#[derive(Parser)]
#[command(group(clap::ArgGroup::new("questions").required(true).args(["data", "suite"])))]
struct Arguments {
    /// A folder, a .gguf file, a Hugging Face repository (org/name) or a short name
    #[arg(long, default_value = "smollm2-135m-instruct")]
    model: String,
    /// The folder of a LoRA adapter; may be given several times
    #[arg(long)]
    adapter: Vec<PathBuf>,
    /// Load adapters even if they were trained on another base, tokenizer or template
    #[arg(long)]
    allow_mismatch: bool,
    /// flex, ndarray, wgpu or cuda, if the build has it
    #[arg(long, default_value = "flex")]
    device: String,
    /// The storage format of the base in memory: stored, f32, bf16, q8_0, q4_k or nf4
    #[arg(long, default_value_t)]
    base: foehn::mistral::Base,
    /// Another chat template than the model's own: mistral-v1, -v2, -v3, -v7, -v11, -v13, chatml or a .jinja file. By
    /// default the one that the first adapter was trained with
    #[arg(long)]
    template: Option<TemplateChoice>,
    /// Records with the right answers: chat records in any format that clean reads, or multiple-choice questions of
    /// lm-evaluation-harness (JSONL)
    #[arg(long)]
    data: Option<PathBuf>,
    /// Where an answer has its label: whole, first-line, field:NAME, json:PATH or regex:PATTERN; inferred if not given
    #[arg(long, requires = "data")]
    label: Option<LabelRule>,
    /// The labels, separated by commas; those of the records if not given
    #[arg(long, requires = "data", value_delimiter = ',')]
    labels: Vec<String>,
    /// Judge answers as texts, even if they look like labels
    #[arg(long, requires = "data", conflicts_with_all = ["label", "labels"])]
    text: bool,
    /// A metadata field whose values are reported apart
    #[arg(long, requires = "data")]
    slice: Option<String>,
    /// Instructions for conversations that have none
    #[arg(long, requires = "data")]
    system: Option<String>,
    /// A suite's TOML file
    #[arg(long)]
    suite: Option<PathBuf>,
    /// A suite of general questions, to see what an adapter forgets
    #[arg(long, default_value = "datasets/general/suite.toml")]
    general: PathBuf,
    /// Do not ask general questions
    #[arg(long)]
    no_general: bool,
    /// The training data: fail if it contains an item
    #[arg(long)]
    training: Option<PathBuf>,
    /// The most questions of each task to answer in words; by default all
    #[arg(long)]
    answers: Option<usize>,
    /// The longest answer, in tokens; by default somewhat more than the longest right answer
    #[arg(long)]
    max_new_tokens: Option<usize>,
    #[command(flatten)]
    compute: common::ComputeArgs,
    #[command(flatten)]
    sampling: common::SamplingArgs,
    /// The seeds of sampled answers, separated by commas
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1, 2])]
    seeds: Vec<u64>,
    /// The seed of bootstrap and permutations
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Floors for the figures (TOML): exit with 1 if one is not reached
    #[arg(long)]
    gate: Option<PathBuf>,
    /// Save the report as JSON, with every answer
    #[arg(long)]
    out: Option<PathBuf>,
    /// Save the report as an HTML page
    #[arg(long)]
    html: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn questions(&self) -> Result<Suite> {
        let config = DataConfig {
            rule: self.label.clone(),
            labels: self.labels.clone(),
            slice: self.slice.clone(),
            system: self.system.clone(),
            is_text: self.text,
            ..DataConfig::default()
        };
        let mut suite = match (&self.data, &self.suite) {
            (Some(data), _) => Suite::from_data(data, &config)?,
            (None, Some(suite)) => Suite::open(suite)?,
            (None, None) => bail!("nothing to ask: give --data or --suite"),
        };
        if let Some(tokens) = self.max_new_tokens {
            suite.tasks.iter_mut().filter(|task| task.max_new_tokens > 0).for_each(|task| task.max_new_tokens = tokens);
        }
        let is_general = self.suite.as_deref().is_some_and(|suite| suite == self.general);
        if !self.no_general && !is_general {
            match self.general.exists() {
                true => suite.join(Suite::open(&self.general)?),
                false => tell!("note: {} is not there, so no general questions are asked", self.general.display()),
            }
        }
        if let Some(path) = &self.training {
            check_disjoint(&suite, &read_clean(path)?)?;
        }
        Ok(suite)
    }

    /// The base and every adapter, each measured on the same items.
    fn runs(&self, suite: &Suite, config: &EvaluateConfig) -> Result<Vec<Evaluation>> {
        // All runs have one template: the given one, or that of the first adapter.
        let template = common::template(self.template.as_ref(), self.adapter.first().map(PathBuf::as_path))?;
        let model = common::ModelArgs {
            model: self.model.clone(),
            adapter: None,
            allow_mismatch: self.allow_mismatch,
            device: self.device.clone(),
            base: self.base,
        };
        // Texts alone can be measured without a chat template.
        let asks = suite.tasks.iter().flat_map(|task| &task.items).any(|item| !item.prompts.is_empty());
        let mut base = common::TextModelArgs { model, template }.load_for(asks)?;
        self.compute.set(&mut base.model)?;
        let without = base.model.clone();
        let mut runs = vec![common::evaluate("base", &base, &without, suite, config)?];
        for folder in &self.adapter {
            base.model = without.clone();
            base.attach_as(folder, self.allow_mismatch, &mut common::show_loading())?;
            runs.push(common::evaluate(&name_of(folder, &self.adapter), &base, &without, suite, config)?);
        }
        Ok(runs)
    }
}

/// `adapter` for a single one; else the part of its path that tells it from the others.
fn name_of(folder: &Path, all: &[PathBuf]) -> String {
    if all.len() == 1 {
        return "adapter".to_owned();
    }
    let parts = |path: &Path| path.components().map(|part| part.as_os_str().to_owned()).collect::<Vec<_>>();
    let others: Vec<_> = all.iter().filter(|other| *other != folder).map(|other| parts(other)).collect();
    let own = parts(folder);
    let unique = own.iter().rev().find(|part| !others.iter().any(|other| other.contains(part)));
    unique.or(own.last()).map_or_else(String::new, |part| part.to_string_lossy().into_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        let outputs: Vec<&PathBuf> = arguments.out.iter().chain(&arguments.html).collect();
        let inputs = [&arguments.data, &arguments.suite, &arguments.training, &arguments.gate];
        check_outputs(&inputs.into_iter().flatten().collect::<Vec<_>>(), &outputs)?;
        let gate = arguments.gate.as_ref().map(Gate::open).transpose()?;
        let suite = arguments.questions()?;
        let sampling = arguments.sampling.config(arguments.adapter.first().map(PathBuf::as_path))?;
        let decoding = Decoding { sampling, seeds: arguments.seeds.clone() };
        let config = EvaluateConfig { answers: arguments.answers, decoding, ..EvaluateConfig::default() };
        let mut report = Report::new(&suite, &config, arguments.runs(&suite, &config)?, arguments.seed)?;
        report.about = common::about(&arguments.model, &arguments.adapter);
        if arguments.compute.compute != Compute::F32 {
            report.about.insert("compute".into(), arguments.compute.compute.name().into());
        }
        for folder in &arguments.adapter {
            let name = (arguments.adapter.len() > 1).then(|| name_of(folder, &arguments.adapter));
            report.about.extend(common::loss_curve(&folder.join(".."), name.as_deref()));
        }
        if let Some(path) = &arguments.out {
            report.save(path)?;
        }
        if let Some(path) = &arguments.html {
            foehn::files::write(path, report.page().as_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        match arguments.json {
            true => show_json(&report, true)?,
            false => say!("{report}"),
        }
        let Some(gate) = gate else { return Ok(()) };
        let checked = gate.check(&report)?;
        for floor in &checked {
            let verdict = if floor.holds { "holds" } else { "FAILS" };
            tell!("gate {verdict}: {}: {:.3}, {}", floor.what, floor.found, floor.limit);
        }
        let failed = checked.iter().filter(|floor| !floor.holds).count();
        ensure!(failed == 0, "{failed} of {} floors are not reached", checked.len());
        Ok(())
    })
}
