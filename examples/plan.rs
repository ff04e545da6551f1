//! What a recipe will take, before a weight is read: tokens, steps, memory by part, time.
//!
//!     cargo run --release --example plan
//!     cargo run --release --example plan -- --config my-recipe.toml --data my-data.jsonl --memory 8G --json

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use common::terminal::{say, tell};
use foehn::finetune::Folder;
use foehn::plan::{Prospect, free_memory, parse_bytes, size};
use foehn::{Job, Recipe};

/// Plans the run of a recipe. The model's configuration, its tokenizer and its template are read, its weights are not.
#[derive(Parser)]
struct Arguments {
    /// The recipe: all settings of the run
    #[arg(long, default_value = "examples/recipes/vakog.toml")]
    config: PathBuf,
    /// Use this model instead of the recipe's
    #[arg(long)]
    model: Option<String>,
    /// Use this data instead of the recipe's: JSONL, JSON, CSV or Parquet, clean or not
    #[arg(long, num_args = 1..)]
    data: Vec<PathBuf>,
    /// Choose micro_batch_rows, recompute and base, in this order, such that the run fits in this memory, such as 8G
    #[arg(long, value_parser = parse_bytes)]
    memory: Option<usize>,
    /// Do not measure the speed of this machine, which takes some seconds
    #[arg(long)]
    no_time: bool,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        let mut recipe = Recipe::load(&arguments.config)?;
        recipe.model = arguments.model.clone().unwrap_or(recipe.model);
        if !arguments.data.is_empty() {
            recipe.data = arguments.data.clone().into();
        }
        let out = tempfile::tempdir()?;
        let mut job = Job::prepare(recipe, Folder::begin(out.path())?)?;
        let mut prospect = Prospect::of(&job, &mut common::show_loading())?;
        if let Some(room) = arguments.memory {
            let choice = prospect.within(room)?;
            tell!("within {}: {}", size(room), choice.said());
            job.adopt(&choice);
            prospect = Prospect::of(&job, &mut common::show_loading())?;
        }
        let device = if arguments.no_time { None } else { Some(foehn::device("flex")?) };
        let plan = prospect.plan(device.as_ref())?;
        match arguments.json {
            true => say!("{}", serde_json::to_string_pretty(&plan)?),
            false => say!("{plan}\nfree now   {}", free_memory().map_or("unknown".into(), size)),
        }
        Ok(())
    })
}
