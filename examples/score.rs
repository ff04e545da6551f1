//! Log-probabilities of given tokens: reads rows `{"input_ids": [...]}` from stdin, and prints one JSON list per row.
//!
//! Rows are computed together; their common beginnings are computed once.
//!
//!     echo '{"input_ids": [1, 2, 3]}' | cargo run --release --example score

mod common;

use std::io::{BufRead, stdin};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use common::terminal::{show_json, tell};
use foehn::generate::{Limits, SamplingConfig, continue_ids};
use foehn::kernels::Compute;
use foehn::mistral::{KvCache, Mistral};
use foehn::score::passes;
use foehn::tokens::Sample;
use serde::Deserialize;
use serde_json::json;

/// Reads rows {"input_ids": [...]} from stdin; prints log p(next token) for each token except the first, one JSON list
/// per row.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    model: common::ModelArgs,
    #[command(flatten)]
    compute: common::ComputeArgs,
    /// Collect rows until they have this number of tokens, then compute them together; 0 computes each row at once
    #[arg(long, default_value_t = 4096)]
    tokens_at_once: usize,
    /// Compute each row token by token, as generation does: on a quantised base, inputs are rounded to eight bits
    #[arg(long)]
    decode: bool,
    /// Print the greedy continuation of each row instead, exactly computed: the ids of at most this number of tokens, up to a
    /// stop token, which is the last of them
    #[arg(long, value_name = "TOKENS")]
    greedy: Option<usize>,
    /// Says on stderr how long the computing took, and how much memory the process held at most
    #[arg(long)]
    time: bool,
}

#[derive(Deserialize)]
struct Row {
    input_ids: Vec<u32>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        let mut network = arguments.model.load_network()?;
        let is_packed = !arguments.decode && arguments.greedy.is_none();
        ensure!(
            is_packed || arguments.compute.compute == Compute::F32,
            "--compute: --decode and --greedy round as generation does"
        );
        arguments.compute.set(&mut network.model)?;
        let (limit, vocabulary) = (network.model.config().max_position_embeddings, network.model.config().vocab_size);
        let (mut waiting, mut tokens) = (Vec::new(), 0);
        let (mut seconds, mut rows, mut computed) = (0.0, 0, 0);
        let mut score = |waiting: &mut Vec<Sample>| -> Result<()> {
            let start = Instant::now();
            if let Some(most) = arguments.greedy {
                return greedy(&network.model, waiting, most);
            }
            let (log_probs, size) = match arguments.decode {
                true => decoded(&network.model, waiting)?,
                false => encoded(&network.model, waiting)?,
            };
            seconds += start.elapsed().as_secs_f64();
            rows += waiting.len();
            computed += size;
            waiting.clear();
            for row in log_probs {
                show_json(&row, false)?;
            }
            Ok(())
        };
        for (number, line) in stdin().lock().lines().enumerate() {
            let at = || format!("stdin, line {}", number + 1);
            let Row { input_ids } = serde_json::from_str(&line.with_context(at)?).with_context(at)?;
            ensure!((2..=limit).contains(&input_ids.len()), "{}: {} ids, expected 2 to {limit}", at(), input_ids.len());
            let known = input_ids.iter().all(|&id| (id as usize) < vocabulary);
            ensure!(known, "{}: an id is not below {vocabulary}", at());
            if tokens + input_ids.len() > arguments.tokens_at_once && !waiting.is_empty() {
                score(&mut waiting)?;
                tokens = 0;
            }
            tokens += input_ids.len();
            waiting.push(Sample::from_text(input_ids).with_context(at)?);
        }
        if !waiting.is_empty() {
            score(&mut waiting)?;
        }
        if arguments.time {
            let peak = common::peak_rss_mib();
            let spent = json!({"seconds": seconds, "rows": rows, "computed_tokens": computed, "peak_rss_mib": peak});
            tell!("{spent}");
        }
        Ok(())
    })
}

/// log p(next token) for each token of each row except the first, and the number of tokens that were computed.
fn encoded(model: &Mistral, rows: &[Sample]) -> Result<(Vec<Vec<f32>>, usize)> {
    let (mut found, mut computed) = (Vec::with_capacity(rows.len()), 0);
    for pass in passes(model, &rows.iter().collect::<Vec<_>>(), usize::MAX) {
        let pass = pass?;
        found.extend(pass.log_probs);
        computed += pass.rows;
    }
    Ok((found, computed))
}

/// Prints each row's greedy continuation, and forgets the rows.
fn greedy(model: &Mistral, rows: &mut Vec<Sample>, most: usize) -> Result<()> {
    let prompts: Vec<Vec<u32>> = rows.drain(..).map(|row| row.input_ids().to_vec()).collect();
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let mut cache = KvCache::new(model.config(), prompts.len(), longest + most, &model.device());
    cache.set_exact(true);
    let limits = Limits { max_new_tokens: most, eos_ids: &model.config().eos_token_id };
    let sampling = SamplingConfig::default();
    for found in continue_ids(model, &mut cache, &prompts, limits, &sampling, &mut |_, _| ControlFlow::Continue(()))? {
        show_json(&found.output_ids, false)?;
    }
    Ok(())
}

/// As [`encoded`], token by token with a cache that is not exact.
fn decoded(model: &Mistral, rows: &[Sample]) -> Result<(Vec<Vec<f32>>, usize)> {
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let ids = row.input_ids();
        let mut cache = KvCache::new(model.config(), 1, ids.len(), &model.device());
        cache.set_exact(false);
        let decoder = model.decoder();
        let mut logits = Vec::new();
        let mut log_probs = Vec::with_capacity(ids.len() - 1);
        for pair in ids.windows(2) {
            decoder.next_logits(&pair[..1], &[1], &mut cache, &mut logits);
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
            let log_prob = (f64::from(logits[pair[1] as usize] - largest) - sum.ln()) as f32;
            ensure!(log_prob.is_finite(), "the log-probability of token {} is {log_prob}: broken weights", pair[1]);
            log_probs.push(log_prob);
        }
        found.push(log_probs);
    }
    Ok((found, rows.iter().map(Sample::len).sum()))
}
