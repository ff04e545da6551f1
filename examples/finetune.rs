//! The whole job: cleans a dataset, trains an adapter on it, and shows the model's answers before and after.
//!
//!     cargo run --release --example finetune
//!     cargo run --release --example finetune -- --config my-recipe.toml --data my-data.jsonl --out runs/mine

mod common;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use common::planning::PlanArgs;
use common::terminal::say;
use common::training::TrainingProgress;
use foehn::evaluate::{Decoding, EvaluateConfig, Report};
use foehn::finetune::{Event, Folder, Warning};
use foehn::kernels::Compute;
use foehn::mistral::Base;
use foehn::{EvaluationRecipe, Job, Pretrained, Recipe};

const DEFAULT: &str = "examples/recipes/vakog.toml";

/// Cleans the data, trains a LoRA adapter, and prints what changed. Without arguments: VAKOG on SmolLM2-135M-Instruct.
/// Before and after, the model is asked what the recipe's [evaluation] says, or else the validation records.
#[derive(Parser)]
struct Arguments {
    /// The recipe: all settings of the run
    #[arg(long, default_value = DEFAULT)]
    config: PathBuf,
    /// Use this model instead of the recipe's
    #[arg(long)]
    model: Option<String>,
    /// Use this data instead of the recipe's: JSONL, JSON, CSV or Parquet, clean or not. The recipe's evaluation and
    /// lexicon belong to its data and are not used then, nor is the pipeline of the default recipe
    #[arg(long, num_args = 1..)]
    data: Vec<PathBuf>,
    /// Validate on these clean records instead of a share of the data
    #[arg(long)]
    validation: Option<PathBuf>,
    /// The run's folder
    #[arg(long, default_value = "runs/vakog")]
    out: PathBuf,
    /// Continue from the newest checkpoint in the run's folder
    #[arg(long)]
    resume: bool,
    /// flex, ndarray, wgpu or cuda, if the build has it
    #[arg(long, default_value = "flex")]
    device: String,
    /// Stop after this number of steps
    #[arg(long)]
    max_steps: Option<usize>,
    /// What matrix products round both sides to, instead of the recipe's: f32 (nothing) or bf16 (several times as fast on
    /// processors with AMX)
    #[arg(long)]
    compute: Option<Compute>,
    /// Use this seed instead of the recipe's
    #[arg(long)]
    seed: Option<u64>,
    /// The suite that the model is asked before and after
    #[arg(long)]
    suite: Option<PathBuf>,
    /// Only train; do not evaluate before and after
    #[arg(long)]
    no_evaluation: bool,
    #[command(flatten)]
    planning: PlanArgs,
}

impl Arguments {
    fn recipe(&self) -> Result<Recipe> {
        let mut recipe = Recipe::load(&self.config)?;
        recipe.model = self.model.clone().unwrap_or(recipe.model);
        if !self.data.is_empty() {
            let general = recipe.evaluation.general.take();
            recipe.data = self.data.clone().into();
            recipe.pipeline = recipe.pipeline.filter(|_| self.config != Path::new(DEFAULT));
            (recipe.lexicon, recipe.evaluation) = (None, EvaluationRecipe { general, ..EvaluationRecipe::default() });
        }
        recipe.validation_data = self.validation.clone().or(recipe.validation_data);
        if self.suite.is_some() {
            recipe.evaluation =
                EvaluationRecipe { data: None, label: None, suite: self.suite.clone(), ..recipe.evaluation };
        }
        recipe.training.max_steps = self.max_steps.unwrap_or(recipe.training.max_steps);
        recipe.training.compute = self.compute.unwrap_or(recipe.training.compute);
        recipe.training.seed = self.seed.unwrap_or(recipe.training.seed);
        Ok(recipe)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::terminal::go_on_without_reader();
    common::run(|| {
        let device = foehn::device(&arguments.device)?;
        // A plan leaves nothing behind.
        let scratch = tempfile::tempdir()?;
        let out = if arguments.planning.plan { scratch.path() } else { &arguments.out };
        let folder = if arguments.resume { Folder::resume(&arguments.out) } else { Folder::begin(out) }?;
        let mut job = Job::prepare(arguments.recipe()?, folder)?;
        if !arguments.planning.begin(&mut job, &arguments.device, &device)? {
            return Ok(());
        }
        let recipe = job.recipe().clone();
        print_cleaning(&job, &arguments.out);
        let mut base = job.load(&device, &mut common::show_loading())?;
        let suite = if arguments.no_evaluation { None } else { job.suite(&base)? };
        let sampling = recipe.generation.clone().unwrap_or_default();
        let config = EvaluateConfig {
            max_rows: 2048,
            answers: Some(recipe.evaluation.answers),
            decoding: Decoding { sampling, ..Decoding::default() },
            ..EvaluateConfig::default()
        };
        let without = base.model.clone();
        let ask = |name: &str, base: &Pretrained| {
            suite.as_ref().map(|suite| common::evaluate(name, base, &without, suite, &config)).transpose()
        };
        let before = ask("before", &base)?;
        let mut progress = TrainingProgress::new()?;
        let mut lengths = Vec::new();
        let outcome = job.train(&mut base, &mut common::show_loading(), &mut |event| {
            if let Event::Warning(Warning::Length { set, fitting }) = &event {
                lengths.push((format!("long {set} records"), serde_json::json!(fitting)));
            }
            progress.show(event)
        })?;
        progress.finish()?;
        if let (Some(suite), Some(before), Some(after)) = (&suite, before, ask("after", &base)?) {
            let mut report = Report::new(suite, &config, vec![before, after], recipe.training.seed)?;
            report.about = common::about(&recipe.model, outcome.adapter.as_slice());
            report.about.extend(common::loss_curve(&arguments.out, None));
            report.about.extend(lengths);
            report.save(arguments.out.join("report.json"))?;
            foehn::files::write(arguments.out.join("report.html"), report.page().as_bytes())?;
            say!("{report}");
            print_answers(&report);
        }
        print_files(&arguments.out);
        if let Some(adapter) = outcome.adapter {
            let base = if recipe.base == Base::Stored { String::new() } else { format!(" --base {}", recipe.base) };
            let chat = "cargo run --release --example chat --";
            say!("talk to it:  {chat} --model {}{base} --adapter {}", recipe.model, adapter.display());
        }
        Ok(())
    })
}

/// Prints how the recipe's data was cleaned.
fn print_cleaning(job: &Job, out: &Path) {
    let (name, data) = (&job.recipe().data, job.data());
    match &data.report {
        None => say!("{name} is clean already: {} records, used as they are\n", data.count()),
        Some(report) => say!(
            "cleaned {name}: {} records read, {} kept, {} rejected (why: {})\n",
            report.read,
            report.kept,
            report.rejected,
            out.join("clean.report.json").display()
        ),
    }
}

/// Prints which files of the run exist.
fn print_files(out: &Path) {
    let names =
        ["adapter/", "clean.jsonl", "clean.report.json", "metrics.jsonl", "loss.svg", "report.json", "report.html"];
    let there: Vec<&str> = names.into_iter().filter(|name| out.join(name).exists()).collect();
    say!("saved in {}: {}", out.display(), there.join(", "));
}

/// Prints some answers of the model to the same question, before and after.
fn print_answers(report: &Report) {
    for task in report.tasks.iter().filter(|task| task.decoding.is_some()).take(2) {
        let [before, after] = task.runs.as_slice() else { continue };
        let both = before.items.iter().zip(&after.items).zip(&task.items);
        let answered =
            both.filter_map(|((before, after), item)| Some((before.answers.first()?, after.answers.first()?, item)));
        for (before, after, item) in answered.skip(1).step_by(6).take(2) {
            say!("  question  {}", common::wrapped(&item.question, 12));
            say!("  before    {}", common::wrapped(&before.text, 12));
            say!("  after     {}\n", common::wrapped(&after.text, 12));
        }
    }
}
