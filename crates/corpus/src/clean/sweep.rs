//! Collects the examined records, then runs the passes over the set.

mod settle;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::examine::{Examined, Examiner, Fate};
use super::facts::FactTally;
use super::spool::{Spool, Spooled};
use crate::error::Result;
use crate::file::write_error;
use crate::pass::{Finding, SetPass, Sketch, Verdict};
use crate::pipeline::Pipeline;
use crate::read::{Place, ReadAs};
use crate::report::{Change, PassReport, Rejection, Samples, Shown};

/// The results of the first pass over the records, for the second one.
pub(super) struct Sweep<'a> {
    pipeline: &'a Pipeline,
    examiner: &'a Examiner<'a>,
    /// The path near which the temporary file is, for errors.
    near: PathBuf,
    spool: Spool,
    places: Vec<Place>,
    /// The sketches of the stored records, one list for each pass over the set.
    sketches: Vec<Sketches>,
    /// The counts of reading, of the passes over single records, and of the passes over the set.
    counts: Vec<PassReport>,
    rejections: Vec<(usize, Rejection)>,
    put_back: Vec<(usize, Rejection)>,
    samples: Samples,
    /// The reasons for which stored records are flagged, by record index.
    flags: BTreeMap<usize, Vec<Case>>,
    facts: FactTally,
    read: usize,
    /// For each stored record, the number of records read before it.
    order: Vec<usize>,
    /// The parts of records that were left out, each with the number of records.
    left_out: BTreeMap<String, u64>,
    /// The ids to keep that a readable record has.
    seen: BTreeSet<String>,
    /// How the files were read.
    pub read_as: Vec<ReadAs>,
}

/// Lists of numbers, stored one after the other.
#[derive(Default)]
struct Sketches {
    words: Vec<u64>,
    ends: Vec<usize>,
}

/// Why a stored record is rejected or flagged: the index of the pass among the counts, its reason, and the other
/// records.
pub(super) struct Case {
    pass: usize,
    reason: String,
    others: Vec<usize>,
}

/// For each stored record, a case or none. Most records have none, so an entry must be small.
pub(super) type Cases = Vec<Option<Box<Case>>>;

/// The largest number of different names of left-out parts.
const MAX_LEFT_OUT: usize = 64;

impl<'a> Sweep<'a> {
    pub fn new(examiner: &'a Examiner<'a>, out: Option<&Path>) -> Result<Self> {
        let pipeline = examiner.pipeline;
        let near = out.map_or_else(std::env::temp_dir, |out| foehn_files::folder_of(out).to_owned());
        let spool = Spool::new(&near).map_err(|source| write_error(out.unwrap_or(&near), source))?;
        let passes = pipeline.passes().iter().map(|pass| pass.name());
        let set_passes = pipeline.set_passes().iter().map(|pass| pass.name());
        let names = std::iter::once("read").chain(passes).chain(set_passes);
        Ok(Self {
            pipeline,
            examiner,
            near: out.map_or(near, Path::to_owned),
            spool,
            places: Vec::new(),
            sketches: pipeline.set_passes().iter().map(|_| Sketches::default()).collect(),
            counts: names.map(PassReport::new).collect(),
            rejections: Vec::new(),
            put_back: Vec::new(),
            samples: Samples::default(),
            flags: BTreeMap::new(),
            facts: FactTally::default(),
            read: 0,
            order: Vec::new(),
            left_out: BTreeMap::new(),
            seen: BTreeSet::new(),
            read_as: Vec::new(),
        })
    }

    /// Whether a record with this id was read. Only ids to keep are tracked.
    pub fn has_seen(&self, id: &str) -> bool {
        self.seen.contains(id)
    }

    /// Counts an examined record, and spools or rejects it.
    pub fn take(&mut self, Examined { place, id, left_out, fate }: Examined) -> Result<()> {
        self.read += 1;
        self.leave_out(left_out);
        match fate {
            Fate::Unreadable { reason, shown } => self.reject(id, place, 0, reason, shown),
            Fate::Rejected { changed, repairs, pass, reason, shown } => {
                self.count(&changed, pass);
                self.show_repairs(repairs);
                self.reject(id, place, 1 + pass, reason, shown);
            }
            Fate::Passed { changed, repairs, overruled, flags, json, sketches, facts } => {
                self.count(&changed, changed.len());
                self.show_repairs(repairs);
                if let Some((pass, reason)) = overruled {
                    self.overrule(id.clone(), place.clone(), 1 + pass, reason, Vec::new());
                }
                for (all, sketch) in self.sketches.iter_mut().zip(sketches) {
                    all.push(&sketch);
                }
                let index = self.places.len();
                for (pass, reason) in flags {
                    self.flag(index, Case { pass: 1 + pass, reason, others: Vec::new() });
                }
                self.facts.add(facts);
                self.places.push(place);
                self.order.push(self.read);
                let json = json.map_err(|error| write_error(&self.near, error.into()))?;
                self.spool.push(&id, &json).map_err(|source| write_error(&self.near, source))?;
            }
        }
        Ok(())
    }

    /// Runs the passes over the set on their sketches.
    pub fn judge(&mut self) -> Result<Cases> {
        let mut cases: Cases = self.places.iter().map(|_| None).collect();
        let kept = self.named(self.examiner.keep)?;
        let first = self.counts.len() - self.sketches.len();
        for (at, pass) in self.pipeline.set_passes().iter().enumerate() {
            let sketches = std::mem::take(&mut self.sketches[at]);
            let undecided = |index: &usize| cases[*index].is_none();
            let mut left: Vec<Sketch<'_>> = (0..cases.len())
                .filter(undecided)
                .map(|index| Sketch { index, words: sketches.get(index), evidence: &[] })
                .collect();
            let evidence = self.evidence(pass.as_ref(), &left)?;
            for sketch in &mut left {
                sketch.evidence = evidence.get(&sketch.index).map_or(&[], Vec::as_slice);
            }
            let reached = left.len() as u64;
            let (sure, doubts) = findings(pass.as_ref(), self.pipeline.set_verdicts()[at], &left);
            for Finding { index, others, reason } in doubts {
                self.flag(index, Case { pass: first + at, reason, others });
            }
            for Finding { index, others, reason } in sure {
                if let Some(id) = kept.get(&index) {
                    let others = others.iter().filter_map(|other| self.places.get(*other)).cloned().collect();
                    let (pass, place) = (pass.name().to_owned(), self.places[index].clone());
                    let rejection = Rejection { id: id.clone(), place, pass, reason, others };
                    self.put_back.push((self.order[index], rejection));
                } else if let Some(none @ None) = cases.get_mut(index) {
                    *none = Some(Box::new(Case { pass: first + at, reason, others }));
                    self.counts[first + at].rejected += 1;
                }
            }
            self.counts[first + at].kept = reached - self.counts[first + at].rejected;
        }
        Ok(cases)
    }

    /// Counts a record that was stopped by the pass `reached`.
    fn count(&mut self, changed: &[bool], reached: usize) {
        self.counts[0].kept += 1;
        for (at, changed) in changed.iter().enumerate() {
            self.counts[1 + at].changed += u64::from(*changed);
            self.counts[1 + at].kept += u64::from(at < reached);
        }
    }

    /// Counts the parts of a record that were left out. If every record has other names, only the first names are
    /// counted.
    fn leave_out(&mut self, names: Vec<String>) {
        for name in names {
            let is_full = self.left_out.len() >= MAX_LEFT_OUT && !self.left_out.contains_key(&name);
            *self.left_out.entry(if is_full { "others".to_owned() } else { name }).or_default() += 1;
        }
    }

    fn flag(&mut self, index: usize, case: Case) {
        self.flags.entry(index).or_default().push(case);
    }

    fn show_repairs(&mut self, repairs: Vec<(usize, Change)>) {
        for (pass, repair) in repairs {
            if self.samples.repaired(pass, &self.counts[1 + pass].pass, repair)
                && let Some(shown) = self.examiner.shown.get(pass)
            {
                shown.store(true, Ordering::Relaxed);
            }
        }
    }

    fn reject(&mut self, id: String, place: Place, count: usize, reason: String, shown: Shown) {
        self.counts[count].rejected += 1;
        let pass = self.counts[count].pass.clone();
        self.samples.rejected(self.read, &pass, &reason, || shown, None);
        self.rejections.push((self.read, Rejection { id, place, pass, reason, others: Vec::new() }));
    }

    fn overrule(&mut self, id: String, place: Place, count: usize, reason: String, others: Vec<Place>) {
        let pass = self.counts[count].pass.clone();
        self.put_back.push((self.read, Rejection { id, place, pass, reason, others }));
    }

    /// The stored records with one of these ids.
    fn named(&mut self, keep: &BTreeSet<String>) -> Result<BTreeMap<usize, String>> {
        let mut found = BTreeMap::new();
        if keep.is_empty() {
            return Ok(found);
        }
        let note = |index, spooled: &Spooled| {
            if keep.contains(&spooled.id) {
                found.insert(index, spooled.id.clone());
                self.seen.insert(spooled.id.clone());
            }
            Ok(())
        };
        self.spool.each(0..self.places.len(), note).map_err(|source| write_error(&self.near, source))?;
        Ok(found)
    }

    /// The evidence that a pass over the set needs for its suspects, by record index.
    fn evidence(&mut self, pass: &dyn SetPass, left: &[Sketch<'_>]) -> Result<BTreeMap<usize, Vec<u64>>> {
        let suspects: BTreeSet<usize> = pass.suspects(left).into_iter().collect();
        let mut found = BTreeMap::new();
        let note = |index, spooled: &Spooled| {
            found.insert(index, pass.evidence(&spooled.record()?));
            Ok(())
        };
        self.spool.each(suspects, note).map_err(|source| write_error(&self.near, source))?;
        Ok(found)
    }
}

/// The results of a pass over the set: the records to reject, and those to flag.
fn findings(pass: &dyn SetPass, set: Option<Verdict>, left: &[Sketch<'_>]) -> (Vec<Finding>, Vec<Finding>) {
    let (mut sure, mut doubts) = (pass.judge(left), pass.doubts(left));
    let judged: BTreeSet<usize> = sure.iter().map(|finding| finding.index).collect();
    doubts.retain(|finding| !judged.contains(&finding.index));
    match set {
        None => {}
        Some(Verdict::Reject) => sure.append(&mut doubts),
        Some(Verdict::Flag) => doubts.append(&mut sure),
    }
    (sure, doubts)
}

impl Sketches {
    fn push(&mut self, sketch: &[u64]) {
        self.words.extend_from_slice(sketch);
        self.ends.push(self.words.len());
    }

    fn get(&self, index: usize) -> &[u64] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.words[start..self.ends[index]]
    }
}
