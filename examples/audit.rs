//! Finds labels that are likely wrong. First the data is judged and looked at, then decisions are written.
//!
//!     cargo run --release --example audit -- --data mine.jsonl --out audit.json --html audit.html
//!     cargo run --release --example audit -- --from audit.json --relabel 17,42=billing --write fixed.jsonl
//!     cargo run --release --example audit -- --from audit.json --keep 5 --reviewed reviewed.jsonl

mod common;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{ArgGroup, Parser};
use common::terminal::{say, show_json, tell};
use foehn::Pretrained;
use foehn::audit::{Audit, AuditConfig, Progress, Review, Source, audit};
use foehn::evaluate::LabelRule;
use foehn::files::check_outputs;

/// Judges each label of a data set by an adapter that has not seen it, and lists the most doubtful records. Hard cases
/// that are right rank high too, so no record is ever dropped: look at each, and give it another label (--relabel) or
/// mark it as right (--keep)
#[derive(Parser)]
#[command(group(ArgGroup::new("source").required(true).args(["data", "from"])), after_help = AFTER)]
struct Arguments {
    /// The records: any format that clean reads, clean or not
    #[arg(long)]
    data: Option<PathBuf>,
    /// A folder, a .gguf file, a Hugging Face repository (org/name) or a short name
    #[arg(long, default_value = "smollm2-135m-instruct")]
    model: String,
    /// Where an answer has its label: whole, first-line, field:NAME, json:PATH or regex:PATTERN; inferred if not given
    #[arg(long)]
    label: Option<LabelRule>,
    /// The labels to judge, separated by commas; those of the records if not given
    #[arg(long, value_delimiter = ',')]
    labels: Vec<String>,
    /// Instructions for conversations that have none
    #[arg(long)]
    system: Option<String>,
    /// Train on all folds but one, and judge that one
    #[arg(long, default_value_t = 2)]
    folds: usize,
    /// Passes over the records of the other folds; by default as many as make 100 steps, at most 10
    #[arg(long)]
    epochs: Option<usize>,
    /// The peak learning rate; a larger model wants a lower one
    #[arg(long, default_value_t = AuditConfig::default().training.learning_rate)]
    learning_rate: f64,
    /// The seed of folds and training
    #[arg(long, default_value_t = AuditConfig::default().training.seed)]
    seed: u64,
    /// flex, ndarray, wgpu or cuda, if the build has it
    #[arg(long, default_value = "flex")]
    device: String,
    /// The storage format of the base in memory: stored, f32, bf16, q8_0, q4_k or nf4
    #[arg(long, default_value_t)]
    base: foehn::mistral::Base,
    /// An audit that was saved with --out, instead of a new one
    #[arg(long)]
    from: Option<PathBuf>,
    /// Records to give another label, separated by commas: a line or an id gets the label that the model prefers,
    /// LINE=LABEL that label; @FILE names a file with one a line
    #[arg(long, value_delimiter = ',', requires = "write")]
    relabel: Vec<String>,
    /// Where to write all records with the new labels (.jsonl)
    #[arg(long, requires = "relabel")]
    write: Option<PathBuf>,
    /// Records whose label is right, as in --relabel: they are not listed again
    #[arg(long, value_delimiter = ',', requires = "reviewed")]
    keep: Vec<String>,
    /// The file of kept records; they are not listed
    #[arg(long)]
    reviewed: Option<PathBuf>,
    /// Records that are known to be wrong, as in --relabel: print how many are among the most doubtful tenth, and the
    /// AUROC
    #[arg(long, value_delimiter = ',')]
    known: Vec<String>,
    /// The number of records to print
    #[arg(long, default_value_t = 20)]
    top: usize,
    /// Save the audit as JSON
    #[arg(long)]
    out: Option<PathBuf>,
    /// Save the audit as an HTML page
    #[arg(long)]
    html: Option<PathBuf>,
    /// Print the audit as JSON
    #[arg(long)]
    json: bool,
}

/// The characters of a record that are printed. The page has all of them.
const SHOWN: usize = 300;

const AFTER: &str = "Example, from spreadsheet to corrected data:
  audit --data tickets.csv --out audit.json --html audit.html
  audit --from audit.json --relabel 17,42=billing --write fixed.jsonl
  audit --from audit.json --keep 5,9 --reviewed reviewed.jsonl
  audit --data fixed.jsonl --reviewed reviewed.jsonl --html again.html";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        let Arguments { data, from, reviewed, out, html, write, .. } = &arguments;
        let earlier = from.as_ref().map(|path| Audit::load(path)).transpose()?;
        let data = earlier.as_ref().map(|audit| &audit.data).or(data.as_ref());
        let data = data.context("give --data or --from")?.clone();
        let (relabelled, first) = names(&arguments.relabel)?;
        let (kept, second) = names(&arguments.keep)?;
        let (known, third) = names(&arguments.known)?;
        let inputs: Vec<&PathBuf> = first.iter().chain(&second).chain(&third).chain(from).chain([&data]).collect();
        check_outputs(&inputs, &[out, html, write, reviewed].into_iter().flatten().collect::<Vec<_>>())?;
        let mut review = reviewed.as_ref().map(|path| Review::load(path)).transpose()?.unwrap_or_default();
        let mut audit = earlier.map_or_else(|| arguments.audit(&data), Ok)?;
        for name in &kept {
            review.keep(audit.record(name)?);
        }
        let marked = review.mark(&mut audit);
        if let Some(path) = reviewed {
            tell!("not listed, because they were kept after a look: {marked} of {} records", audit.judged.len());
            review.save(path)?;
        }
        if let Some(path) = out {
            audit.save(path)?;
        }
        if let Some(path) = html {
            foehn::files::write(path, audit.page().as_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        match write {
            Some(path) => return relabel(&audit, &relabelled, path),
            None if arguments.json => show_json(&audit, true)?,
            None if kept.is_empty() => show(&audit, arguments.top),
            None => {}
        }
        if known.is_empty() { Ok(()) } else { found(&audit, &known) }
    })
}

impl Arguments {
    fn audit(&self, path: &Path) -> Result<Audit> {
        let data = Source::read(path)?;
        let mut config = AuditConfig {
            folds: self.folds,
            rule: self.label.clone(),
            labels: self.labels.clone(),
            system: self.system.clone(),
            epochs: self.epochs,
            ..AuditConfig::default()
        };
        let training = &mut config.training;
        (training.learning_rate, training.seed) = (self.learning_rate, self.seed);
        let device = foehn::device(&self.device)?;
        let base = Pretrained::load_as(&self.model, self.base, &device, &mut common::show_loading())?;
        let bar = common::progress("audit", 0);
        let audit = audit(&base, &data, &config, &mut |progress| match progress {
            Progress::Work { what, done, total } => {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
                bar.set_message(what.to_owned());
            }
            Progress::Warning(warning) => bar.suspend(|| tell!("warning: {warning}")),
            _ => {}
        })?;
        bar.finish_and_clear();
        Ok(audit)
    }
}

/// The names of an option with those in its files, and the files.
fn names(given: &[String]) -> Result<(Vec<String>, Vec<PathBuf>)> {
    let (mut names, mut files) = (Vec::new(), Vec::new());
    for name in given {
        match name.strip_prefix('@') {
            None => names.push(name.trim().to_owned()),
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
                names.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
                files.push(path.into());
            }
        }
    }
    Ok((names, files))
}

fn show(audit: &Audit, top: usize) {
    let against = audit.open().filter(|judged| judged.doubt > 0.0).count();
    let tasks: Vec<String> = audit.tasks.iter().map(|task| format!("{} ({})", task.name, task.rule)).collect();
    say!("{}: {} records with labels, of {}", audit.data.display(), audit.judged.len(), tasks.join(", "));
    for (number, why) in [(audit.without_label, "have no label"), (audit.unreadable, "cannot be read")] {
        if number > 0 {
            say!("not judged: {number} records that {why}");
        }
    }
    say!(
        "the model prefers another label for {against} of them. Hard cases that are right rank high too: look first\n"
    );
    for judged in audit.open().take(top) {
        let id = judged.id.as_ref().map_or_else(String::new, |id| format!(" ({id})"));
        let percent = |label: &str| 100.0 * audit.probability(judged, label);
        let (given, other) = (&judged.given, &judged.other);
        say!("line {}{id}: {given} {:.1}%, or {other} {:.1}%?", judged.line, percent(given), percent(other));
        let (start, rest): (String, _) =
            (judged.question.chars().take(SHOWN).collect(), judged.question.chars().nth(SHOWN));
        say!("    {}{}", common::wrapped(&start, 4), if rest.is_some() { " …" } else { "" });
    }
}

fn found(audit: &Audit, known: &[String]) -> Result<()> {
    let found = audit.find(known)?;
    say!(
        "\nknown errors: {} of {} are among the {} most doubtful of {} records ({:.1}%); AUROC {:.4}; the model \
         contradicts {}",
        found.found,
        found.known,
        found.looked_at,
        found.judged,
        100.0 * found.recall,
        found.auroc,
        found.contradicted
    );
    Ok(())
}

fn relabel(audit: &Audit, names: &[String], path: &Path) -> Result<()> {
    let changes = names.iter().map(|name| audit.change(name)).collect::<Result<Vec<_>, _>>()?;
    let changed = audit.relabel(&changes, path)?;
    say!("{} records have another label in {}", changed.records, path.display());
    if !changed.same_bytes {
        say!("the data is in another format: all records are written as JSON lines");
    }
    for (field, number) in &changed.others {
        say!(
            "note: the field `{field}` of {number} of them still says the old label; field:{field} as --label changes it"
        );
    }
    Ok(())
}
