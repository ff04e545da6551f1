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
use foehn::evaluate::{Answer, EvaluateConfig, Report, Suite, check_disjoint};
use foehn::finetune::Folder;
use foehn::mistral::Base;
use foehn::{Job, Pretrained, Recipe};

/// Cleans the data, trains a LoRA adapter, and prints what changed. Without arguments: VAKOG on SmolLM2-135M-Instruct.
#[derive(Parser)]
struct Arguments {
    /// The recipe: all settings of the run
    #[arg(long, default_value = "examples/recipes/vakog.toml")]
    config: PathBuf,
    /// Use this model instead of the recipe's
    #[arg(long)]
    model: Option<String>,
    /// Use this data instead of the recipe's: JSONL, JSON, CSV or Parquet, clean or not
    #[arg(long)]
    data: Option<PathBuf>,
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
    /// Use this seed instead of the recipe's
    #[arg(long)]
    seed: Option<u64>,
    /// The probes that the model answers before and after; only useful for data about the same five senses
    #[arg(long, default_value = "datasets/vakog/probes/suite.toml")]
    suite: PathBuf,
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
        recipe.data = self.data.clone().unwrap_or(recipe.data);
        recipe.training.max_steps = self.max_steps.unwrap_or(recipe.training.max_steps);
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
        let suite = if arguments.no_evaluation { None } else { Some(Suite::open(&arguments.suite)?) };
        let ask = |name: &str, base: &Pretrained| {
            suite.as_ref().map(|suite| common::evaluate(name, base, suite, &QUICK)).transpose()
        };
        if let Some(suite) = &suite {
            check_disjoint(suite, &job.data().records)?;
        }
        let before = ask("before", &base)?;
        let mut progress = TrainingProgress::new()?;
        let outcome = job.train(&mut base, &mut common::show_loading(), &mut |event| progress.show(event))?;
        progress.finish()?;
        if let (Some(suite), Some(before), Some(after)) = (&suite, before, ask("after", &base)?) {
            let report = Report::new(suite, before, Some(after), recipe.training.seed)?;
            report.save(arguments.out.join("report.json"))?;
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

/// A short evaluation before and after; the example `evaluate` runs the whole suite.
const QUICK: EvaluateConfig = EvaluateConfig {
    max_rows: 2048,
    batch: 16,
    recognition_tokens: 32,
    production_tokens: 96,
    recognition_answers: Some(20),
    scenes: Some(3),
};

/// Prints how the recipe's data was cleaned.
fn print_cleaning(job: &Job, out: &Path) {
    let (name, data) = (job.recipe().data.display(), job.data());
    match &data.report {
        None => say!("{name} is clean already: {} records, trained on as they are\n", data.records.len()),
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
    let names = ["adapter/", "clean.jsonl", "clean.report.json", "metrics.jsonl", "loss.svg", "report.json"];
    let there: Vec<&str> = names.into_iter().filter(|name| out.join(name).exists()).collect();
    say!("saved in {}: {}", out.display(), there.join(", "));
}

/// Prints answers of the model to the same question, before and after.
fn print_answers(report: &Report) {
    let Some(after) = &report.adapter else { return };
    let some = |run: &foehn::evaluate::Evaluation| -> Vec<Answer> {
        let descriptions = run.production.items.iter().map(|item| item.answer.clone());
        run.answers.iter().take(1).cloned().chain(descriptions.skip(1).step_by(6).take(2)).collect()
    };
    for (before, after) in some(&report.base).iter().zip(some(after)) {
        say!("  question  {}", before.question);
        say!("  before    {}", common::wrapped(&before.text, 12));
        say!("  after     {}\n", common::wrapped(&after.text, 12));
    }
}
