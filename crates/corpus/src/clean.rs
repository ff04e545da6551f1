//! Files in, one clean file and its report out.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::error::Result;
use crate::file::{Draft, folder, write_error};
use crate::pass::Sketch;
use crate::pipeline::{Outcome, Pipeline};
use crate::read::{Line, Place, read};
use crate::record::Record;
use crate::report::{PassReport, Rejection, Report};
use crate::text::content_id;

/// Cleans the files into one of JSON lines at `out`, and writes the account of it as JSON at `report`.
///
/// The records keep their order; a line holds `id`, `messages`, the metadata in their order, and `group`. Both files
/// appear whole or not at all, an input may be the output, and the same inputs give the same bytes.
///
/// It reads every input once, one record at a time. What the passes over single records leave waits in a temporary file
/// beside `out` for the passes over the set, which remember a few numbers of each record; memory holds those, every
/// record's place and the rejections.
///
/// # Errors
/// Any error of [`read`] and of its iterator, [`Error::SameOutput`] and [`Error::Write`].
pub fn clean(inputs: &[PathBuf], out: &Path, report: &Path, pipeline: &Pipeline) -> Result<Report> {
    if out == report {
        return Err(Error::SameOutput { path: out.into() });
    }
    let mut sweep = Sweep::new(pipeline, out)?;
    for input in inputs {
        for line in read(input)? {
            sweep.take(line?)?;
        }
    }
    let verdicts = sweep.judge();
    let account = sweep.write(verdicts)?;
    let mut json = serde_json::to_vec_pretty(&account).map_err(|error| write_error(report, error.into()))?;
    json.push(b'\n');
    let mut draft = Draft::new(report)?;
    draft.write(&json)?;
    draft.finish()?;
    Ok(account)
}

/// The first sweep over the records, and what it leaves for the second.
struct Sweep<'a> {
    pipeline: &'a Pipeline,
    out: &'a Path,
    /// The records that the passes over single records let go on, one a line.
    spool: BufWriter<File>,
    places: Vec<Place>,
    /// The sketches of the spooled records, a list for each pass over the set.
    sketches: Vec<Vec<Vec<u64>>>,
    /// The counts of reading, of the passes over single records, and of those over the set.
    counts: Vec<PassReport>,
    rejections: Vec<(usize, Rejection)>,
    read: usize,
    /// For each spooled record, how many were read before it.
    order: Vec<usize>,
}

/// Why a spooled record is rejected: the pass over the set, its reason, and the places of the others.
struct Verdict {
    pass: String,
    reason: String,
    others: Vec<Place>,
}

impl<'a> Sweep<'a> {
    fn new(pipeline: &'a Pipeline, out: &'a Path) -> Result<Self> {
        let spool = tempfile::tempfile_in(folder(out)).map_err(|source| write_error(out, source))?;
        let passes = pipeline.passes().iter().map(|pass| pass.name());
        let set_passes = pipeline.set_passes().iter().map(|pass| pass.name());
        let names = std::iter::once("read").chain(passes).chain(set_passes);
        Ok(Self {
            pipeline,
            out,
            spool: BufWriter::with_capacity(1 << 16, spool),
            places: Vec::new(),
            sketches: vec![Vec::new(); pipeline.set_passes().len()],
            counts: names.map(PassReport::new).collect(),
            rejections: Vec::new(),
            read: 0,
            order: Vec::new(),
        })
    }

    /// Runs the passes over single records on what was read, and spools or rejects it.
    fn take(&mut self, Line { place, record }: Line) -> Result<()> {
        self.read += 1;
        let mut record = match record {
            Ok(record) => record,
            Err(unreadable) => {
                self.reject(unreadable.id, place, 0, unreadable.fault.to_string());
                return Ok(());
            }
        };
        // The name of a record without an id is that of what was read, so that it can be found there.
        let id = record_id(&record);
        let Outcome { changed, rejected } = self.pipeline.run(&mut record);
        let reached = rejected.as_ref().map_or(changed.len(), |(pass, _)| *pass);
        self.counts[0].kept += 1;
        for (at, changed) in changed.into_iter().enumerate() {
            self.counts[1 + at].changed += u64::from(changed);
            self.counts[1 + at].kept += u64::from(at < reached);
        }
        if let Some((pass, reason)) = rejected {
            self.reject(id, place, 1 + pass, reason);
            return Ok(());
        }
        for (sketches, pass) in self.sketches.iter_mut().zip(self.pipeline.set_passes()) {
            sketches.push(pass.sketch(&record));
        }
        self.places.push(place);
        self.order.push(self.read);
        serde_json::to_writer(&mut self.spool, &record)
            .map_err(std::io::Error::from)
            .and_then(|()| self.spool.write_all(b"\n"))
            .map_err(|source| write_error(self.out, source))
    }

    fn reject(&mut self, id: String, place: Place, count: usize, reason: String) {
        self.counts[count].rejected += 1;
        let rejection = Rejection { id, place, pass: self.counts[count].pass.clone(), reason, others: Vec::new() };
        self.rejections.push((self.read, rejection));
    }

    /// Runs the passes over the set on the sketches; a verdict, or none, for each spooled record.
    fn judge(&mut self) -> Vec<Option<Verdict>> {
        let mut verdicts: Vec<Option<Verdict>> = self.places.iter().map(|_| None).collect();
        let first = self.counts.len() - self.sketches.len();
        let passes = self.pipeline.set_passes().iter().zip(&self.sketches);
        for ((pass, sketches), count) in passes.zip(&mut self.counts[first..]) {
            let left: Vec<Sketch<'_>> = sketches
                .iter()
                .enumerate()
                .filter(|(index, _)| verdicts[*index].is_none())
                .map(|(index, words)| Sketch { index, words })
                .collect();
            let reached = left.len() as u64;
            for finding in pass.judge(&left) {
                let others = finding.others.iter().filter_map(|other| self.places.get(*other));
                let verdict =
                    Verdict { pass: pass.name().to_owned(), reason: finding.reason, others: others.cloned().collect() };
                if let Some(none @ None) = verdicts.get_mut(finding.index) {
                    *none = Some(verdict);
                    count.rejected += 1;
                }
            }
            count.kept = reached - count.rejected;
        }
        verdicts
    }

    /// Copies the spooled records that have no verdict to the output, and closes the account.
    fn write(mut self, verdicts: Vec<Option<Verdict>>) -> Result<Report> {
        let out = self.out;
        let failed = |source| write_error(out, source);
        let mut spool = self.spool.into_inner().map_err(|error| failed(error.into_error()))?;
        std::io::Seek::rewind(&mut spool).map_err(failed)?;
        let mut spool = BufReader::with_capacity(1 << 16, spool);
        let mut draft = Draft::new(out)?;
        let mut line = Vec::new();
        let kept = verdicts.iter().filter(|verdict| verdict.is_none()).count();
        for ((verdict, place), order) in verdicts.into_iter().zip(self.places).zip(self.order) {
            line.clear();
            spool.read_until(b'\n', &mut line).map_err(failed)?;
            let Some(Verdict { pass, reason, others }) = verdict else {
                draft.write(&line)?;
                continue;
            };
            let record: Record = serde_json::from_slice(&line).map_err(|error| failed(error.into()))?;
            let id = record_id(&record);
            self.rejections.push((order, Rejection { id, place, pass, reason, others }));
        }
        draft.finish()?;
        self.rejections.sort_by_key(|(order, _)| *order);
        Ok(Report {
            read: self.read as u64,
            kept: kept as u64,
            rejected: self.rejections.len() as u64,
            passes: self.counts,
            rejections: self.rejections.into_iter().map(|(_, rejection)| rejection).collect(),
        })
    }
}

/// The record's id, or the hash of its messages.
fn record_id(record: &Record) -> String {
    record.id.clone().unwrap_or_else(|| {
        let mut bytes = Vec::new();
        for message in &record.messages {
            bytes.extend_from_slice(format!("{:?}\0{}\0", message.role, message.content).as_bytes());
        }
        content_id(&bytes)
    })
}
