//! Measures the speed of prefill and greedy decoding, as one JSON object, for comparison with llama.cpp.
//!
//!     cargo run --release --example speed
//!     cargo run --release --example speed -- --adapter runs/vakog/adapter --batch 8
//!     cargo run --release --example speed -- --adapters 8 --batch 8

mod common;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Parser;
use common::terminal::say;
use foehn::generate::argmax;
use foehn::lora::{Adapter, LoraConfig, TargetModules, attach};
use foehn::mistral::KvCache;
use serde_json::json;

/// Reads a prompt of random tokens, then continues its beginning greedily; repeats this several times.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    model: common::ModelArgs,
    #[command(flatten)]
    compute: common::ComputeArgs,
    /// Instead of a model: random weights in the shape of this config.json, in the format of --base
    #[arg(long, value_name = "CONFIG")]
    synthetic: Option<PathBuf>,
    /// The number of tokens of the prompt
    #[arg(long, default_value_t = 512)]
    prefill: usize,
    /// The number of tokens generated after the first 16 of the prompt
    #[arg(long, default_value_t = 128)]
    decode: usize,
    /// The number of sequences generated at once
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Give each sequence a fresh adapter of its own, of this rank, on all projections
    #[arg(long, value_name = "R", conflicts_with = "adapter")]
    adapters: Option<usize>,
    /// The number of timed repetitions, after one that is not timed; the medians are printed
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Compute in single precision throughout: slower on a quantised base
    #[arg(long)]
    exact: bool,
}

/// The number of tokens before the first generated one.
const BEGINNING: usize = 16;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        let Arguments { prefill, decode, batch, rounds, exact, adapters, .. } = arguments;
        ensure!(
            prefill >= BEGINNING && decode > 0 && batch > 0 && rounds > 0,
            "nothing to time; --prefill is 16 at least"
        );
        let mut model = common::network_or_synthetic(&arguments.model, arguments.synthetic.as_deref())?;
        arguments.compute.set(&mut model)?;
        let mut decoder = model.decoder();
        let mut owners = vec![0; batch];
        if let Some(r) = adapters {
            let config = LoraConfig { r, target_modules: TargetModules::AllLinear, ..LoraConfig::default() };
            for (seed, owner) in owners.iter_mut().enumerate() {
                let mut adapted = model.clone();
                attach(&mut adapted, &Adapter::new(&config, &model, seed as u64)?)?;
                *owner = decoder.add(adapted).context("a clone of the model has its weights")?;
            }
        }
        let mut id = common::random_ids(model.config().vocab_size);
        let prompt: Vec<u32> = (0..prefill).map(|_| id()).collect();
        let (mut read, mut written, mut logits) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..=rounds {
            let mut cache = KvCache::new(model.config(), 1, prefill, &model.device());
            let start = Instant::now();
            decoder.prompt_logits(&prompt, &[prefill], &mut cache, &mut logits);
            read.push(prefill as f64 / start.elapsed().as_secs_f64());
            let mut cache = KvCache::new(model.config(), batch, BEGINNING + decode, &model.device());
            cache.set_exact(exact);
            owners.iter().enumerate().for_each(|(sequence, &owner)| cache.begin(sequence, owner));
            let beginnings = prompt[..BEGINNING].repeat(batch);
            decoder.prompt_logits(&beginnings, &vec![BEGINNING; batch], &mut cache, &mut logits);
            let (mut ids, one) = (vec![0; batch], vec![1; batch]);
            let start = Instant::now();
            for _ in 0..decode {
                let vocab = model.config().vocab_size;
                ids.iter_mut().zip(logits.chunks_exact(vocab)).for_each(|(id, logits)| *id = argmax(logits));
                decoder.next_logits(&ids, &one, &mut cache, &mut logits);
            }
            written.push((batch * decode) as f64 / start.elapsed().as_secs_f64());
        }
        say!(
            "{}",
            json!({
                "prefill_tok_s": common::median(read[1..].iter().copied()),
                "decode_tok_s": common::median(written[1..].iter().copied()),
                "peak_rss_mib": common::peak_rss_mib(),
            })
        );
        Ok(())
    })
}
