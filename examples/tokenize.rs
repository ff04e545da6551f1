//! Shows conversations and texts as the model gets them, with the trained tokens marked.
//!
//!     cargo run --release --example tokenize -- --data datasets/vakog/vakog_clean.jsonl --limit 2

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use common::terminal::{show_json, tell};
use foehn::corpus::read_clean;
use foehn::finetune::{Fate, Fitting, Rendered, Renderer, TooLong};
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
    /// The most tokens of a sample, as a recipe's max_length; 0 means no limit
    #[arg(long, default_value_t = 0)]
    max_length: usize,
    /// What is done with longer conversations, as a recipe's too_long: error, drop or truncate
    #[arg(long, default_value = "error", value_parser = too_long)]
    too_long: TooLong,
    /// Print one JSON object per sample: input_ids, loss_mask, text
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
        let records = read_clean(&arguments.data)?;
        // Plain text needs no template.
        let is_text = records.iter().all(|record| record.plain_text().is_some());
        let load = if is_text { foehn::load_text_for_text } else { foehn::load_text };
        let (tokenizer, template) = load(&arguments.model, arguments.template.as_ref(), &mut common::show_fetch())?;
        let limit = if arguments.max_length == 0 { usize::MAX } else { arguments.max_length };
        let too_long = arguments.too_long;
        let renderer = Renderer { template: &template, tokenizer: &tokenizer, limit, too_long };
        let mut totals = Totals { fitting: Fitting { limit, ..Fitting::default() }, ..Totals::default() };
        let shown = if arguments.limit == 0 { records.len() } else { arguments.limit };
        for (number, record) in (1..).zip(&records).take(shown) {
            let name = record.id.clone().unwrap_or_else(|| number.to_string());
            let at = || format!("{}, record {name}", arguments.data.display());
            let rendered = renderer.record(record).with_context(at)?;
            if let (Fate::TooLong(length), TooLong::Error) = (rendered.fate, too_long) {
                bail!("{} has {length} tokens, more than {limit}: --too-long drop or --too-long truncate", at());
            }
            totals.add(&name, &rendered);
            for sample in &rendered.samples {
                if arguments.json {
                    show_json(&as_json(sample, &tokenizer), false)?;
                } else {
                    common::print_marked(&name, record, sample, &tokenizer);
                }
            }
        }
        tell!("{totals}");
        Ok(())
    })
}

/// What is shown, in all.
#[derive(Default)]
struct Totals {
    records: usize,
    samples: usize,
    tokens: usize,
    trained: usize,
    longest: usize,
    fitting: Fitting,
}

impl Totals {
    fn add(&mut self, name: &str, rendered: &Rendered) {
        self.records += 1;
        self.fitting.add(name, rendered);
        for sample in &rendered.samples {
            self.samples += 1;
            self.tokens += sample.len();
            self.trained += sample.supervised();
            self.longest = self.longest.max(sample.len());
        }
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { records, samples, tokens, trained, longest, fitting } = self;
        write!(f, "{records} records: {samples} samples, {tokens} tokens, {trained} trained, the longest {longest}")?;
        if fitting.is_whole() { Ok(()) } else { write!(f, "\n{fitting}") }
    }
}

fn too_long(text: &str) -> Result<TooLong, String> {
    let known = [("error", TooLong::Error), ("drop", TooLong::Drop), ("truncate", TooLong::Truncate)];
    let found = known.into_iter().find(|(name, _)| *name == text).map(|(_, found)| found);
    found.ok_or_else(|| format!("`{text}` is none of error, drop and truncate"))
}

fn as_json(sample: &Sample, tokenizer: &Tokenizer) -> serde_json::Value {
    let mask: Vec<u8> = sample.loss_mask().iter().map(|&trained| u8::from(trained)).collect();
    let text = tokenizer.decode(sample.input_ids(), false);
    json!({"input_ids": sample.input_ids(), "loss_mask": mask, "text": text})
}
