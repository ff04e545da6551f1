//! The first stage: the passes over single records, and the sketches for the passes over the set.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use foehn_files::DraftFolder;

use super::columns::ColumnsWriter;
use super::entry;
use super::fault::PartFault;
use super::manifest::{self, MANIFEST, Manifest, Source};
use super::sealed::{Seal, Sealing, write_stamped};
use crate::clean::examine::{Entry, Examined, Examiner, Fate, Stored};
use crate::clean::spool::Spooled;
use crate::error::{Error, Result};
use crate::file::write_error;
use crate::pipeline::Pipeline;
use crate::read::check_file;
use crate::report::Needed;

/// The exceptions of [`map_part`].
#[derive(Clone, Debug, Default)]
pub struct MapConfig {
    /// The ids of records that are kept even if a pass would reject them, as in
    /// [`CleanConfig::keep`](crate::CleanConfig::keep). All parts have to be mapped and judged with the same ids.
    pub keep: BTreeSet<String>,
    /// The number of threads that examine records; by default, as many as the machine runs at once. It does not affect
    /// the result.
    pub threads: Option<NonZeroUsize>,
}

/// The number of records of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mapped {
    /// The number of records read.
    pub read: u64,
    /// The number of records that the passes over single records keep.
    pub left: u64,
}

/// Runs the passes over single records on some of the files of a cleaning, and writes the folder `part`: the first of
/// three stages that give together what [`clean`](crate::clean()) gives, each file to file.
///
/// The folder has what the passes over the set and the report need of each record, the clean form of the records that are
/// left, and a manifest with the hashes of the files, of the pipeline and of the part itself. It depends on nothing
/// outside, so it can be moved or copied. It appears whole or not at all, the same files give the same bytes, and an
/// earlier part of this name is replaced. A list of no files makes a part without records.
///
/// Memory holds the batches in progress, as in [`clean_with`](crate::clean_with), and a few bytes for every kind of reason.
///
/// # Errors
/// Any error of [`read`](crate::read()) and of its iterator, [`Error::NoTokenCounter`], [`Error::Write`], and
/// [`Error::Part`] if the folder holds other files than those of a part.
///
/// # Examples
/// ```
/// use foehn_corpus::{JudgeConfig, MapConfig, Pipeline, clean, judge_parts, map_part, write_parts};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let path = |name: &str| folder.path().join(name);
/// std::fs::write(path("a.jsonl"), "{\"prompt\": \"Who rang?\", \"completion\": \"The neighbour rang.\"}\n")?;
/// std::fs::write(path("b.jsonl"), "{\"prompt\": \"Who rang?\", \"completion\": \"The neighbour rang!\"}\n")?;
/// let (pipeline, files) = (Pipeline::default(), [path("a.jsonl"), path("b.jsonl")]);
///
/// // On any machines, in any order:
/// map_part(&files[..1], &path("part-a"), &pipeline, &MapConfig::default())?;
/// map_part(&files[1..], &path("part-b"), &pipeline, &MapConfig::default())?;
/// // On one machine, once:
/// let parts = [path("part-a"), path("part-b")];
/// let report = judge_parts(&parts, &pipeline, &JudgeConfig::default())?;
/// // On any machines again, or all parts into one file:
/// write_parts(&parts, &path("clean.jsonl"))?;
///
/// assert_eq!(report, clean(&files, &path("whole.jsonl"), &path("report.json"), &pipeline)?);
/// assert_eq!(std::fs::read(path("clean.jsonl"))?, std::fs::read(path("whole.jsonl"))?);
/// # Ok(())
/// # }
/// ```
pub fn map_part(inputs: &[PathBuf], part: &Path, pipeline: &Pipeline, config: &MapConfig) -> Result<Mapped> {
    pipeline.check_ready()?;
    inputs.iter().try_for_each(|input| check_file(input))?;
    check_place(part)?;
    let source = |input: &PathBuf| {
        let seal = Seal::of(input).map_err(|source| Error::Open { path: input.clone(), source })?;
        Ok(Source { path: input.display().to_string(), seal })
    };
    let mut manifest = Manifest::new(pipeline.hash(), &config.keep);
    manifest.inputs = inputs.iter().map(source).collect::<Result<_>>()?;
    let draft = DraftFolder::new(part).map_err(|source| write_error(part, source))?;
    let examiner = Examiner { with_columns: true, ..Examiner::new(pipeline, &config.keep) };
    let mut writer = Writer::new(draft.path(), inputs, &examiner)?;
    manifest.read_as = crate::clean::read(inputs, &examiner, config.threads, |examined| writer.push(examined))?;
    (manifest.read, manifest.stored) = (writer.read, writer.stored);
    manifest.files = writer.finish()?;
    write_stamped(&draft.path().join(MANIFEST), &manifest)?;
    draft.finish().map_err(|source| write_error(part, source))?;
    Ok(Mapped { read: manifest.read, left: manifest.stored })
}

/// Refuses to replace a folder that has other files than a part has.
fn check_place(part: &Path) -> Result<()> {
    let fault = |entry: String| Error::Part { path: part.to_owned(), source: PartFault::Taken { entry } };
    let entries = match std::fs::read_dir(part) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|source| write_error(part, source))?,
    };
    for entry in entries {
        let name = entry.map_err(|source| write_error(part, source))?.file_name().to_string_lossy().into_owned();
        let is_draft = name.starts_with(".foehn-") && name.ends_with(".partial");
        if !manifest::is_name(&name) && !is_draft {
            return Err(fault(name));
        }
    }
    Ok(())
}

/// The files of a part while they are written.
struct Writer<'a> {
    examiner: &'a Examiner<'a>,
    inputs: &'a [PathBuf],
    /// The index of the file that is being read.
    file: usize,
    entries: Sealing,
    records: Sealing,
    sketches: Vec<Sealing>,
    columns: ColumnsWriter,
    needed: Needed,
    read: u64,
    stored: u64,
}

impl<'a> Writer<'a> {
    fn new(folder: &Path, inputs: &'a [PathBuf], examiner: &'a Examiner<'a>) -> Result<Self> {
        let sketches = (0..examiner.pipeline.set_passes().len()).map(manifest::sketches);
        Ok(Self {
            examiner,
            inputs,
            file: 0,
            entries: Sealing::new(folder.join(manifest::ENTRIES))?,
            records: Sealing::new(folder.join(manifest::RECORDS))?,
            sketches: sketches.map(|name| Sealing::new(folder.join(name))).collect::<Result<_>>()?,
            columns: ColumnsWriter::new(Sealing::new(folder.join(manifest::COLUMNS))?),
            needed: Needed::default(),
            read: 0,
            stored: 0,
        })
    }

    fn push(&mut self, Examined { mut entry, stored }: Examined) -> Result<()> {
        self.read += 1;
        self.leave_out_samples(&mut entry);
        let is_current = |file: &PathBuf| **file == *entry.place.file;
        if !self.inputs.get(self.file).is_some_and(is_current) {
            self.file = self.inputs.iter().position(is_current).unwrap_or(self.file);
        }
        self.entries.frame(|to| entry::put(&entry, self.file, to))?;
        let Some(Stored { id, json, sketches, columns }) = stored else { return Ok(()) };
        self.stored += 1;
        let length = self.records.write(|mut to| Spooled::write(&mut to, &id, &json?))?;
        self.entries.number(length)?;
        for (file, sketch) in self.sketches.iter_mut().zip(sketches) {
            file.words(&sketch)?;
        }
        self.columns.push(&columns)
    }

    /// Leaves out the samples that the report of the whole set does not need.
    fn leave_out_samples(&mut self, entry: &mut Entry) {
        let pipeline = self.examiner.pipeline;
        let (repairs, rejected) = match &mut entry.fate {
            Fate::Unreadable { reason, shown, .. } => (None, Some(("read", reason, shown))),
            Fate::Rejected { repairs, pass, reason, shown, .. } => {
                (Some(repairs), Some((pipeline.passes()[*pass].name(), reason, shown)))
            }
            Fate::Passed { repairs, .. } => (Some(repairs), None),
        };
        if let Some((pass, reason, shown)) = rejected
            && !self.needed.rejected(pass, reason)
        {
            *shown = Default::default();
        }
        let shown = &self.examiner.shown;
        repairs.into_iter().for_each(|repairs| {
            repairs.retain(|(pass, _)| {
                let (is_needed, is_last) = self.needed.repaired(*pass);
                if let (true, Some(shown)) = (is_last, shown.get(*pass)) {
                    shown.store(true, Ordering::Relaxed);
                }
                is_needed
            });
        });
    }

    fn finish(self) -> Result<BTreeMap<String, Seal>> {
        let Self { entries, records, sketches, columns, .. } = self;
        let mut files: BTreeMap<String, Seal> = BTreeMap::new();
        files.insert(manifest::ENTRIES.to_owned(), entries.finish()?);
        files.insert(manifest::RECORDS.to_owned(), records.finish()?);
        files.insert(manifest::COLUMNS.to_owned(), columns.finish()?);
        for (at, file) in sketches.into_iter().enumerate() {
            files.insert(manifest::sketches(at), file.finish()?);
        }
        Ok(files)
    }
}
