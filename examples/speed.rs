//! How fast a model reads and writes: prefill and greedy decoding, as one JSON object, to hold against llama.cpp.
//!
//!     cargo run --release --example speed
//!     cargo run --release --example speed -- --adapter runs/vakog/adapter --batch 8

mod common;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Parser;
use foehn::mistral::{Decoder, KvCache};
use serde_json::json;

/// Reads a prompt of random tokens, and continues the beginning of it greedily, several times over.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    model: common::ModelArgs,
    /// In place of a model: random weights of the shape that this config.json says, in the form of --base
    #[arg(long, value_name = "CONFIG")]
    synthetic: Option<PathBuf>,
    /// Tokens of the prompt that is read
    #[arg(long, default_value_t = 512)]
    prefill: usize,
    /// Tokens that are written after 16 of the prompt
    #[arg(long, default_value_t = 128)]
    decode: usize,
    /// Sequences that are written at once
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// How often each is timed, after once unseen; the medians are printed
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Compute in single precision throughout: slower on a quantised base
    #[arg(long)]
    exact: bool,
}

/// Tokens before the first one that is written.
const BEGINNING: usize = 16;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        let Arguments { prefill, decode, batch, rounds, exact, .. } = arguments;
        ensure!(
            prefill >= BEGINNING && decode > 0 && batch > 0 && rounds > 0,
            "nothing to time; --prefill is 16 at least"
        );
        let model = common::network_or_synthetic(&arguments.model, arguments.synthetic.as_deref())?;
        let decoder = model.decoder();
        let mut id = common::random_ids(model.config().vocab_size);
        let prompt: Vec<u32> = (0..prefill).map(|_| id()).collect();
        let (mut read, mut written) = (Vec::new(), Vec::new());
        for _ in 0..=rounds {
            let mut cache = KvCache::new(model.config(), 1, prefill, &model.device());
            let start = Instant::now();
            next(&decoder, &[&prompt], &mut cache)?;
            read.push(prefill as f64 / start.elapsed().as_secs_f64());
            let mut cache = KvCache::new(model.config(), batch, BEGINNING + decode, &model.device());
            cache.set_exact(exact);
            let mut ids = next(&decoder, &vec![&prompt[..BEGINNING]; batch], &mut cache)?;
            let start = Instant::now();
            for _ in 0..decode {
                let inputs: Vec<&[u32]> = ids.chunks(1).collect();
                ids = next(&decoder, &inputs, &mut cache)?;
            }
            written.push((batch * decode) as f64 / start.elapsed().as_secs_f64());
        }
        println!(
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

/// The most probable next token of each sequence.
fn next(decoder: &Decoder<'_>, inputs: &[&[u32]], cache: &mut KvCache) -> Result<Vec<u32>> {
    let logits: Vec<f32> = decoder.next_logits(inputs, cache).into_data().try_into_vec()?;
    Ok(logits.chunks_exact(decoder.model().config().vocab_size).map(foehn::generate::argmax).collect())
}
