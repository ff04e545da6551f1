//! What is kept to the output, what is not to the account.

use std::path::{Path, PathBuf};

use super::super::facts::Facts;
use super::super::spool::Spooled;
use super::{Sweep, Verdict, Verdicts};
use crate::audit::Tally;
use crate::error::Result;
use crate::file::write_error;
use crate::output::{Columns, Format, Output};
use crate::report::{Rejection, Report, Shown};

impl Sweep<'_> {
    /// Writes the spooled records that have no verdict to the output, if there is one, and closes the account.
    pub fn write(mut self, inputs: &[PathBuf], verdicts: Verdicts, out: Option<(&Path, Format)>) -> Result<Report> {
        let is_parquet = out.is_some_and(|(_, format)| format == Format::Parquet);
        let columns = if is_parquet { self.columns(&verdicts)? } else { Columns::default() };
        let mut output = out.map(|(path, format)| Output::new(path, format, columns)).transpose()?;
        let mut audits: Vec<Box<dyn Tally>> = self.pipeline.audits().iter().map(|audit| audit.tally()).collect();
        let mut rejected = Vec::new();
        let (mut failure, samples, facts) = (None, &mut self.samples, &mut self.facts);
        let (counts, places, order) = (&self.counts, &self.places, &self.order);
        let swept = self.spool.each(0..verdicts.len(), |index, spooled| {
            let Some(verdict) = &verdicts[index] else {
                let record = (is_parquet || !audits.is_empty()).then(|| spooled.record()).transpose()?;
                audits.iter_mut().zip(record.iter().cycle()).for_each(|(audit, record)| audit.add(record));
                let written = output.as_mut().map_or(Ok(()), |output| output.write(&spooled.json, record));
                return written.map_err(|error| {
                    failure = Some(error);
                    std::io::ErrorKind::Other.into()
                });
            };
            let Verdict { pass, reason, others } = verdict.as_ref();
            let (record, pass) = (spooled.record()?, counts[*pass].pass.clone());
            facts.remove(&Facts::of(&record, places[index].line));
            samples.rejected(order[index], &pass, reason, || Shown::record(&record.messages), others.first().copied());
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
        self.show_others()?;
        let kept = verdicts.iter().filter(|verdict| verdict.is_none()).count();
        Ok(self.account(inputs, kept, audits))
    }

    /// The columns of a table that holds what is kept.
    fn columns(&mut self, verdicts: &Verdicts) -> Result<Columns> {
        let mut columns = Columns::default();
        let kept = (0..verdicts.len()).filter(|index| verdicts[*index].is_none());
        let add = |_, spooled: &Spooled| {
            columns.add(&spooled.record()?);
            Ok(())
        };
        self.spool.each(kept, add).map_err(|source| write_error(&self.near, source))?;
        Ok(columns)
    }

    /// Shows the records because of which others were rejected.
    fn show_others(&mut self) -> Result<()> {
        let wanted = self.samples.others();
        let show = |index, spooled: &Spooled| {
            self.samples.show_other(index, &Shown::record(&spooled.record()?.messages));
            Ok(())
        };
        self.spool.each(wanted, show).map_err(|source| write_error(&self.near, source))
    }

    fn account(mut self, inputs: &[PathBuf], kept: usize, audits: Vec<Box<dyn Tally>>) -> Report {
        let in_order = |mut rejections: Vec<(usize, Rejection)>| {
            rejections.sort_by_key(|(order, _)| *order);
            rejections
        };
        let rejections = in_order(std::mem::take(&mut self.rejections));
        let place = |order| rejections.binary_search_by_key(&order, |(at, _)| *at).ok();
        let (reasons, repairs) = self.samples.finish(&self.counts, place);
        let bare =
            |rejections: Vec<(usize, Rejection)>| rejections.into_iter().map(|(_, rejection)| rejection).collect();
        Report {
            read: self.read as u64,
            kept: kept as u64,
            rejected: rejections.len() as u64,
            passes: self.counts,
            rejections: bare(rejections),
            put_back: bare(in_order(self.put_back)),
            sections: audits.into_iter().map(|audit| audit.section()).collect(),
            inputs: inputs.iter().map(|input| input.display().to_string()).collect(),
            distributions: self.facts.finish(),
            reasons,
            repairs,
        }
    }
}
