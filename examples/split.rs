//! Splits a clean file into a training and a validation file, and proves that they share no group, prompt or
//! near-duplicate.
//!
//!     cargo run --release --example split -- datasets/vakog/vakog_clean.jsonl --label modality \
//!         --training train.jsonl --validation valid.jsonl

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;
use clap::Parser;
use common::terminal::{say, show_json};
use foehn::corpus::{NearDuplicates, read_clean, split_proven, write_clean};
use foehn::files::check_outputs;

/// Keeps records with the same group or prompt, and near-duplicates, on one side; the share of each label is the same
/// on both.
#[derive(Parser)]
struct Arguments {
    /// The clean file
    input: PathBuf,
    /// The file to write the training records to
    #[arg(long)]
    training: PathBuf,
    /// The file to write the validation records to
    #[arg(long)]
    validation: PathBuf,
    /// The share of the validation records
    #[arg(long, default_value_t = 0.1)]
    fraction: f64,
    /// The metadata key whose labels are balanced [default: label]
    #[arg(long)]
    label: Option<String>,
    /// The smallest Jaccard index of two records that must stay together
    #[arg(long, default_value_t = 0.7)]
    threshold: f64,
    /// The seed of the split
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print the proof as JSON
    #[arg(long)]
    json: bool,
    /// Validated as in every example; splitting needs no device
    #[arg(long, default_value = "flex")]
    device: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        foehn::device(&arguments.device)?;
        let Arguments { input, training, validation, fraction, label, threshold, seed, .. } = &arguments;
        check_outputs(&[input], &[training, validation])?;
        ensure!((0.0..=1.0).contains(threshold), "--threshold is {threshold}, expected a Jaccard index from 0 to 1");
        let near = NearDuplicates { threshold: *threshold, ..NearDuplicates::default() };
        let records = read_clean(input)?;
        if let Some(key) = label {
            let has_it = records.iter().any(|record| record.text(key).is_some());
            ensure!(has_it, "no record of {} has a text `{key}`, the key of --label", input.display());
        }
        let split = split_proven(records, *fraction, *seed, label.as_deref().unwrap_or("label"), &near)?;
        write_clean(training, &split.training)?;
        write_clean(validation, &split.validation)?;
        let proof = &split.report;
        if arguments.json {
            show_json(proof, true)?;
            return Ok(());
        }
        for (path, records, groups) in
            [(training, proof.training, proof.training_groups), (validation, proof.validation, proof.validation_groups)]
        {
            say!("{}: {records} records in {groups} groups", path.display());
        }
        let [groups, prompts, near] = [&proof.groups, &proof.prompts, &proof.near_duplicates].map(Vec::len);
        say!("on both sides: {groups} groups, {prompts} prompts, {near} near-duplicates at {threshold} or more");
        say!("the nearest of {} pairs compared: {:.3}", proof.compared, proof.nearest);
        Ok(())
    })
}
