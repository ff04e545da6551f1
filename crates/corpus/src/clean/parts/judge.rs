//! The second stage: the passes over the set, and the report.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fault::PartFault;
use super::manifest::{self, ENTRIES, Part, RECORDS};
use super::sort::Sorter;
use super::verdict::{self, Verdict};
use super::{columns, entry};
use crate::clean::bits::Bits;
use crate::clean::examine::{Entry, Examiner, Fate};
use crate::clean::spool::{Ends, Spooled};
use crate::clean::store::{Sketches, Store};
use crate::clean::sweep::{self, Sources, Sweep};
use crate::error::{Error, Result};
use crate::file::write_error;
use crate::output::Columns;
use crate::pass::{Key, SetPass};
use crate::pipeline::Pipeline;
use crate::report::CleanReport;
use crate::text::sha256_hex;

/// The exceptions and the checks of [`judge_parts`].
#[derive(Clone, Debug, Default)]
pub struct JudgeConfig {
    /// The ids of records that are kept even if a pass would reject them, the same as in
    /// [`MapConfig::keep`](crate::MapConfig::keep).
    pub keep: BTreeSet<String>,
    /// All files of the cleaning, in order. If they are given, the parts have to be made of exactly these, in this order.
    /// So a part that is missing, or that a pattern such as `part-*` puts in another place, is an error. The files
    /// are read, and one that has changed since its part was mapped is an error too.
    pub inputs: Option<Vec<PathBuf>>,
}

/// Runs the passes over the set on all parts of a cleaning, writes a verdict into each part, and returns the report: the
/// second of three stages, after [`map_part`](crate::map_part).
///
/// The order of the parts is the order of the records. The report is that of [`clean_with`](crate::clean_with) on all files
/// in this order, byte for byte. A verdict says which of the part's records are removed; the last file of each verdict is
/// written after the others, so a verdict counts whole or not at all. The same parts give the same bytes.
///
/// Sketches are read from the parts, pass by pass, and a pass that has [keys](SetPass::keys) gets only the records that
/// share one. The keys are sorted in temporary files beside the first part, with a byte of memory a record, but at
/// least 16 MiB. The records themselves are read only if a pass needs [evidence](SetPass::evidence), for the report, and if there are audits. Memory holds 24 bytes for
/// each record that the passes over single records keep, the sketches that share keys, and the rejections.
///
/// # Errors
/// [`Error::Part`] for a part that is missing, unfinished, damaged, given twice, or made by another pipeline, with other
/// ids to keep or of other files. [`Error::Open`], [`Error::Keep`], and [`Error::Write`].
///
/// # Examples
/// As for [`map_part`](crate::map_part).
pub fn judge_parts(parts: &[PathBuf], pipeline: &Pipeline, config: &JudgeConfig) -> Result<CleanReport> {
    let mut store = Parts::open(parts, pipeline, config)?;
    let examiner = Examiner::new(pipeline, &config.keep);
    let mut sweep = Sweep::new(&examiner);
    sweep.reserve(store.stored());
    for part in &mut store.parts {
        let passes = pipeline.passes().len();
        part.ends = replay(&part.part, passes, |entry| sweep.take(entry))?;
    }
    store.count();
    let cases = sweep.judge(&mut store)?;
    let sources = store.sources();
    let removed = sweep::removed(&cases);
    let report = sweep.settle(&mut store, cases, &removed, sources, None)?;
    store.write(&removed, &report)?;
    Ok(report)
}

/// The parts of a cleaning, in order.
struct Parts {
    parts: Vec<Judged>,
    /// The folder for temporary files.
    scratch: PathBuf,
}

/// A part, with what is known of its stored records.
struct Judged {
    part: Part,
    ends: Ends,
    /// The index of its first record among those of all parts.
    first: usize,
}

impl Parts {
    fn open(folders: &[PathBuf], pipeline: &Pipeline, config: &JudgeConfig) -> Result<Self> {
        let (hash, keep) = (pipeline.hash(), manifest::keep_hash(&config.keep));
        let mut parts: Vec<Judged> = Vec::new();
        let mut seen = BTreeSet::new();
        for folder in folders {
            let part = Part::open(folder)?;
            part.check(&hash, &keep)?;
            if !seen.insert(foehn_files::resolved(folder)) {
                return Err(part.error(PartFault::Twice));
            }
            parts.push(Judged { part, ends: Ends::default(), first: 0 });
        }
        if let Some(inputs) = &config.inputs {
            check_inputs(&parts, inputs)?;
        }
        let scratch = folders.first().map_or_else(std::env::temp_dir, |part| foehn_files::folder_of(part).to_owned());
        Ok(Self { parts, scratch })
    }

    /// The number of records that the passes over single records keep.
    fn stored(&self) -> usize {
        self.parts.iter().map(|part| part.part.manifest.stored as usize).sum()
    }

    /// Numbers the records of all parts.
    fn count(&mut self) {
        let mut first = 0;
        for part in &mut self.parts {
            part.first = first;
            first += part.part.manifest.stored as usize;
        }
    }

    fn sources(&self) -> Sources {
        let manifests = self.parts.iter().map(|part| &part.part.manifest);
        let inputs = manifests.clone().flat_map(|manifest| &manifest.inputs).map(|input| input.path.clone());
        Sources { inputs: inputs.collect(), read_as: manifests.flat_map(|manifest| manifest.read_as.clone()).collect() }
    }

    /// Calls a function with the sketches of one pass, in order.
    fn each_sketch(&self, at: usize, mut show: impl FnMut(usize, &[u64]) -> Result<()>) -> Result<()> {
        let (name, mut words) = (manifest::sketches(at), Vec::new());
        for Judged { part, first, .. } in &self.parts {
            let mut file = part.file(&name)?;
            for index in 0..part.manifest.stored as usize {
                file.words(&mut words).map_err(|source| part.unreadable(&name, source))?;
                show(first + index, &words)?;
            }
            part.close(&name, file)?;
        }
        Ok(())
    }

    /// The records that a pass has to compare: those that share keys, and those without keys.
    fn compared(&self, at: usize, pass: &dyn SetPass, wanted: &dyn Fn(usize) -> bool) -> Result<Bits> {
        let failed = |source| write_error(&self.scratch, source);
        let (mut found, mut keys) = (Bits::default(), Sorter::new(&self.scratch, self.stored()));
        self.each_sketch(at, |index, words| {
            if !wanted(index) {
                return Ok(());
            }
            let Some(own) = pass.keys(words) else {
                found.insert(index);
                return Ok(());
            };
            own.into_iter()
                .try_for_each(|Key { hash, seeks }| keys.push([hash, (index as u64) << 1 | u64::from(seeks)]))
                .map_err(failed)
        })?;
        let mut group = Group::default();
        keys.each(|[hash, entry]| group.push(hash, entry, &mut found)).map_err(failed)?;
        group.close(&mut found);
        Ok(found)
    }

    /// Writes the verdicts.
    fn write(&self, all_removed: &Bits, report: &CleanReport) -> Result<()> {
        let ids: Vec<&str> = self.parts.iter().map(|part| part.part.id.as_str()).collect();
        let judgement = sha256_hex(ids.join("\n").as_bytes());
        let mut all = Columns::default();
        for Judged { part, first, .. } in &self.parts {
            columns::add(part, |index| !all_removed.has(first + index), &mut all)?;
        }
        let mut rejections = report.rejections.as_slice();
        for (at, Judged { part, first, .. }) in self.parts.iter().enumerate() {
            let stored = part.manifest.stored as usize;
            let removed = || (0..stored).filter(|index| all_removed.has(first + index));
            let kept = (stored - removed().count()) as u64;
            // Every record that was read is either kept or rejected, and rejections have the order of the records.
            let (rejected, rest) = rejections.split_at((part.manifest.read - kept) as usize);
            rejections = rest;
            let mut columns = Columns::default();
            columns.merge(&all);
            let verdict = Verdict {
                part: part.id.clone(),
                judgement: judgement.clone(),
                number: at + 1,
                of: self.parts.len(),
                kept,
                columns,
                removed: verdict::write_removed(part, removed())?,
                rejections: verdict::write_rejections(part, rejected)?,
            };
            verdict.write(part)?;
        }
        Ok(())
    }
}

impl Store for Parts {
    fn sketches(&mut self, at: usize, pass: &dyn SetPass, wanted: &dyn Fn(usize) -> bool) -> Result<Sketches> {
        let compared = self.compared(at, pass, wanted)?;
        let mut sketches = Sketches::default();
        self.each_sketch(at, |index, words| {
            if compared.has(index) {
                sketches.push_of(index, words);
            }
            Ok(())
        })?;
        Ok(sketches)
    }

    fn each(
        &mut self,
        indices: &mut dyn Iterator<Item = usize>,
        show: &mut dyn FnMut(usize, &Spooled) -> Result<()>,
    ) -> Result<()> {
        let mut indices = indices.peekable();
        for Judged { part, ends, first } in &self.parts {
            let end = first + part.manifest.stored as usize;
            if indices.peek().is_none_or(|index| *index >= end) {
                continue;
            }
            let path = part.folder.join(RECORDS);
            let failed = |source| part.unreadable(RECORDS, source);
            let file = File::open(&path).map_err(failed)?;
            let own = std::iter::from_fn(|| indices.next_if(|index| *index < end).map(|index| index - first));
            ends.each(&file, &path, own, |index, spooled| show(first + index, spooled), &failed)?;
        }
        Ok(())
    }
}

/// Reads the entries of a part. Returns where its records end.
fn replay(part: &Part, passes: usize, mut take: impl FnMut(Entry)) -> Result<Ends> {
    let files: Vec<Arc<Path>> = part.manifest.inputs.iter().map(|input| Path::new(&input.path).into()).collect();
    let bounds = entry::Bounds { passes, files: &files };
    let mut file = part.file(ENTRIES)?;
    let failed = |source| part.unreadable(ENTRIES, source);
    let (mut ends, mut frame, mut stored) = (Ends::default(), Vec::new(), 0);
    for _ in 0..part.manifest.read {
        file.frame(&mut frame).map_err(failed)?;
        let entry = entry::get(&frame, &bounds).ok_or_else(|| part.damaged(ENTRIES))?;
        if matches!(entry.fate, Fate::Passed { .. }) {
            stored += 1;
            ends.push(file.number().map_err(failed)?);
        }
        take(entry);
    }
    part.close(ENTRIES, file)?;
    let records = part.manifest.files.get(RECORDS).map(|seal| seal.bytes);
    let found = std::fs::metadata(part.folder.join(RECORDS)).map_err(|source| part.unreadable(RECORDS, source))?;
    if stored != part.manifest.stored || records != Some(ends.total()) || found.len() != ends.total() {
        return Err(part.damaged(RECORDS));
    }
    Ok(ends)
}

/// Checks that the parts are made of these files, in this order.
fn check_inputs(parts: &[Judged], inputs: &[PathBuf]) -> Result<()> {
    let mut expected = inputs.iter().map(|input| input.display().to_string());
    for Judged { part, .. } in parts {
        for source in &part.manifest.inputs {
            let (found, expected) = (Some(source.path.clone()), expected.next());
            if found != expected {
                return Err(part.error(PartFault::Inputs { found, expected }));
            }
            source.check(part)?;
        }
    }
    match (expected.next(), parts.last()) {
        (None, _) => Ok(()),
        (expected, Some(last)) => Err(last.part.error(PartFault::Inputs { found: None, expected })),
        (Some(first), None) => Err(Error::Part { path: first.into(), source: PartFault::Missing }),
    }
}

/// The entries of one hash, which come one after the other.
#[derive(Default)]
struct Group {
    hash: u64,
    indices: Vec<usize>,
    is_sought: bool,
}

impl Group {
    fn push(&mut self, hash: u64, entry: u64, found: &mut Bits) {
        if hash != self.hash {
            self.close(found);
            self.hash = hash;
        }
        self.indices.push((entry >> 1) as usize);
        self.is_sought |= entry & 1 == 1;
    }

    /// A record alone has nothing to be compared with.
    fn close(&mut self, found: &mut Bits) {
        if self.indices.len() > 1 && self.is_sought {
            self.indices.iter().for_each(|index| found.insert(*index));
        }
        self.indices.clear();
        self.is_sought = false;
    }
}
