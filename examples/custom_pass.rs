//! A user-defined pass: a type, one method that returns the reason for rejecting a record, and a name for pipeline
//! files.
//!
//!     cargo run --release --example custom_pass

mod common;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use common::terminal::say;
use foehn::corpus::{CleanConfig, Pass, Record, Registry, Stage, clean_with};
use serde::Deserialize;

/// Runs a pipeline with a pass defined in this program over the bundled set, and shows what it rejects.
#[derive(Parser)]
struct Arguments {
    /// The file to examine; nothing is written
    #[arg(default_value = "datasets/vakog/vakog_raw.jsonl")]
    input: std::path::PathBuf,
    /// Validated as in every example; cleaning itself needs no device
    #[arg(long, default_value = "flex")]
    device: String,
}

/// Rejects records whose answer has too many exclamation marks.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Shouting {
    /// The largest number of exclamation marks in a message.
    marks: usize,
}

impl Default for Shouting {
    fn default() -> Self {
        Self { marks: 3 }
    }
}

impl Pass for Shouting {
    fn name(&self) -> &'static str {
        "shouting"
    }

    fn check(&self, record: &Record) -> Option<String> {
        let marks = record.messages.iter().map(|message| message.content.matches('!').count()).max()?;
        (marks > self.marks)
            .then(|| format!("a message with {marks} exclamation marks, expected {} at most", self.marks))
    }
}

/// Without a pipeline file: `Pipeline::default().with(Shouting::default())`.
const PIPELINE: &str = r#"
[[pass]]
name = "mojibake"
[[pass]]
name = "shouting"
marks = 0
[[pass]]
name = "duplicate"
"#;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        foehn::device(&arguments.device)?;
        let registry = Registry::default().with("shouting", "rejects records that shout", |settings| {
            Ok(Stage::Record(Box::new(settings.parse::<Shouting>()?)))
        });
        let pipeline = registry.parse(PIPELINE, Path::new("pipeline.toml"))?;
        let report = clean_with(&[arguments.input], &pipeline, &CleanConfig::default())?;
        say!("{report}");
        for rejection in report.rejections.iter().filter(|rejection| rejection.pass == "shouting").take(3) {
            say!("line {}: {}", rejection.place.line, rejection.reason);
        }
        Ok(())
    })
}
