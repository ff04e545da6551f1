//! Files in, one clean file and its report out.

mod examine;
mod facts;
mod mark;
mod order;
mod spool;
mod sweep;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::output::Format;
use crate::pipeline::Pipeline;
use crate::read::check_file;
use crate::report::Report;
use examine::Examiner;
use sweep::Sweep;

pub use mark::{is_clean, mark_path};

/// What [`clean_with`] writes, and with what exceptions.
#[derive(Clone, Debug, Default)]
pub struct CleanConfig {
    /// The clean file, by its name chat JSON lines (`.jsonl`, packed `.jsonl.gz` and `.jsonl.zst`) or Parquet (`.parquet`).
    /// Without one nothing is written: what would be rejected is in the report.
    pub out: Option<PathBuf>,
    /// The ids of records that are kept whatever the passes say, as the report names them. All of a name are kept. What
    /// cannot be read cannot be kept.
    pub keep: BTreeSet<String>,
    /// How many threads examine records; as many as the machine runs at once by default. They change no byte.
    pub threads: Option<NonZeroUsize>,
}

/// Cleans the files into one at `out`, and writes the account of it as JSON at `report`.
///
/// The records keep their order; a line holds `id`, `messages`, the metadata in their order, and `group`. Both files
/// appear whole or not at all, none of them may be an input, and the same inputs give the same bytes.
///
/// It is [`clean_with`] and [`Report::save`]; the memory that it takes is described there.
///
/// # Errors
/// Those of [`clean_with`] and of [`Report::save`].
pub fn clean(inputs: &[PathBuf], out: &Path, report: &Path, pipeline: &Pipeline) -> Result<Report> {
    foehn_files::check_outputs(inputs, &[out, report, &mark_path(out)])?;
    let config = CleanConfig { out: Some(out.into()), ..CleanConfig::default() };
    let account = clean_with(inputs, pipeline, &config)?;
    account.save(report)?;
    Ok(account)
}

/// Cleans the files into one, and gives the account of it.
///
/// Beside a clean file stands its mark, a small file that says by which pipeline it was made; [`is_clean`] reads it. A
/// file of no records has none.
///
/// It reads every input once. Records are examined a few hundred at a time by a few threads, and taken in their order.
/// What the passes over single records leave waits in a temporary file, beside the output or in the system's folder
/// for such files, for the passes over the set, which remember a few numbers of each record. Memory holds those, about
/// 40 bytes of every record's place, the rejections, and what is on its way through the threads: for each of them six
/// batches of 256 KiB, or of one longer record.
///
/// # Errors
/// Any error of [`read`](crate::read) and of its iterator, [`Error::Outputs`] where an output is an input or cannot be written,
/// [`Error::OutputFormat`], [`Error::NoTokenCounter`], [`Error::Keep`] and [`Error::Write`]. That nothing is kept is no error here, but one of [`Report::require_kept`].
pub fn clean_with(inputs: &[PathBuf], pipeline: &Pipeline, config: &CleanConfig) -> Result<Report> {
    let format = config.out.as_deref().map(Format::of).transpose()?;
    pipeline.check_ready()?;
    // A name that is mistyped is told before hours of work are done for the others.
    inputs.iter().try_for_each(|input| check_file(input))?;
    if let Some(out) = &config.out {
        foehn_files::check_outputs(inputs, &[out, &mark_path(out)])?;
    }
    let threads = config.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let shown = pipeline.passes().iter().map(|_| false.into()).collect();
    let examiner = Examiner { pipeline, keep: &config.keep, shown };
    let mut sweep = Sweep::new(&examiner, config.out.as_deref())?;
    order::in_order(inputs, threads, |line| examiner.examine(line), |examined| sweep.take(examined))?;
    let cases = sweep.judge()?;
    if let Some(id) = config.keep.iter().find(|id| !sweep.has_seen(id)) {
        return Err(Error::Keep { id: id.clone() });
    }
    let report = sweep.write(inputs, cases, config.out.as_deref().zip(format))?;
    if let Some(out) = &config.out {
        mark::set(out, &report)?;
    }
    Ok(report)
}
