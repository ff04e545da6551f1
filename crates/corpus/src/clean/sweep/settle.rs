//! Writes the kept records to the output, and everything else to the report.

use super::super::bits::Bits;
use super::super::facts::Facts;
use super::super::places::Places;
use super::super::spool::Spooled;
use super::super::store::Store;
use super::{Case, Cases, Sweep, order};
use crate::audit::Tally;
use crate::error::Result;
use crate::output::{Columns, Output};
use crate::read::ReadAs;
use crate::report::{CleanReport, Rejection, Samples, Shown};

/// A kept record that has been flagged.
struct Flagged {
    records: u64,
    flags: Vec<Rejection>,
    samples: Samples,
}

/// The files of a cleaning, as the report names them.
pub(in crate::clean) struct Sources {
    /// The files, as the caller wrote them.
    pub inputs: Vec<String>,
    /// How the unusual ones were read.
    pub read_as: Vec<ReadAs>,
}

impl Sweep<'_> {
    /// Writes the stored records without a case to the output, if there is one, and completes the report.
    ///
    /// Records are read from the store only if they are written, audited or reported.
    pub fn settle(
        mut self,
        store: &mut impl Store,
        mut cases: Cases,
        removed: &Bits,
        sources: Sources,
        mut output: Option<Output<'_>>,
    ) -> Result<CleanReport> {
        let is_table = output.as_ref().is_some_and(Output::is_table);
        let mut audits: Vec<Box<dyn Tally>> = self.pipeline.audits().iter().map(|audit| audit.tally()).collect();
        let (mut rejected, mut flagged, mut flag_samples) = (Vec::new(), Vec::new(), Samples::default());
        let (flags, pipeline, mut flagged_records) = (std::mem::take(&mut self.flags), self.pipeline, 0);
        let (samples, facts) = (&mut self.samples, &mut self.facts);
        let stored = cases.len();
        let (counts, places, skipped) = (&mut self.counts, &self.places, &self.skipped);
        let needs_all = output.is_some() || !audits.is_empty();
        let mut needed = (0..stored).filter(|index| needs_all || removed.has(*index) || flags.contains_key(index));
        store.each(&mut needed, &mut |index, spooled| {
            let Some(place) = places.get(index) else { return Ok(()) };
            let Some(case) = cases[index].take() else {
                let doubts = flags.get(&index).map_or(&[][..], Vec::as_slice);
                let needs_record = is_table || !audits.is_empty() || !doubts.is_empty();
                let record = needs_record.then(|| spooled.record()).transpose()?;
                flagged_records += u64::from(!doubts.is_empty());
                for (Case { pass, reason, others }, record) in doubts.iter().zip(record.iter().cycle()) {
                    counts[*pass].flagged += 1;
                    let (id, place, pass) = (spooled.id.clone(), place.clone(), counts[*pass].pass.clone());
                    let shown = || Shown::record(&record.messages, pipeline);
                    flag_samples.rejected(flagged.len(), &pass, reason, shown, others.first().copied());
                    flagged.push(Rejection { id, place, pass, reason: reason.clone(), others: places.of(others) });
                }
                let record = record.filter(|_| is_table || !audits.is_empty());
                audits.iter_mut().zip(record.iter().cycle()).for_each(|(audit, record)| audit.add(record));
                return output.as_mut().map_or(Ok(()), |output| output.write(&spooled.json, record));
            };
            let Case { pass, reason, others } = *case;
            let (record, pass, order) = (spooled.record()?, counts[pass].pass.clone(), order(skipped, index));
            facts.remove(&Facts::of(&record, place.line));
            let shown = || Shown::record(&record.messages, pipeline);
            samples.rejected(order, &pass, &reason, shown, others.first().copied());
            let (id, others) = (spooled.id.clone(), places.of(&others));
            rejected.push((order, Rejection { id, place, pass, reason, others }));
            Ok(())
        })?;
        output.map_or(Ok(()), Output::finish)?;
        self.rejections.append(&mut rejected);
        self.show_others(store, &mut flag_samples)?;
        let kept = kept_of(&sources.inputs, &self.places, removed);
        let flagged = Flagged { records: flagged_records, flags: flagged, samples: flag_samples };
        Ok(self.account(sources, kept, audits, flagged))
    }

    /// Adds to the report the records because of which others were rejected or flagged.
    fn show_others(&mut self, store: &mut impl Store, flag_samples: &mut Samples) -> Result<()> {
        let mut wanted = self.samples.others();
        wanted.append(&mut flag_samples.others());
        store.each(&mut wanted.into_iter(), &mut |index, spooled| {
            let shown = Shown::record(&spooled.record()?.messages, self.pipeline);
            self.samples.show_other(index, &shown);
            flag_samples.show_other(index, &shown);
            Ok(())
        })
    }

    fn account(
        mut self,
        sources: Sources,
        kept: Vec<u64>,
        audits: Vec<Box<dyn Tally>>,
        flagged: Flagged,
    ) -> CleanReport {
        let in_order = |mut rejections: Vec<(usize, Rejection)>| {
            rejections.sort_by_key(|(order, _)| *order);
            rejections
        };
        let rejections = in_order(std::mem::take(&mut self.rejections));
        let place = |order| rejections.binary_search_by_key(&order, |(at, _)| *at).ok();
        let (reasons, repairs) = self.samples.finish(&self.counts, place);
        let (flag_reasons, _) = flagged.samples.finish(&self.counts, Some);
        let bare =
            |rejections: Vec<(usize, Rejection)>| rejections.into_iter().map(|(_, rejection)| rejection).collect();
        CleanReport {
            read: self.read as u64,
            kept: kept.iter().sum(),
            rejected: rejections.len() as u64,
            flagged: flagged.records,
            pipeline: self.pipeline.hash(),
            passes: self.counts,
            rejections: bare(rejections),
            flags: flagged.flags,
            put_back: bare(in_order(self.put_back)),
            sections: audits.into_iter().map(|audit| audit.section()).collect(),
            left_out: self.left_out,
            inputs: sources.inputs,
            read_as: sources.read_as,
            kept_of: kept,
            distributions: self.facts.finish(),
            reasons,
            flag_reasons,
            repairs,
        }
    }
}

/// The columns of a table with the stored records that are not removed.
pub(in crate::clean) fn columns(store: &mut impl Store, stored: usize, removed: &Bits) -> Result<Columns> {
    let mut columns = Columns::default();
    let mut kept = (0..stored).filter(|index| !removed.has(*index));
    store.each(&mut kept, &mut |_, spooled: &Spooled| {
        columns.add(&spooled.record()?);
        Ok(())
    })?;
    Ok(columns)
}

/// The number of records kept of each file. The places have the order of the files.
fn kept_of(inputs: &[String], places: &Places, removed: &Bits) -> Vec<u64> {
    let (mut kept, mut at) = (vec![0; inputs.len()], 0);
    for (file, records) in places.runs() {
        let file = file.display().to_string();
        at += inputs[at..].iter().position(|input| *input == file).unwrap_or(0);
        kept[at] += records.filter(|index| !removed.has(*index)).count() as u64;
    }
    kept
}
