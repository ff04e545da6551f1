//! Collects the examined records, then runs the passes over the set.

mod settle;

pub(super) use settle::{Sources, columns};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use super::bits::Bits;
use super::examine::{Entry, Examiner, Fate};
use super::facts::FactTally;
use super::places::Places;
use super::spool::Spooled;
use super::store::{Sketches, Store};
use crate::error::{Error, Result};
use crate::pass::{Finding, SetPass, Sketch, Verdict};
use crate::pipeline::Pipeline;
use crate::read::Place;
use crate::report::{Change, PassReport, Rejection, Samples, Shown};

/// The results of the first pass over the records, for the second one.
pub(super) struct Sweep<'a> {
    pipeline: &'a Pipeline,
    examiner: &'a Examiner<'a>,
    /// The places of the stored records.
    places: Places,
    /// The counts of reading, of the passes over single records, and of the passes over the set.
    counts: Vec<PassReport>,
    rejections: Vec<(usize, Rejection)>,
    put_back: Vec<(usize, Rejection)>,
    samples: Samples,
    /// The reasons for which stored records are flagged, by record index.
    flags: BTreeMap<usize, Vec<Case>>,
    facts: FactTally,
    read: usize,
    /// For each record that is not stored, the number of stored records before it.
    skipped: Vec<usize>,
    /// The parts of records that were left out, each with the number of records.
    left_out: BTreeMap<String, u64>,
    /// The stored records that the caller asked to keep, with their ids.
    keep: BTreeMap<usize, String>,
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
    pub fn new(examiner: &'a Examiner<'a>) -> Self {
        let pipeline = examiner.pipeline;
        let passes = pipeline.passes().iter().map(|pass| pass.name());
        let set_passes = pipeline.set_passes().iter().map(|pass| pass.name());
        let names = std::iter::once("read").chain(passes).chain(set_passes);
        Self {
            pipeline,
            examiner,
            places: Places::default(),
            counts: names.map(PassReport::new).collect(),
            rejections: Vec::new(),
            put_back: Vec::new(),
            samples: Samples::default(),
            flags: BTreeMap::new(),
            facts: FactTally::default(),
            read: 0,
            skipped: Vec::new(),
            left_out: BTreeMap::new(),
            keep: BTreeMap::new(),
        }
    }

    /// Makes room for this number of stored records.
    pub fn reserve(&mut self, stored: usize) {
        self.places.reserve(stored);
    }

    /// Counts an examined record. One that is passed on has the next index among the stored ones.
    pub fn take(&mut self, Entry { place, left_out, fate }: Entry) {
        self.read += 1;
        self.leave_out(left_out);
        match fate {
            Fate::Unreadable { id, reason, shown } => self.reject(id, place, 0, reason, shown),
            Fate::Rejected { id, changed, repairs, pass, reason, shown } => {
                self.count(&changed, pass);
                self.show_repairs(repairs);
                self.reject(id, place, 1 + pass, reason, shown);
            }
            Fate::Passed { changed, repairs, keep, overruled, flags, facts } => {
                self.count(&changed, changed.len());
                self.show_repairs(repairs);
                let index = self.places.len();
                if let Some(id) = keep {
                    if let Some((pass, reason)) = overruled {
                        self.overrule(id.clone(), place.clone(), 1 + pass, reason);
                    }
                    self.keep.insert(index, id);
                }
                for (pass, reason) in flags {
                    self.flag(index, Case { pass: 1 + pass, reason, others: Vec::new() });
                }
                self.facts.add(facts);
                self.places.push(place);
            }
        }
    }

    /// Runs the passes over the set on their sketches.
    ///
    /// # Errors
    /// Those of the store, and [`Error::Keep`].
    pub fn judge(&mut self, store: &mut impl Store) -> Result<Cases> {
        let mut cases: Cases = (0..self.places.len()).map(|_| None).collect();
        let first = 1 + self.pipeline.passes().len();
        for (at, pass) in self.pipeline.set_passes().iter().enumerate() {
            let undecided = |index: usize| cases.get(index).is_some_and(Option::is_none);
            let reached = cases.iter().filter(|case| case.is_none()).count() as u64;
            let sketches = store.sketches(at, pass.as_ref(), &undecided)?;
            let mut left: Vec<Sketch<'_>> = sketches
                .iter()
                .filter(|(index, _)| undecided(*index))
                .map(|(index, words)| Sketch { index, words, evidence: &[] })
                .collect();
            let evidence = evidence(store, pass.as_ref(), &left)?;
            let mut found = evidence.iter().peekable();
            for sketch in &mut left {
                // A pass may call what is not left a suspect.
                while found.next_if(|(index, _)| *index < sketch.index).is_some() {}
                sketch.evidence = found.next_if(|(index, _)| *index == sketch.index).map_or(&[], |(_, words)| words);
            }
            let (sure, doubts) = findings(pass.as_ref(), self.pipeline.set_verdicts()[at], &left);
            for Finding { index, others, reason } in doubts {
                self.flag(index, Case { pass: first + at, reason, others });
            }
            for Finding { index, others, reason } in sure {
                if let Some((id, place)) = self.keep.get(&index).zip(self.places.get(index)) {
                    let (pass, others) = (pass.name().to_owned(), self.places.of(&others));
                    let rejection = Rejection { id: id.clone(), place, pass, reason, others };
                    self.put_back.push((order(&self.skipped, index), rejection));
                } else if let Some(none @ None) = cases.get_mut(index) {
                    *none = Some(Box::new(Case { pass: first + at, reason, others }));
                    self.counts[first + at].rejected += 1;
                }
            }
            self.counts[first + at].kept = reached - self.counts[first + at].rejected;
        }
        let found: BTreeSet<&String> = self.keep.values().collect();
        match self.examiner.keep.iter().find(|id| !found.contains(id)) {
            Some(id) => Err(Error::Keep { id: id.clone() }),
            None => Ok(cases),
        }
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
        self.skipped.push(self.places.len());
        self.counts[count].rejected += 1;
        let pass = self.counts[count].pass.clone();
        self.samples.rejected(self.read, &pass, &reason, || shown, None);
        self.rejections.push((self.read, Rejection { id, place, pass, reason, others: Vec::new() }));
    }

    fn overrule(&mut self, id: String, place: Place, count: usize, reason: String) {
        let pass = self.counts[count].pass.clone();
        self.put_back.push((self.read, Rejection { id, place, pass, reason, others: Vec::new() }));
    }
}

/// The stored records that have a case.
pub(super) fn removed(cases: &Cases) -> Bits {
    (0..cases.len()).filter(|index| cases[*index].is_some()).collect()
}

/// The number of records read up to the stored one with this index.
fn order(skipped: &[usize], index: usize) -> usize {
    1 + index + skipped.partition_point(|stored| *stored <= index)
}

/// The evidence that a pass over the set needs for its suspects, in their order.
fn evidence(store: &mut impl Store, pass: &dyn SetPass, left: &[Sketch<'_>]) -> Result<Sketches> {
    let mut suspects = pass.suspects(left);
    suspects.sort_unstable();
    suspects.dedup();
    let mut found = Sketches::default();
    store.each(&mut suspects.into_iter(), &mut |index, spooled: &Spooled| {
        found.push_of(index, &pass.evidence(&spooled.record()?));
        Ok(())
    })?;
    Ok(found)
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
