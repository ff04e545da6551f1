//! Merges an adapter into its base and writes a checkpoint that other toolkits can read.
//!
//!     cargo run --release --example export -- --adapter runs/vakog/adapter --out runs/vakog/merged

mod common;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use common::terminal::say;
use foehn::files::{DraftFolder, folder_of, is_empty_or_absent, is_same};

/// Writes model.safetensors (f32) and config.json of the base with the merged adapter, and its tokenizer and chat
/// template.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    model: common::TextModelArgs,
    /// The folder to write; it must be empty or not exist
    #[arg(long)]
    out: PathBuf,
    /// Write into a folder with other files; an index of shards in it is removed
    #[arg(long)]
    overwrite: bool,
}

impl Arguments {
    /// Refuses to overwrite the model or the adapter, and to write into a folder with other files.
    fn check_out(&self) -> Result<()> {
        let out = self.out.as_path();
        let inputs = [Some(Path::new(&self.model.model.model)), self.model.model.adapter.as_deref()];
        for input in inputs.into_iter().flatten().filter(|input| input.exists()) {
            let is_inside = input.is_file() && is_same(folder_of(input), out);
            ensure!(
                !is_same(input, out) && !is_inside,
                "{} is read and cannot be written to: choose another folder",
                input.display()
            );
        }
        let is_free = is_empty_or_absent(out).with_context(|| format!("cannot write into {}", out.display()))?;
        ensure!(is_free || self.overwrite, "{} is not empty: choose another folder, or say --overwrite", out.display());
        Ok(())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        arguments.check_out()?;
        let mut base = arguments.model.load()?;
        foehn::lora::merge(&mut base.model);
        let out = arguments.out.display();
        let failed = || format!("cannot write into {out}");
        // A new folder appears as a whole. In an existing folder, each file is replaced atomically.
        let draft =
            if arguments.out.exists() { None } else { Some(DraftFolder::new(&arguments.out).with_context(failed)?) };
        let folder = draft.as_ref().map_or(arguments.out.as_path(), DraftFolder::path);
        base.model.save(folder)?;
        base.tokenizer.save(&base.template, folder)?;
        draft.map_or(Ok(()), DraftFolder::finish).with_context(failed)?;
        say!("wrote {out} (f32 safetensors, config.json, tokenizer and chat template)");
        Ok(())
    })
}
