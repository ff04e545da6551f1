//! LoRA steps on rows that are already tokenised: losses, speed and peak memory as one JSON object, for comparison with
//! PEFT.
//!
//!     cargo run --release --example tokenize -- --json --limit 0 > rows.jsonl
//!     cargo run --release --example steps -- --rows rows.jsonl --steps 10 --learning-rate 2e-4

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Error, Result, ensure};
use clap::Parser;
use common::terminal::say;
use foehn::finetune::{Dataset, Folder, Run, Schedule, Trainer, TrainingConfig};
use foehn::lora::{Adapter, LoraConfig, Manifest};
use foehn::plan::{Calibration, Outline, Plan, program_bytes};
use foehn::tokens::Sample;
use serde::Deserialize;
use serde_json::json;

/// Takes AdamW steps on rows {"input_ids": [...], "loss_mask": [0/1, ...]}, in their order, without clipping or
/// schedule.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    model: common::ModelArgs,
    /// The rows, JSONL; loss_mask marks the target tokens
    #[arg(long, required_unless_present = "random")]
    rows: Option<PathBuf>,
    /// Instead of rows: this many random rows per step, each with this many tokens, all supervised
    #[arg(long, num_args = 2, value_names = ["ROWS", "TOKENS"])]
    random: Option<Vec<usize>>,
    /// Instead of a model: random weights in the shape of this config.json, in the format of --base
    #[arg(long, value_name = "CONFIG", requires = "random")]
    synthetic: Option<PathBuf>,
    /// The rank of a new adapter; its alpha is twice the rank
    #[arg(long, default_value_t = 8)]
    r: usize,
    /// Rows per step
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// The number of steps
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// The largest number of tokens computed at once
    #[arg(long, default_value_t = 4096)]
    micro_batch_rows: usize,
    /// Compute the inner values of a block again in the backward pass, instead of keeping them
    #[arg(long)]
    recompute: bool,
    #[command(flatten)]
    compute: common::ComputeArgs,
    /// The learning rate
    #[arg(long, default_value_t = 2e-4)]
    learning_rate: f64,
    /// The adapter to start from; by default a new one on all linear layers
    #[arg(long)]
    init: Option<PathBuf>,
    /// Print what these steps will take, with the time, and stop; needs --synthetic
    #[arg(long, requires = "synthetic")]
    plan: bool,
    /// With --plan, leave out the time
    #[arg(long, requires = "plan")]
    no_time: bool,
    /// The folder to save the adapter to after the last step
    #[arg(long)]
    save: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Row {
    input_ids: Vec<u32>,
    loss_mask: Vec<u8>,
}

impl Arguments {
    fn config(&self, batch_size: usize) -> TrainingConfig {
        let fresh = LoraConfig { r: self.r, lora_alpha: 2.0 * self.r as f64, ..LoraConfig::default() };
        TrainingConfig {
            init_adapter: self.init.clone(),
            shuffle: false,
            epochs: 1,
            batch_size,
            micro_batch_rows: self.micro_batch_rows,
            recompute: self.recompute,
            compute: self.compute.compute,
            learning_rate: self.learning_rate,
            schedule: Schedule::Constant,
            warmup_ratio: 0.0,
            max_grad_norm: 0.0,
            lora: if self.init.is_some() { LoraConfig::default() } else { fresh },
            ..TrainingConfig::default()
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        let planned = planned(&arguments)?;
        if arguments.plan {
            say!("{}", serde_json::to_string(&planned)?);
            return Ok(());
        }
        let model = &mut common::network_or_synthetic(&arguments.model, arguments.synthetic.as_deref())?;
        let (batch_size, training) = training(&arguments, model.config().vocab_size)?;
        let out = tempfile::tempdir()?;
        let (config, manifest) = (arguments.config(batch_size), Manifest::default());
        let run =
            Run { config: &config, training: &training, validation: None, manifest, out: Folder::begin(out.path())? };
        let mut trainer = Trainer::new(model, run)?;
        let steps = (0..arguments.steps).map(|_| trainer.step()).collect::<Result<Vec<_>, _>>()?;
        if let Some(folder) = &arguments.save {
            Adapter::load(&trainer.finish()?)?.save(folder)?;
        }
        // The first step is slower, because caches and buffers are still cold.
        let warm = 1.min(steps.len() - 1)..steps.len();
        let rate = |of: &dyn Fn(usize) -> usize| {
            common::median(warm.clone().map(|step| of(step) as f64 / steps[step].seconds))
        };
        let tokens = |step: usize| {
            training.samples().chunks(batch_size).nth(step).unwrap_or_default().iter().map(Sample::len).sum()
        };
        let report = json!({
            "losses": steps.iter().map(|step| step.loss).collect::<Vec<_>>(),
            "tokens_per_s": rate(&tokens),
            "examples_per_s": rate(&|_| batch_size),
            "real_tokens": (0..steps.len()).map(tokens).sum::<usize>(),
            "computed_tokens": steps.iter().map(|step| step.rows).sum::<usize>(),
            "seconds_per_step": common::median(warm.clone().map(|step| steps[step].seconds)),
            "peak_rss_mib": common::peak_rss_mib(),
            "planned": planned,
        });
        say!("{report}");
        Ok(())
    })
}

/// The plan of steps on a synthetic model. Its time is measured only where nothing else is: measuring takes memory.
fn planned(arguments: &Arguments) -> Result<Option<Plan>> {
    let Some(path) = &arguments.synthetic else { return Ok(None) };
    let config = common::config_of(path)?;
    let (batch_size, training) = training(arguments, config.vocab_size)?;
    let program = program_bytes();
    let outline =
        Outline { config: &config, checkpoint: None, training: &training, validation: None, program, saves: false };
    let (base, settings) = (arguments.model.base, arguments.config(batch_size));
    let measure = || Calibration::measure(&outline, base, &settings, &arguments.model.device()?).map_err(Error::from);
    let calibration = (arguments.plan && !arguments.no_time).then(measure).transpose()?;
    Ok(Some(Plan::of(&outline, base, &settings, calibration.as_ref())?))
}

/// The rows per step, and the rows of all steps.
fn training(arguments: &Arguments, vocab_size: usize) -> Result<(usize, Dataset)> {
    let (batch_size, samples) = samples(arguments, vocab_size)?;
    let vocabulary: Vec<u32> = (0..).take(vocab_size).collect();
    let rows = samples.iter().cycle().take(arguments.steps * batch_size);
    let named = rows.enumerate().map(|(row, sample)| ((row + 1).to_string(), sample.clone()));
    Ok((batch_size, Dataset::from_samples(named.collect(), &vocabulary, vocab_size)?))
}

fn samples(arguments: &Arguments, vocab_size: usize) -> Result<(usize, Vec<Sample>)> {
    ensure!(arguments.steps > 0 && arguments.batch > 0, "--steps and --batch have to be at least 1");
    if let Some(&[rows, tokens]) = arguments.random.as_deref() {
        ensure!(rows > 0 && tokens > 1, "--random needs at least 1 row of 2 tokens");
        let mut id = common::random_ids(vocab_size);
        let count = rows * arguments.steps;
        let random = (0..count).map(|_| Sample::from_text((0..tokens).map(|_| id()).collect()));
        return Ok((rows, random.collect::<Result<_, _>>()?));
    }
    let path = arguments.rows.as_ref().context("--rows is missing")?;
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let sample = |(number, line): (usize, &str)| -> Result<Sample> {
        let at = || format!("{}, line {}", path.display(), number + 1);
        let row: Row = serde_json::from_str(line).with_context(at)?;
        ensure!(row.input_ids.iter().all(|&id| (id as usize) < vocab_size), "{}: an id is not in the vocabulary", at());
        Sample::new(row.input_ids, row.loss_mask.iter().map(|&mask| mask != 0).collect()).with_context(at)
    };
    let samples = text.lines().enumerate().map(sample).collect::<Result<Vec<_>>>()?;
    ensure!(!samples.is_empty(), "{} has no rows", path.display());
    Ok((arguments.batch, samples))
}
