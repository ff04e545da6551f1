//! Log-probabilities of given tokens: rows `{"input_ids": [...]}` on stdin, one JSON list a row on stdout.
//!
//!     echo '{"input_ids": [1, 2, 3]}' | cargo run --release --example score

mod common;

use std::io::{BufRead, stdin};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Parser;
use foehn::kernels::{Targets, token_log_probs};
use foehn::mistral::Packed;
use serde::Deserialize;

/// Reads rows {"input_ids": [...]} from stdin; prints log p(next token) for each token but the first, a JSON list a row.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    model: common::ModelArgs,
}

#[derive(Deserialize)]
struct Row {
    input_ids: Vec<u32>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        let network = arguments.model.load_network()?;
        let config = network.model.config();
        for (number, line) in stdin().lock().lines().enumerate() {
            let at = || format!("stdin, line {}", number + 1);
            let Row { input_ids } = serde_json::from_str(&line.with_context(at)?).with_context(at)?;
            let (rows, limit) = (input_ids.len() as u32, config.max_position_embeddings);
            ensure!((2..=limit).contains(&input_ids.len()), "{}: {rows} ids, expected 2 to {limit}", at());
            let vocabulary = config.vocab_size as u32;
            ensure!(input_ids.iter().all(|&id| id < vocabulary), "{}: an id is not below {vocabulary}", at());
            let positions: Vec<u32> = (0..rows).collect();
            let ends = vec![rows; input_ids.len()];
            let packed = Packed { input_ids: &input_ids, position_ids: &positions, subtree_ends: &ends };
            let targets = Targets::new((1..rows).map(|row| (row - 1, input_ids[row as usize], 1.0)));
            let log_probs = token_log_probs(network.model.forward(packed), network.model.head(), &targets);
            println!("{}", serde_json::to_string(&log_probs)?);
        }
        Ok(())
    })
}
