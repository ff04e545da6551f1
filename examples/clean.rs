//! Cleans dataset files: clean chat records out, and a report that says what was rejected and why.
//!
//!     cargo run --release --example clean -- datasets/vakog/vakog_raw.jsonl --out clean.jsonl

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use foehn::corpus::{OffTarget, Pipeline, SenseLexicon, clean};

/// Reads JSONL, JSON, CSV or Parquet in chat, ShareGPT, Alpaca, prompt/completion or text form; writes clean chat JSONL.
///
/// Repairs mojibake, Unicode normal form, control characters and spaces; rejects broken structure, control text,
/// answers that go on to ask and answer, truncated answers, duplicates, and conflicting labels.
#[derive(Parser)]
struct Arguments {
    /// The files to read
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// The clean file to write
    #[arg(long)]
    out: PathBuf,
    /// The report to write; beside the clean file by default
    #[arg(long)]
    report: Option<PathBuf>,
    /// A JSON file {class: [words]}: rejects descriptions with words of another class than their modality
    #[arg(long)]
    lexicon: Option<PathBuf>,
    /// Prints the report as JSON
    #[arg(long)]
    json: bool,
    /// Checked as in every example; cleaning itself needs no device
    #[arg(long, default_value = "flex")]
    device: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        foehn::device(&arguments.device)?;
        let mut pipeline = Pipeline::default();
        if let Some(path) = &arguments.lexicon {
            pipeline = pipeline.with(OffTarget::new(SenseLexicon::load(path)?));
        }
        let report_path = arguments.report.unwrap_or_else(|| arguments.out.with_extension("report.json"));
        let report = clean(&arguments.inputs, &arguments.out, &report_path, &pipeline)?;
        if arguments.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            println!("{report}");
            println!("clean records: {}\nreport:        {}", arguments.out.display(), report_path.display());
        }
        Ok(())
    })
}
