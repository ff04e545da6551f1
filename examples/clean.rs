//! Cleans dataset files: writes clean chat records, and a report of what was rejected and why.
//!
//!     cargo run --release --example clean -- datasets/vakog/vakog_raw.jsonl --out clean.jsonl --html clean.html
//!
//! To see the result without writing a clean file: `--dry-run --html clean.html`. To render the records with a model's
//! chat template, and to fail if one cannot be trained on: `--check smollm2-135m-instruct`.
//!
//! On several machines, file to file, with the same bytes:
//!
//!     clean map shard-1.jsonl --part part-1        # one call a shard, anywhere
//!     clean judge part-* --report report.json      # once
//!     clean write part-1 --out clean-1.jsonl       # one call a part, anywhere

mod common;

use common::terminal::{say, show_json, tell};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use common::cleaning::{PipelineArgs, Stage};
use common::gate::Gate;
use foehn::corpus::{
    CleanConfig, CleanReport, EarlierReport, Limit, Registry, clean_with, mark_path, read, write_rejects,
};
use foehn::files::check_outputs;
use foehn::tokens::TemplateChoice;

/// Reads JSONL, JSON, CSV, TSV or Parquet, optionally compressed with gzip or Zstandard, in chat, ShareGPT, Alpaca,
/// prompt/completion, question/answer or text form; writes clean chat JSONL or Parquet.
///
/// By default it repairs mojibake, Unicode normal form, control characters, spaces and the order of turns, and rejects
/// broken structure, control text, answers that continue with another turn, truncated answers, duplicates, and
/// conflicting labels.
/// examples/recipes/clean.toml describes each pass. Inputs are never changed, and the same inputs give the same bytes.
///
/// For a set that one machine is too slow for, the same work in three stages: see `clean map --help`.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    #[command(subcommand)]
    stage: Option<Stage>,
    /// The files to read
    #[arg(required_unless_present = "passes")]
    inputs: Vec<PathBuf>,
    /// The clean file to write: .jsonl, .jsonl.gz, .jsonl.zst or .parquet
    #[arg(long, required_unless_present_any = ["dry_run", "passes"])]
    out: Option<PathBuf>,
    /// The report to write as JSON; by default beside the clean file
    #[arg(long)]
    report: Option<PathBuf>,
    /// The report to write as one HTML page, for people
    #[arg(long, value_name = "PATH")]
    html: Option<PathBuf>,
    /// Write only the reports that --report and --html name, and show what would be rejected
    #[arg(long)]
    dry_run: bool,
    /// Write the rejected records as they were read, each with its reason, as JSON lines: mend them and clean them again
    #[arg(long, value_name = "FILE.jsonl")]
    rejects: Option<PathBuf>,
    /// Fail if a pass rejects or flags more than COUNT records (0 if not given); may be given several times
    #[arg(long, value_name = "PASS[:COUNT]")]
    fail_on: Vec<Limit>,
    /// An earlier report: print which counts have changed since
    #[arg(long, value_name = "REPORT.json")]
    compare: Option<PathBuf>,
    /// Keep the record with this id (as in the report), whatever the passes find; may be given several times
    #[arg(long, value_name = "ID")]
    keep: Vec<String>,
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// List the passes that a pipeline file may use
    #[arg(long)]
    passes: bool,
    /// Render the clean records with this model's chat template; fail if one cannot be trained on
    #[arg(long, value_name = "MODEL")]
    check: Option<String>,
    /// With --check: another chat template than the model's own: mistral-v1, -v2, -v3, -v7, -v11, -v13, chatml or a .jinja
    /// file
    #[arg(long, requires = "check")]
    template: Option<TemplateChoice>,
    /// With --check: the largest length of a record, in tokens
    #[arg(long, default_value_t = 2048)]
    max_length: usize,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Validated as in every example; cleaning itself needs no device
    #[arg(long, default_value = "flex")]
    device: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        foehn::device(&arguments.device)?;
        if let Some(stage) = &arguments.stage {
            return stage.run();
        }
        if arguments.passes {
            Registry::default().passes().for_each(|(name, what)| say!("{name:<20}{what}"));
            return Ok(());
        }
        let files = arguments.files()?;
        // The template is opened first, so that a mistyped name does not cost a whole cleaning.
        let gate = |model| Gate::open(model, arguments.template.as_ref(), arguments.max_length);
        let gate = arguments.check.as_deref().map(gate).transpose()?;
        // Before anything is written: it may be the report that will be replaced.
        let earlier = arguments.compare.as_deref().map(EarlierReport::open).transpose()?;
        // With --dry-run and --check, the records are written to a temporary folder.
        let scratch = tempfile::tempdir()?;
        let out = files[0].1.clone().or_else(|| gate.as_ref().map(|_| scratch.path().join("clean.jsonl")));
        let config = CleanConfig { out: out.clone(), keep: arguments.keep.iter().cloned().collect(), threads: None };
        let pipeline = arguments.pipeline.load()?;
        let report = clean_with(&arguments.inputs, &pipeline, &config)?;
        if let Some(rejects) = &arguments.rejects {
            write_rejects(&arguments.inputs, pipeline.reading(), &report, rejects)?;
        }
        arguments.save(&report, &files)?;
        arguments.tell_differences(&report, earlier.as_ref())?;
        report.require(&arguments.fail_on)?;
        report.require_kept()?;
        if let (Some(mut gate), Some(out)) = (gate, out) {
            check(&mut gate, &out, arguments.json)?;
        }
        Ok(())
    })
}

impl Arguments {
    /// The files to write, each with its kind: the clean records, the report, the page.
    fn files(&self) -> Result<[(&'static str, Option<PathBuf>); 3]> {
        let out = self.out.clone().filter(|_| !self.dry_run);
        let beside = out.as_ref().map(|out| out.with_extension("report.json"));
        let report = self.report.clone().or(beside);
        let files = [("clean records:", out), ("report:", report), ("page:", self.html.clone())];
        let inputs: Vec<&PathBuf> = self.inputs.iter().chain(self.pipeline.files()).collect();
        let mark = files[0].1.as_deref().map(mark_path);
        let outputs: Vec<&PathBuf> =
            files.iter().filter_map(|(_, path)| path.as_ref()).chain(&mark).chain(&self.rejects).collect();
        check_outputs(&inputs, &outputs)?;
        Ok(files)
    }

    fn tell_differences(&self, report: &CleanReport, earlier: Option<&EarlierReport>) -> Result<()> {
        let Some(earlier) = earlier else { return Ok(()) };
        let differences = report.since(earlier);
        tell!("{} counts have changed since the earlier report", differences.len());
        differences.iter().for_each(|difference| tell!("{difference}"));
        Ok(())
    }

    /// Writes the reports, and prints where everything is.
    fn save(&self, report: &CleanReport, files: &[(&str, Option<PathBuf>); 3]) -> Result<()> {
        let [_, (_, json), (_, page)] = files;
        json.as_deref().map(|path| report.save(path)).transpose()?;
        page.as_deref().map(|path| report.save_page(path)).transpose()?;
        if self.json {
            show_json(report, true)?;
            return Ok(());
        }
        say!("{report}");
        if !report.put_back.is_empty() {
            say!("{} kept on request", report.put_back.len());
        }
        for (what, path) in files {
            path.iter().for_each(|path| say!("{what:<15}{}", path.display()));
        }
        Ok(())
    }
}

/// Checks every clean record, and shows the first ones.
fn check(gate: &mut Gate, out: &Path, quietly: bool) -> Result<()> {
    for line in read(out).with_context(|| "nothing is left to check")? {
        let line = line?;
        let record = line.record.map_err(|unreadable| unreadable.fault).with_context(|| out.display().to_string())?;
        gate.pass(&record, line.place.line, !quietly);
    }
    gate.verdict()
}
