//! Finds out what is wrong with an adapter: twelve checks, in plain words.
//!
//! Exit status: 0 nothing was found, 1 a warning, 2 a fault, or files that cannot be read.
//!
//!     cargo run --release --example doctor -- runs/vakog/adapter

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use common::terminal::{say, show_json};
use foehn::Pretrained;
use foehn::doctor::{Diagnosis, Finding, Inputs, Missing, Progress, Severity, diagnose, named_base};
use foehn::mistral::Base;

/// Checks an adapter, its base and its data for twelve faults. Beside an adapter in the folder of a run, the run's
/// records and losses are read too.
#[derive(Parser)]
struct Arguments {
    /// The folder of the adapter
    adapter: PathBuf,
    /// The base model; by default the one that the adapter's files name
    #[arg(long)]
    model: Option<String>,
    /// The records that it was trained on, as `clean` writes them; by default those of the run
    #[arg(long)]
    data: Option<PathBuf>,
    /// The records that were held out; by default those that the run held out
    #[arg(long)]
    validation: Option<PathBuf>,
    /// A checkpoint that should be the base with the adapter merged into it
    #[arg(long)]
    merged: Option<PathBuf>,
    /// flex, ndarray, wgpu or cuda, if the build has it
    #[arg(long, default_value = "flex")]
    device: String,
    /// The storage format of the base in memory: stored, f32, bf16, q8_0, q4_k or nf4
    #[arg(long, default_value_t)]
    base: Base,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut status = 2;
    let _ = common::run(|| {
        let diagnosis = arguments.diagnose()?;
        match arguments.json {
            true => show_json(&diagnosis, true)?,
            false => show(&diagnosis),
        }
        status = match diagnosis.severity {
            Severity::Fault => 2,
            Severity::Warning => 1,
            _ => 0,
        };
        Ok(())
    });
    ExitCode::from(status)
}

impl Arguments {
    fn diagnose(&self) -> Result<Diagnosis> {
        let named = named_base(&self.adapter)?;
        let no_base = || format!("{} names no base: say --model", self.adapter.display());
        let model = self.model.clone().or(named).with_context(no_base)?;
        let template = foehn::template_of_adapter(&self.adapter)?;
        let (device, show) = (foehn::device(&self.device)?, &mut common::show_loading());
        let base = Pretrained::load_with(&model, self.base, template.as_ref(), &device, show)
            .with_context(|| format!("the base {model} cannot be loaded; --model names another"))?;
        let inputs = Inputs {
            adapter: self.adapter.clone(),
            data: self.data.clone(),
            validation: self.validation.clone(),
            merged: self.merged.clone(),
        };
        let (bar, mut show) = (common::progress("doctor", 0), common::show_loading());
        let diagnosis = diagnose(&base, &inputs, &mut |progress| match progress {
            Progress::Loading(loading) => bar.suspend(|| show(loading)),
            Progress::Step { name, done, total } => {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
                bar.set_message(name);
            }
            _ => {}
        })?;
        bar.finish_and_clear();
        Ok(diagnosis)
    }
}

fn show(diagnosis: &Diagnosis) {
    let Diagnosis { adapter, base, findings, .. } = diagnosis;
    let number = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let [faults, warnings, sound, unchecked] =
        [Severity::Fault, Severity::Warning, Severity::Sound, Severity::NotChecked].map(number);
    say!("{}", common::wrapped(&format!("{adapter} on {base}"), 0));
    say!("faults: {faults}, warnings: {warnings}, sound: {sound}, not checked: {unchecked}");
    for finding in findings {
        let Finding { check, severity, looked_at, found, why, advice, missing } = finding;
        let word = match severity {
            Severity::Fault => "FAULT",
            Severity::Warning => "WARNING",
            Severity::Sound => "sound",
            Severity::NotChecked => "not checked",
        };
        let give = missing.map_or("", |missing| match missing {
            Missing::Data => ": give --data",
            Missing::Validation => ": give --validation",
            Missing::Merged => ": give --merged",
        });
        say!("\n{word:<11}  {}", check.name());
        let found = format!("{found}{give}");
        for (name, text) in [("looked at", looked_at.as_str()), ("found", &found), ("why", why), ("do", advice)] {
            if !text.is_empty() {
                say!("             {name:<9}  {}", common::wrapped(text, 24));
            }
        }
    }
}
