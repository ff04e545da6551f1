//! Cleaning: reads dataset files, and writes one clean file and a report.

mod bits;
mod examine;
mod facts;
mod mark;
mod order;
mod parts;
mod places;
mod rejects;
mod spool;
mod store;
mod sweep;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::output::{Columns, Format, Output};
use crate::pipeline::Pipeline;
use crate::read::{Encoding, ReadAs, check_file};
use crate::report::CleanReport;
use examine::{Examined, Examiner};
use store::Temporary;
use sweep::{Sources, Sweep};

pub use mark::{is_clean, mark_path};
pub use parts::{JudgeConfig, MapConfig, Mapped, PartFault, judge_parts, map_part, write_part_rejects, write_parts};
pub use rejects::write_rejects;

/// The output and the exceptions of [`clean_with`].
#[derive(Clone, Debug, Default)]
pub struct CleanConfig {
    /// The clean file. Its extension determines the format: chat JSON lines (`.jsonl`, compressed `.jsonl.gz` and
    /// `.jsonl.zst`) or Parquet (`.parquet`). Without it, only the report is made.
    pub out: Option<PathBuf>,
    /// The ids of records that are kept even if a pass would reject them, as they are in the report. All records with
    /// such an id are kept. A record that cannot be read cannot be kept.
    pub keep: BTreeSet<String>,
    /// The number of threads that examine records; by default, as many as the machine runs at once. It does not affect
    /// the result.
    pub threads: Option<NonZeroUsize>,
}

/// Cleans the files into one at `out`, and writes the report as JSON at `report`.
///
/// The records keep their order. A line has `id`, `messages`, the metadata in their order, and `group`. Both files are
/// written atomically, neither may be an input, and the same inputs give the same bytes.
///
/// This function calls [`clean_with`] and [`CleanReport::save`]. For its memory use, see there.
///
/// # Errors
/// Those of [`clean_with`] and of [`CleanReport::save`].
pub fn clean(inputs: &[PathBuf], out: &Path, report: &Path, pipeline: &Pipeline) -> Result<CleanReport> {
    foehn_files::check_outputs(inputs, &[out, report, &mark_path(out)])?;
    let config = CleanConfig { out: Some(out.into()), ..CleanConfig::default() };
    let account = clean_with(inputs, pipeline, &config)?;
    account.save(report)?;
    Ok(account)
}

/// Cleans the files into one, and returns the report.
///
/// The mark of the clean file, a small file beside it, says which pipeline made it; [`is_clean`] reads it. A clean file
/// without records has no mark.
///
/// The inputs are read as the pipeline's [`reading`](Pipeline::reading) says, every one once. Several threads examine records in batches of a few hundred, and the results are processed
/// in the order of the records. Records that the passes over single records keep are stored in a temporary file, beside
/// the output or in the system's temporary folder. They wait there for the passes over the set, which remember a few
/// numbers per record. Memory holds these numbers, about 40 bytes for the place of every record, the rejections, and
/// the batches in progress: for each thread six batches of 256 KiB, or of one longer record.
///
/// # Errors
/// Any error of [`read`](crate::read()) and of its iterator, [`Error::Outputs`](crate::Error::Outputs) if an output is an
/// input or cannot be written, [`Error::OutputFormat`](crate::Error::OutputFormat),
/// [`Error::NoTokenCounter`](crate::Error::NoTokenCounter), [`Error::Keep`](crate::Error::Keep) and
/// [`Error::Write`](crate::Error::Write). If nothing is kept, this function succeeds; [`CleanReport::require_kept`] returns
/// an error.
pub fn clean_with(inputs: &[PathBuf], pipeline: &Pipeline, config: &CleanConfig) -> Result<CleanReport> {
    let format = config.out.as_deref().map(Format::of).transpose()?;
    pipeline.check_ready()?;
    // All names are checked first, so that a mistyped name does not cost hours of work.
    inputs.iter().try_for_each(|input| check_file(input))?;
    if let Some(out) = &config.out {
        foehn_files::check_outputs(inputs, &[out, &mark_path(out)])?;
    }
    let examiner = Examiner::new(pipeline, &config.keep);
    let mut sweep = Sweep::new(&examiner);
    let mut store = Temporary::new(config.out.as_deref(), pipeline.set_passes().len())?;
    let take = |Examined { entry, stored }: Examined| {
        sweep.take(entry);
        stored.map_or(Ok(()), |stored| store.push(stored))
    };
    let read_as = read(inputs, &examiner, config.threads, take)?;
    let cases = sweep.judge(&mut store)?;
    let removed = sweep::removed(&cases);
    let sources = Sources { inputs: inputs.iter().map(|input| input.display().to_string()).collect(), read_as };
    let out = config.out.as_deref().zip(format);
    let is_table = out.is_some_and(|(_, format)| format == Format::Parquet);
    let columns = if is_table { sweep::columns(&mut store, cases.len(), &removed)? } else { Columns::default() };
    let output = out.map(|(path, format)| Output::new(path, format, columns)).transpose()?;
    let report = sweep.settle(&mut store, cases, &removed, sources, output)?;
    if let Some(out) = &config.out {
        mark::set(out, &report.pipeline, report.kept)?;
    }
    Ok(report)
}

/// Examines the records of the files on several threads, and passes them on in their order. Returns how the unusual
/// files were read.
fn read(
    inputs: &[PathBuf],
    examiner: &Examiner<'_>,
    threads: Option<NonZeroUsize>,
    take: impl FnMut(Examined) -> Result<()>,
) -> Result<Vec<ReadAs>> {
    let threads = threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let reading = examiner.pipeline.reading();
    let mut read_as = order::in_order(inputs, reading, threads, |line| examiner.examine(line), take)?;
    read_as.retain(|file| file.delimiter.is_some() || file.encoding != Encoding::UTF_8);
    Ok(read_as)
}
