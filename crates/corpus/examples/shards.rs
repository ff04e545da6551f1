//! The three stages of a cleaning as a program for tests and engines, and the whole of it for comparison.
//!
//!     cargo run --release -p foehn-corpus --example shards -- clean PIPELINE OUT REPORT FILES…
//!     … map PIPELINE PART FILES…
//!     … judge PIPELINE REPORT PARTS…
//!     … write OUT PARTS…
//!
//! PIPELINE is a pipeline file, or `-` for the default. The root package's example `clean` has the same stages with all
//! settings.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use foehn_corpus::{
    CleanConfig, JudgeConfig, MapConfig, Pipeline, Result, clean_with, judge_parts, map_part, write_parts,
};

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["clean", list, out, report, files @ ..] => pipeline(list).and_then(|pipeline| {
            let config = CleanConfig { out: Some(out.into()), threads: threads(), ..CleanConfig::default() };
            clean_with(&paths(files), &pipeline, &config)?.save(report.as_ref())
        }),
        ["map", list, part, files @ ..] => pipeline(list).and_then(|pipeline| {
            let config = MapConfig { threads: threads(), ..MapConfig::default() };
            map_part(&paths(files), part.as_ref(), &pipeline, &config).map(drop)
        }),
        ["judge", list, report, parts @ ..] => pipeline(list)
            .and_then(|pipeline| judge_parts(&paths(parts), &pipeline, &JudgeConfig::default())?.save(report.as_ref())),
        ["write", out, parts @ ..] => write_parts(&paths(parts), out.as_ref()).map(drop),
        _ => {
            eprintln!("usage: shards clean|map|judge|write …");
            return std::process::ExitCode::from(2);
        }
    };
    let Err(error) = done else { return std::process::ExitCode::SUCCESS };
    let reasons = std::iter::successors(std::error::Error::source(&error), |error| error.source());
    let reasons: Vec<String> = reasons.map(|reason| format!(": {reason}")).collect();
    eprintln!("{}", foehn_files::printable_text(format!("{error}{}", reasons.concat())));
    std::process::ExitCode::FAILURE
}

fn pipeline(list: &str) -> Result<Pipeline> {
    if list == "-" { Ok(Pipeline::default()) } else { Pipeline::load(Path::new(list)) }
}

fn paths(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}

/// The variable `THREADS`, if it is set.
fn threads() -> Option<NonZeroUsize> {
    std::env::var("THREADS").ok()?.parse().ok()
}
