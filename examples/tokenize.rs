//! Shows conversations as the model gets them, with the trained tokens marked.
//!
//!     cargo run --release --example tokenize -- --data datasets/vakog/vakog_clean.jsonl --limit 2

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use common::terminal::show_json;
use foehn::corpus::read_clean;
use foehn::tokens::{Sample, TemplateChoice, Tokenizer};
use serde_json::json;

/// Renders conversations with the model's chat template and shows their tokens; trained ones are marked.
#[derive(Parser)]
struct Arguments {
    /// A folder, a .gguf file, a Hugging Face repository (org/name) or a short name
    #[arg(long, default_value = "smollm2-135m-instruct")]
    model: String,
    /// Another chat template than the model's own: mistral-v1, -v2, -v3, -v7, -v11, -v13, chatml or a .jinja file
    #[arg(long)]
    template: Option<TemplateChoice>,
    /// A dataset file
    #[arg(long, default_value = "datasets/vakog/vakog_clean.jsonl")]
    data: PathBuf,
    /// The number of records to show; 0 shows all
    #[arg(long, default_value_t = 3)]
    limit: usize,
    /// Print one JSON object per record: input_ids, loss_mask, text
    #[arg(long)]
    json: bool,
    /// Validated as in every example; tokenising itself needs no device
    #[arg(long, default_value = "flex")]
    device: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        foehn::device(&arguments.device)?;
        let (tokenizer, template) =
            foehn::load_text(&arguments.model, arguments.template.as_ref(), &mut common::show_fetch())?;
        let records = read_clean(&arguments.data)?;
        let limit = if arguments.limit == 0 { records.len() } else { arguments.limit };
        for (number, record) in records.iter().take(limit).enumerate() {
            let name = record.id.clone().unwrap_or_else(|| (number + 1).to_string());
            let sample = template
                .sample(&tokenizer, record)
                .with_context(|| format!("{}, record {name}", arguments.data.display()))?;
            if arguments.json {
                show_json(&as_json(&sample, &tokenizer), false)?;
            } else {
                common::print_marked(&name, record, &sample, &tokenizer);
            }
        }
        Ok(())
    })
}

fn as_json(sample: &Sample, tokenizer: &Tokenizer) -> serde_json::Value {
    let mask: Vec<u8> = sample.loss_mask().iter().map(|&trained| u8::from(trained)).collect();
    let text = tokenizer.decode(sample.input_ids(), false);
    json!({"input_ids": sample.input_ids(), "loss_mask": mask, "text": text})
}
