//! Makes pairs of a better and a worse answer from a model's own samples, for preference tuning.
//!
//!     cargo run --release --example pairs -- --data runs/mine/clean.jsonl --adapter runs/mine/adapter \
//!         --out runs/mine/pairs.jsonl
//!     cargo run --release --example finetune -- --config dpo.toml --data runs/mine/pairs.jsonl

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use common::terminal::{say, show_json};
use foehn::corpus::{Lexicon, OffTarget, Record, read_clean, write_clean};
use foehn::evaluate::{AnswerScorer, Chosen, CommandScorer, Pairs, PairsConfig, Quality, Subject, pairs};
use foehn::files::check_outputs;
use foehn::generate::SamplingConfig;

/// Samples several answers to each question of a file, scores them, and writes the best and the worst of each as a pair
/// that `finetune` with `objective = "dpo"` learns from.
///
/// An answer's score is its mean log-likelihood a token under the base model, less a cost for each fault: it does not
/// end, goes on with a question, repeats three words, is far longer or shorter than the record's own answer, quotes what
/// is not said, is another label, or (with --lexicon) has words of another class. --scorer takes a program of your own.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    model: common::TextModelArgs,
    /// Clean records; the last answer of each is its reference
    #[arg(long)]
    data: PathBuf,
    /// The file to write: .jsonl, .jsonl.gz, .jsonl.zst or .parquet
    #[arg(long)]
    out: PathBuf,
    /// Only the records of this task; may be given several times
    #[arg(long)]
    task: Vec<String>,
    /// The most prompts, at equal distances; by default all
    #[arg(long)]
    prompts: Option<usize>,
    /// The number of answers to sample for each prompt
    #[arg(long, default_value_t = PairsConfig::default().samples)]
    samples: usize,
    /// The better answer of a pair: `best`, the best sample if it has no fault, or else the record's own answer; or
    /// `reference`, always the record's own
    #[arg(long, default_value = "best", value_parser = chosen)]
    chosen: Chosen,
    /// The smallest difference of scores, in nats
    #[arg(long, default_value_t = PairsConfig::default().min_margin)]
    min_margin: f64,
    /// What a fault costs, in nats
    #[arg(long, default_value_t = 2.0)]
    fault_cost: f64,
    /// A JSON file {class: [words]}: descriptions and rewrites should have words of their record's class alone
    #[arg(long)]
    lexicon: Option<PathBuf>,
    /// A command that scores instead: for each record it reads a line {"messages", "reference", "answers"} and writes a
    /// line with a list of numbers, one for each answer and larger for better ones
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["lexicon", "fault_cost"])]
    scorer: Option<String>,
    #[command(flatten)]
    sampling: common::SamplingArgs,
    /// The longest answer, in tokens
    #[arg(long, default_value_t = PairsConfig::default().max_new_tokens)]
    max_new_tokens: usize,
    /// The seed of the samples
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn config(&self) -> Result<PairsConfig> {
        let usual = PairsConfig::default();
        let sampling = self.sampling.given()?.unwrap_or(usual.sampling);
        Ok(PairsConfig {
            samples: self.samples,
            sampling: SamplingConfig { seed: self.seed, ..sampling },
            max_new_tokens: self.max_new_tokens,
            chosen: self.chosen,
            min_margin: self.min_margin,
            ..usual
        })
    }

    fn records(&self) -> Result<Vec<Record>> {
        let mut records = read_clean(&self.data)?;
        let is_asked = |record: &Record| record.text("task").is_some_and(|task| self.task.iter().any(|of| of == task));
        records.retain(|record| self.task.is_empty() || is_asked(record));
        ensure!(!records.is_empty(), "{} has no record of these tasks: {:?}", self.data.display(), self.task);
        let count = self.prompts.unwrap_or(records.len()).min(records.len());
        Ok((0..count).map(|at| records[at * records.len() / count].clone()).collect())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        let inputs: Vec<&PathBuf> = [&arguments.data].into_iter().chain(&arguments.lexicon).collect();
        check_outputs(&inputs, &[&arguments.out])?;
        let (config, records) = (arguments.config()?, arguments.records()?);
        let lexicon = arguments.lexicon.as_deref().map(Lexicon::load).transpose()?;
        let (mut unadapted, model) = (arguments.model.clone(), &arguments.model.model);
        (unadapted.template, unadapted.model.adapter) = (unadapted.template()?, None);
        let mut base = unadapted.load()?;
        let without = base.model.clone();
        if let Some(folder) = &model.adapter {
            base.attach_as(folder, model.allow_mismatch, &mut common::show_loading())?;
        }
        let subject = Subject { model: &base.model, tokenizer: &base.tokenizer, template: &base.template, base: None };
        let mut scorer: Box<dyn AnswerScorer> = match &arguments.scorer {
            Some(command) => Box::new(CommandScorer::new(command)?),
            None => {
                let off_target = lexicon.map(OffTarget::new);
                Box::new(Quality { subject, judge: &without, off_target, fault_cost: arguments.fault_cost })
            }
        };
        let bar = common::progress("sampling", 0);
        let found = pairs(subject, &records, &config, scorer.as_mut(), &mut |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        ensure!(found.pairs > 0, "no pair of {} prompts: their answers are all alike", found.prompts);
        write_clean(&arguments.out, &found.records)?;
        match arguments.json {
            true => show_json(&found, true)?,
            false => show(&found, &arguments.out),
        }
        Ok(())
    })
}

fn show(found: &Pairs, out: &std::path::Path) {
    let Pairs { prompts, answers, pairs, alike, chosen_references, faulty, faults, chosen_longer, .. } = found;
    say!("{prompts} prompts, {answers} answers, {faulty} of them with a fault");
    for (fault, count) in faults {
        say!("  {count:>6}  {fault}");
    }
    say!("{pairs} pairs ({chosen_references} with the record's own answer); {alike} prompts whose answers are alike");
    say!("the chosen answer is the longer one in {:.0} of 100 pairs", 100.0 * chosen_longer);
    say!("saved in {}", out.display());
}

fn chosen(text: &str) -> Result<Chosen, String> {
    match text {
        "best" => Ok(Chosen::Best),
        "reference" => Ok(Chosen::Reference),
        _ => Err("expected `best` or `reference`".to_owned()),
    }
}
