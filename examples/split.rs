//! Splits a clean file into a training and a validation file, and proves that nothing leaks from one into the other.
//!
//!     cargo run --release --example split -- datasets/vakog/vakog_clean.jsonl --training train.jsonl --validation valid.jsonl

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;
use clap::Parser;
use common::terminal::{say, show_json};
use foehn::corpus::{NearDuplicates, read_clean, split_proven, write_clean};
use foehn::files::check_outputs;

/// Keeps together what has one group or one prompt, or is nearly the same, and holds the share of each label on both sides.
#[derive(Parser)]
struct Arguments {
    /// The clean file
    input: PathBuf,
    /// The file of the training records to write
    #[arg(long)]
    training: PathBuf,
    /// The file of the validation records to write
    #[arg(long)]
    validation: PathBuf,
    /// The share of the validation records
    #[arg(long, default_value_t = 0.1)]
    fraction: f64,
    /// The metadata key whose labels are held in balance
    #[arg(long, default_value = "modality")]
    label: String,
    /// The least Jaccard index of two records that have to stay together
    #[arg(long, default_value_t = 0.7)]
    threshold: f64,
    /// Another seed is another split
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Prints the proof as JSON
    #[arg(long)]
    json: bool,
    /// Checked as in every example; splitting needs no device
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
        let split = split_proven(read_clean(input)?, *fraction, *seed, label, &near)?;
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
