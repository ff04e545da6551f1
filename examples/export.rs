//! Merges an adapter into its base and writes a checkpoint that any toolkit reads.
//!
//!     cargo run --release --example export -- --adapter runs/vakog/adapter --out runs/vakog/merged

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Writes config.json and model.safetensors (f32) of the base with the adapter merged.
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
        let mut network = arguments.model.load_network()?;
        foehn::lora::merge(&mut network.model);
        network.model.save(&arguments.out)?;
        println!("wrote {} (f32 safetensors and config.json)", arguments.out.display());
        Ok(())
    })
}
