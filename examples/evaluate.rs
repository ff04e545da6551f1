//! Measures a model, or compares a base with an adapter, on a frozen suite of probes.
//!
//!     cargo run --release --example evaluate -- --adapter runs/vakog/adapter

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use common::terminal::{say, show_json};
use foehn::corpus::read_clean;
use foehn::evaluate::{EvaluateConfig, Report, Suite, check_disjoint};

/// Measures recognition by likelihood, descriptions by a lexicon, and how answers end; with --adapter, before and
/// after.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    model: common::ModelArgs,
    /// The suite file
    #[arg(long, default_value = "datasets/vakog/probes/suite.toml")]
    suite: PathBuf,
    /// The training data: fail if it contains a probe
    #[arg(long)]
    data: Option<PathBuf>,
    /// The number of recognition questions to answer in words; by default all
    #[arg(long)]
    answers: Option<usize>,
    /// The number of scenes to describe for every label; by default all
    #[arg(long)]
    scenes: Option<usize>,
    /// The seed of the bootstrap
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Save the report as JSON, with every answer
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        let suite = Suite::open(&arguments.suite)?;
        if let Some(path) = &arguments.data {
            check_disjoint(&suite, &read_clean(path)?)?;
        }
        let config = EvaluateConfig {
            recognition_answers: arguments.answers,
            scenes: arguments.scenes,
            ..EvaluateConfig::default()
        };
        let mut base = common::ModelArgs { adapter: None, ..arguments.model.clone() }.load()?;
        let before = common::evaluate("base", &base, &suite, &config)?;
        let after = match &arguments.model.adapter {
            None => None,
            Some(folder) => {
                base.attach_as(folder, arguments.model.allow_mismatch, &mut common::show_loading())?;
                Some(common::evaluate("adapter", &base, &suite, &config)?)
            }
        };
        let report = Report::new(&suite, before, after, arguments.seed)?;
        if let Some(path) = &arguments.out {
            report.save(path)?;
        }
        match arguments.json {
            true => show_json(&report, true)?,
            false => say!("{report}"),
        }
        Ok(())
    })
}
