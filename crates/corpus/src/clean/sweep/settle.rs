//! Writes the kept records to the output, and everything else to the report.

use std::path::{Path, PathBuf};

use super::super::facts::Facts;
use super::super::spool::Spooled;
use super::{Case, Cases, Sweep};
use crate::audit::Tally;
use crate::error::Result;
use crate::file::write_error;
use crate::output::{Columns, Format, Output};
use crate::read::Place;
use crate::report::{CleanReport, Rejection, Samples, Shown};

/// A kept record that has been flagged.
struct Flagged {
    records: u64,
    flags: Vec<Rejection>,
    samples: Samples,
}

impl Sweep<'_> {
    /// Writes the stored records without a case to the output, if there is one, and completes the report.
    pub fn write(mut self, inputs: &[PathBuf], cases: Cases, out: Option<(&Path, Format)>) -> Result<CleanReport> {
        let is_parquet = out.is_some_and(|(_, format)| format == Format::Parquet);
        let columns = if is_parquet { self.columns(&cases)? } else { Columns::default() };
        let mut output = out.map(|(path, format)| Output::new(path, format, columns)).transpose()?;
        let mut audits: Vec<Box<dyn Tally>> = self.pipeline.audits().iter().map(|audit| audit.tally()).collect();
        let (mut rejected, mut flagged, mut flag_samples) = (Vec::new(), Vec::new(), Samples::default());
        let (flags, pipeline, mut flagged_records) = (std::mem::take(&mut self.flags), self.pipeline, 0);
        let (mut failure, samples, facts) = (None, &mut self.samples, &mut self.facts);
        let (counts, places, order) = (&mut self.counts, &self.places, &self.order);
        let swept = self.spool.each(0..cases.len(), |index, spooled| {
            let Some(case) = &cases[index] else {
                let doubts = flags.get(&index).map_or(&[][..], Vec::as_slice);
                let needs_record = is_parquet || !audits.is_empty() || !doubts.is_empty();
                let record = needs_record.then(|| spooled.record()).transpose()?;
                flagged_records += u64::from(!doubts.is_empty());
                for (Case { pass, reason, others }, record) in doubts.iter().zip(record.iter().cycle()) {
                    counts[*pass].flagged += 1;
                    let (id, place, pass) = (spooled.id.clone(), places[index].clone(), counts[*pass].pass.clone());
                    let shown = || Shown::record(&record.messages, pipeline);
                    flag_samples.rejected(flagged.len(), &pass, reason, shown, others.first().copied());
                    let others = others.iter().filter_map(|other| places.get(*other)).cloned().collect();
                    flagged.push(Rejection { id, place, pass, reason: reason.clone(), others });
                }
                let record = record.filter(|_| is_parquet || !audits.is_empty());
                audits.iter_mut().zip(record.iter().cycle()).for_each(|(audit, record)| audit.add(record));
                let written = output.as_mut().map_or(Ok(()), |output| output.write(&spooled.json, record));
                return written.map_err(|error| {
                    failure = Some(error);
                    std::io::ErrorKind::Other.into()
                });
            };
            let Case { pass, reason, others } = case.as_ref();
            let (record, pass) = (spooled.record()?, counts[*pass].pass.clone());
            facts.remove(&Facts::of(&record, places[index].line));
            samples.rejected(
                order[index],
                &pass,
                reason,
                || Shown::record(&record.messages, pipeline),
                others.first().copied(),
            );
            let others = others.iter().filter_map(|other| places.get(*other)).cloned().collect();
            let (id, place, reason) = (spooled.id.clone(), places[index].clone(), reason.clone());
            rejected.push((order[index], Rejection { id, place, pass, reason, others }));
            Ok(())
        });
        if let Some(error) = failure {
            return Err(error);
        }
        swept.map_err(|source| write_error(&self.near, source))?;
        output.map_or(Ok(()), Output::finish)?;
        self.rejections.append(&mut rejected);
        self.show_others(&mut flag_samples)?;
        let places = self.places.iter().zip(&cases).filter(|(_, case)| case.is_none());
        let kept = kept_of(inputs, places.map(|(place, _)| place));
        let flagged = Flagged { records: flagged_records, flags: flagged, samples: flag_samples };
        Ok(self.account(inputs, kept, audits, flagged))
    }

    /// The columns of a table with the kept records.
    fn columns(&mut self, cases: &Cases) -> Result<Columns> {
        let mut columns = Columns::default();
        let kept = (0..cases.len()).filter(|index| cases[*index].is_none());
        let add = |_, spooled: &Spooled| {
            columns.add(&spooled.record()?);
            Ok(())
        };
        self.spool.each(kept, add).map_err(|source| write_error(&self.near, source))?;
        Ok(columns)
    }

    /// Adds to the report the records because of which others were rejected or flagged.
    fn show_others(&mut self, flag_samples: &mut Samples) -> Result<()> {
        let mut wanted = self.samples.others();
        wanted.append(&mut flag_samples.others());
        let show = |index, spooled: &Spooled| {
            let shown = Shown::record(&spooled.record()?.messages, self.pipeline);
            self.samples.show_other(index, &shown);
            flag_samples.show_other(index, &shown);
            Ok(())
        };
        self.spool.each(wanted, show).map_err(|source| write_error(&self.near, source))
    }

    fn account(
        mut self,
        inputs: &[PathBuf],
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
            inputs: inputs.iter().map(|input| input.display().to_string()).collect(),
            read_as: self.read_as,
            kept_of: kept,
            distributions: self.facts.finish(),
            reasons,
            flag_reasons,
            repairs,
        }
    }
}

/// The number of places in each file. The places have the order of the files.
fn kept_of<'a>(inputs: &[PathBuf], places: impl Iterator<Item = &'a Place>) -> Vec<u64> {
    let (mut kept, mut at) = (vec![0; inputs.len()], 0);
    for place in places {
        at += inputs[at..].iter().position(|input| **input == *place.file).unwrap_or(0);
        kept[at] += 1;
    }
    kept
}
