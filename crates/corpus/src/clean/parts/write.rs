//! The third stage: the clean records of parts that have been judged.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::fault::PartFault;
use super::manifest::{Part, RECORDS};
use super::verdict::Verdict;
use crate::clean::rejects::{Found, write_file};
use crate::clean::spool::Spooled;
use crate::clean::{mark, mark_path};
use crate::error::Result;
use crate::file::write_error;
use crate::output::{Columns, Format, Output};
use crate::pipeline::Pipeline;

/// Writes the clean records of one or several parts into one file, and returns their number: the last of three stages, after
/// [`judge_parts`](crate::judge_parts).
///
/// A part's file does not depend on whether others are written. The `.jsonl` files of all parts, one after the other in
/// order, are the file that [`clean`](crate::clean()) writes, byte for byte; so is the one file of all parts, in every
/// format. The tables (`.parquet`) of single parts have the same columns. The file gets a mark, which
/// [`is_clean`](crate::is_clean) reads.
///
/// Only the parts are read: each is self-contained once it has been judged. Memory holds one record at a time, or one
/// group of rows of a table.
///
/// # Errors
/// [`Error::OutputFormat`](crate::Error::OutputFormat), [`Error::Outputs`](crate::Error::Outputs),
/// [`Error::Write`](crate::Error::Write), and [`Error::Part`](crate::Error::Part) for a part that is missing or damaged,
/// that has no verdict or a stale one, or that does not follow the part before it.
///
/// # Examples
/// As for [`map_part`](crate::map_part).
pub fn write_parts(parts: &[PathBuf], out: &Path) -> Result<u64> {
    let format = Format::of(out)?;
    let parts = open(parts)?;
    let files: Vec<PathBuf> = parts.iter().map(|(part, _)| part.folder.join(RECORDS)).collect();
    foehn_files::check_outputs(&files, &[out, &mark_path(out)])?;
    let mut columns = Columns::default();
    if let Some((_, verdict)) = parts.first() {
        columns.merge(&verdict.columns);
    }
    let mut output = Output::new(out, format, columns)?;
    for (part, verdict) in &parts {
        copy(part, verdict, &mut output)?;
    }
    output.finish()?;
    let kept = parts.iter().map(|(_, verdict)| verdict.kept).sum();
    let pipeline = parts.first().map_or("", |(part, _)| &part.manifest.pipeline);
    mark::set(out, pipeline, kept)?;
    Ok(kept)
}

/// Writes the rejected records of one or several parts as they were read, as [`write_rejects`](crate::write_rejects) does.
///
/// The files of the parts are read again, as the pipeline's [`reading`](Pipeline::reading) says, so they have to be there
/// under the names with which the parts were mapped. The files of all parts, one after the other in order, are that of
/// `write_rejects`.
///
/// # Errors
/// Those of [`read_with`](crate::read_with), [`Error::Outputs`](crate::Error::Outputs),
/// [`Error::Write`](crate::Error::Write), and [`Error::Part`](crate::Error::Part): as [`write_parts`], and for a file that has changed since it was mapped.
pub fn write_part_rejects(parts: &[PathBuf], pipeline: &Pipeline, out: &Path) -> Result<()> {
    let (parts, hash) = (open(parts)?, pipeline.hash());
    let inputs = |part: &Part| part.manifest.inputs.iter().map(|input| PathBuf::from(&input.path)).collect::<Vec<_>>();
    let all: Vec<PathBuf> = parts.iter().flat_map(|(part, _)| inputs(part)).collect();
    foehn_files::check_outputs(&all, &[out])?;
    for (part, _) in &parts {
        part.check(&hash, &part.manifest.keep)?;
        for input in &part.manifest.inputs {
            input.check(part)?;
        }
    }
    let failed = |source| write_error(out, source);
    let mut draft = foehn_files::Draft::new(out).map_err(failed)?;
    for (part, verdict) in &parts {
        let rejections = verdict.rejections(part)?;
        let found = rejections.iter().map(|rejection| Found {
            file: rejection.file.clone(),
            line: rejection.line,
            pass: &rejection.pass,
            reason: &rejection.reason,
        });
        let mut left = found.peekable();
        for input in inputs(part) {
            write_file(&input, pipeline.reading(), &mut left, |line| draft.write_all(line).map_err(failed))?;
        }
    }
    draft.finish().map_err(failed)
}

/// Opens parts that were judged together and follow each other.
fn open(folders: &[PathBuf]) -> Result<Vec<(Part, Verdict)>> {
    let mut parts: Vec<(Part, Verdict)> = Vec::new();
    for folder in folders {
        let part = Part::open(folder)?;
        let verdict = Verdict::open(&part)?;
        if let Some((_, before)) = parts.last() {
            let (found, expected, of) = (verdict.number, before.number + 1, before.of);
            if verdict.judgement != before.judgement {
                return Err(part.error(PartFault::Apart));
            }
            if found != expected {
                return Err(part.error(PartFault::Order { found, expected, of }));
            }
        }
        parts.push((part, verdict));
    }
    Ok(parts)
}

/// Writes the records of a part that are kept.
fn copy(part: &Part, verdict: &Verdict, output: &mut Output<'_>) -> Result<()> {
    let mut removed = verdict.removed(part)?;
    let mut file = part.file(RECORDS)?;
    let (mut spooled, mut kept) = (Spooled::default(), 0);
    for index in 0..part.manifest.stored {
        spooled.read(&mut file).map_err(|source| part.unreadable(RECORDS, source))?;
        if removed.has(index)? {
            continue;
        }
        kept += 1;
        let record = output.is_table().then(|| spooled.record()).transpose()?;
        output.write(&spooled.json, record)?;
    }
    part.close(RECORDS, file)?;
    removed.close()?;
    if kept == verdict.kept { Ok(()) } else { Err(part.damaged(super::manifest::VERDICT)) }
}
