//! The whole job: cleans a dataset, tunes an adapter on it, and shows the model before and after.
//!
//!     cargo run --release --example finetune
//!     cargo run --release --example finetune -- --config my-recipe.toml --data my-data.jsonl --out runs/mine

mod common;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use foehn::Pretrained;
use foehn::corpus::{OffTarget, Pipeline, Record, SenseLexicon, clean, read_clean, split_stratified};
use foehn::evaluate::{EvaluateConfig, Report, Suite, check_disjoint};
use foehn::finetune::{Dataset, Event, Outcome, Recipe, Run, train};

/// Cleans the data, tunes a LoRA adapter, and prints what changed. Without arguments: VAKOG on SmolLM2-135M-Instruct.
#[derive(Parser)]
struct Arguments {
    /// The recipe: every setting of the run
    #[arg(long, default_value = "examples/recipes/vakog.toml")]
    config: PathBuf,
    /// In place of the recipe's model
    #[arg(long)]
    model: Option<String>,
    /// In place of the recipe's data: JSONL, JSON or CSV, messy or clean
    #[arg(long)]
    data: Option<PathBuf>,
    /// The run's folder
    #[arg(long, default_value = "runs/vakog")]
    out: PathBuf,
    /// Go on from the newest checkpoint in the run's folder
    #[arg(long)]
    resume: bool,
    /// flex, ndarray, wgpu or cuda, where the build has it
    #[arg(long, default_value = "flex")]
    device: String,
    /// Stop after so many steps
    #[arg(long)]
    max_steps: Option<usize>,
    /// In place of the recipe's seed
    #[arg(long)]
    seed: Option<u64>,
    /// The probes that the model answers before and after; only for data that is about the same five senses
    #[arg(long, default_value = "datasets/vakog/probes/suite.toml")]
    suite: PathBuf,
    /// Trains only, and asks nothing before and after
    #[arg(long)]
    no_evaluation: bool,
}

impl Arguments {
    fn recipe(&self) -> Result<Recipe> {
        let mut recipe = Recipe::load(&self.config)?;
        recipe.model = self.model.clone().unwrap_or(recipe.model);
        recipe.data = self.data.clone().unwrap_or(recipe.data);
        recipe.max_steps = self.max_steps.unwrap_or(recipe.max_steps);
        recipe.seed = self.seed.unwrap_or(recipe.seed);
        Ok(recipe)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        let recipe = arguments.recipe()?;
        let device = foehn::device(&arguments.device)?;
        let records = cleaned(&recipe, &arguments.out)?;
        let mut base = Pretrained::load(&recipe.model, &device, &mut common::show_fetch())?;
        let suite = if arguments.no_evaluation { None } else { Some(Suite::open(&arguments.suite)?) };
        let ask = |name: &str, base: &Pretrained| {
            suite.as_ref().map(|suite| common::evaluate(name, base, suite, &QUICK)).transpose()
        };
        if let Some(suite) = &suite {
            check_disjoint(suite, &records)?;
        }
        let before = ask("before", &base)?;
        let outcome = tune(&mut base, &recipe, records, &arguments)?;
        if let (Some(suite), Some(before), Some(after)) = (&suite, before, ask("after", &base)?) {
            let report = Report::new(suite, before, Some(after), recipe.seed)?;
            report.save(arguments.out.join("report.json"))?;
            print_before_after(&report);
        }
        let out = arguments.out.display();
        println!("saved in {out}: adapter/, clean.jsonl, clean.report.json, metrics.jsonl, loss.svg, report.json");
        if let Some(adapter) = outcome.adapter {
            let chat = "cargo run --release --example chat --";
            println!("talk to it:  {chat} --model {} --adapter {}", recipe.model, adapter.display());
        }
        Ok(())
    })
}

/// A look at the model before and after; the example `evaluate` asks everything.
const QUICK: EvaluateConfig = EvaluateConfig {
    max_rows: 512,
    batch: 16,
    recognition_tokens: 32,
    production_tokens: 96,
    recognition_answers: Some(20),
    scenes: Some(3),
};

/// Cleans the recipe's data into the run's folder.
fn cleaned(recipe: &Recipe, out: &Path) -> Result<Vec<Record>> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let mut pipeline = Pipeline::default();
    if let Some(path) = &recipe.lexicon {
        pipeline = pipeline.with(OffTarget::new(SenseLexicon::load(path)?));
    }
    let (clean_path, report_path) = (out.join("clean.jsonl"), out.join("clean.report.json"));
    let report = clean(&[recipe.data.clone()], &clean_path, &report_path, &pipeline)?;
    println!("cleaned {}: {} records read, {} kept, {} rejected (why: {})\n",
        recipe.data.display(), report.read, report.kept, report.rejected, report_path.display());
    Ok(read_clean(&clean_path)?)
}

fn tune(base: &mut Pretrained, recipe: &Recipe, records: Vec<Record>, arguments: &Arguments) -> Result<Outcome> {
    let manifest = base.manifest(foehn::sha256_of_file(&arguments.out.join("clean.jsonl"))?);
    let (records, held_out) = match recipe.validation.fraction > 0.0 {
        true => split_stratified(records, recipe.validation.fraction, recipe.seed, "task")?,
        false => (records, Vec::new()),
    };
    let dataset = |records: &[Record]| {
        Dataset::new(records, &base.template, &base.tokenizer, base.model.config(), recipe.max_length)
    };
    let training = dataset(&records)?;
    let validation = if held_out.is_empty() { None } else { Some(dataset(&held_out)?) };
    let run = Run {
        recipe,
        training: &training,
        validation: validation.as_ref(),
        manifest,
        out: &arguments.out,
        resume: arguments.resume,
    };
    let mut bar = common::progress("training", 0);
    let (mut tokens, mut rows, mut examples, mut seconds) = (0, 0, 0, 0.0);
    let outcome = train(&mut base.model, run, &mut |event| {
        match event {
            Event::Started { step, total, parameters } => {
                println!("training {parameters} parameters on {} records, {total} steps", records.len());
                bar = common::progress("training", total as u64);
                bar.set_position(step as u64 - 1);
            }
            Event::Step(metrics) => {
                tokens += metrics.tokens;
                rows += metrics.rows;
                examples += metrics.examples;
                seconds += metrics.seconds;
                bar.set_position(metrics.step as u64);
                bar.set_message(format!("epoch {} loss {:.3}", metrics.epoch, metrics.loss));
                if metrics.step % 20 == 0 || metrics.step == 1 {
                    bar.suspend(|| println!("  step {:>4}  loss {:.4}  {:.1} examples/s",
                        metrics.step, metrics.loss, examples as f64 / seconds));
                }
            }
            Event::Validated(metrics) => bar.suspend(|| {
                println!("  step {:>4}  validation loss {:.4}", metrics.step, metrics.validation_loss);
            }),
            Event::StoppedEarly { step } => bar.suspend(|| println!("  step {step:>4}  stopped early")),
            Event::Checkpointed(_) => {}
        }
        ControlFlow::Continue(())
    })?;
    bar.finish_and_clear();
    if tokens > 0 {
        println!("trained for {seconds:.0} s: {tokens} tokens of samples, {rows} computed ({:.0}% saved by shared prefixes)\n",
            100.0 * (1.0 - rows as f64 / tokens as f64));
    }
    Ok(outcome)
}

fn print_before_after(report: &Report) {
    let Some(after) = &report.adapter else { return };
    let before = &report.base;
    let stopped = |run: &foehn::evaluate::Run| {
        let both = [run.stopping.recognition, run.stopping.production];
        let answers: usize = both.iter().map(|figures| figures.answers).sum();
        let share = |figure: fn(&foehn::evaluate::StopFigures) -> f64| {
            both.iter().map(|figures| figure(figures) * figures.answers as f64).sum::<f64>() / answers as f64
        };
        [share(|figures| figures.stopped), share(|figures| figures.goes_on)]
    };
    let (a, b) = (&before.recognition.likelihood.classification, &after.recognition.likelihood.classification);
    let ([stop_a, on_a], [stop_b, on_b]) = (stopped(before), stopped(after));
    let row = |what: &str, a: f64, b: f64| println!("  {what:<44} {a:>8.3} {b:>8.3}");
    println!("  {:<44} {:>8} {:>8}", "", "before", "after");
    row("recognition accuracy (chance 0.2)", a.accuracy, b.accuracy);
    row("recognition macro-F1", a.macro_f1, b.macro_f1);
    row("answers that stop by themselves", stop_a, stop_b);
    row("answers that go on to a further question", on_a, on_b);
    row("descriptions in the asked sense alone", before.production.all.pure, after.production.all.pure);
    println!();
    let asked = |run: &foehn::evaluate::Run| -> Vec<foehn::evaluate::Answer> {
        let described = run.production.items.iter().map(|item| &item.answer);
        run.answers.iter().take(1).chain(described.clone().take(1)).chain(described.skip(3).take(1)).cloned().collect()
    };
    for (before, after) in asked(before).iter().zip(asked(after)) {
        println!("  Q       {}", before.question);
        println!("  before  {}", common::wrapped(&before.text, 10));
        println!("  after   {}\n", common::wrapped(&after.text, 10));
    }
}
