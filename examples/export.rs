//! Merges an adapter into its base and writes a checkpoint that any toolkit reads.
//!
//!     cargo run --release --example export -- --adapter runs/vakog/adapter --out runs/vakog/merged

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

/// Writes model.safetensors (f32) and config.json of the base with the adapter merged, and its tokenizer and chat template.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    model: common::ModelArgs,
    /// The folder to write
    #[arg(long)]
    out: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        let mut base = arguments.model.load()?;
        foehn::lora::merge(&mut base.model);
        base.model.save(&arguments.out)?;
        let out = arguments.out.display();
        let written = base.tokenizer.save(&base.template, &arguments.out);
        written.with_context(|| format!("{out} holds the merged model, but not its tokenizer and template"))?;
        println!("wrote {out} (f32 safetensors, config.json, tokenizer and chat template)");
        Ok(())
    })
}
