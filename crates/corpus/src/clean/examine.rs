//! Examines a single record; this may run on any thread.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::facts::Facts;
use crate::output::Columns;
use crate::pipeline::{Outcome, Pipeline};
use crate::read::{Line, Place, Unreadable};
use crate::report::{Change, Shown};
use crate::said::{calls_form, shown, tools_form};
use crate::text::content_id;
use foehn_record::{Message, Record};

/// Runs the passes over single records.
pub(super) struct Examiner<'a> {
    pub pipeline: &'a Pipeline,
    pub keep: &'a BTreeSet<String>,
    /// For each pass, whether enough of its repairs have been collected for the report. This only avoids unnecessary
    /// work.
    pub shown: Vec<AtomicBool>,
    /// Whether the columns are needed that each record has in a table.
    pub with_columns: bool,
}

/// A record, examined.
pub(super) struct Examined {
    pub entry: Entry,
    /// For a record that goes on to the passes over the set.
    pub stored: Option<Stored>,
}

/// What is counted and reported of a record.
#[derive(Debug)]
pub(super) struct Entry {
    pub place: Place,
    /// The parts of the record that were left out.
    pub left_out: Vec<String>,
    pub fate: Fate,
}

/// The id of a record is its own, or the hash of its content as it was read.
#[derive(Debug)]
pub(super) enum Fate {
    /// It could not be read as a record.
    Unreadable { id: String, reason: String, shown: Shown },
    /// A pass rejects it.
    Rejected {
        id: String,
        changed: Vec<bool>,
        repairs: Vec<(usize, Change)>,
        pass: usize,
        reason: String,
        shown: Shown,
    },
    /// It goes on to the passes over the set.
    Passed {
        changed: Vec<bool>,
        repairs: Vec<(usize, Change)>,
        /// The id, if the caller asked to keep the record.
        keep: Option<String>,
        /// The pass that would have rejected it, with the reason, if the caller had not asked to keep it.
        overruled: Option<(usize, String)>,
        /// The passes that flag it, with their reasons.
        flags: Vec<(usize, String)>,
        facts: Facts,
    },
}

/// What the passes over the set and the output need of a record.
pub(super) struct Stored {
    pub id: String,
    pub json: serde_json::Result<Vec<u8>>,
    /// The sketches of the passes over the set.
    pub sketches: Vec<Vec<u64>>,
    /// The columns that the record has in a table, if they are needed.
    pub columns: Columns,
}

impl<'a> Examiner<'a> {
    pub fn new(pipeline: &'a Pipeline, keep: &'a BTreeSet<String>) -> Self {
        let shown = pipeline.passes().iter().map(|_| false.into()).collect();
        Self { pipeline, keep, shown, with_columns: false }
    }

    pub fn examine(&self, Line { place, record, left_out }: Line) -> Examined {
        let mut record = match record {
            Ok(record) => record,
            Err(Unreadable { id, fault, excerpt }) => {
                let shown = Shown::raw(&self.pipeline.redacted(&excerpt));
                let fate = Fate::Unreadable { id, reason: fault.to_string(), shown };
                return Examined { entry: Entry { place, left_out, fate }, stored: None };
            }
        };
        let id = record.id.clone().unwrap_or_else(|| id_of(&record));
        let before = record.messages.clone();
        let Outcome { changed, rejected, flags } = self.pipeline.run(&mut record);
        let repairs = self.repairs(&place, &id, &before, &record, &changed);
        let keep = self.keep.contains(&id).then(|| id.clone());
        let (overruled, rejected) = if keep.is_some() { (rejected, None) } else { (None, rejected) };
        if let Some((pass, reason)) = rejected {
            let shown = Shown::record(&record.messages, self.pipeline);
            let fate = Fate::Rejected { id, changed, repairs, pass, reason, shown };
            return Examined { entry: Entry { place, left_out, fate }, stored: None };
        }
        let facts = Facts::of(&record, place.line);
        let mut columns = Columns::default();
        if self.with_columns {
            columns.add(&record);
        }
        let stored = Stored {
            id,
            json: serde_json::to_vec(&record),
            sketches: self.pipeline.set_passes().iter().map(|pass| pass.sketch(&record)).collect(),
            columns,
        };
        let fate = Fate::Passed { changed, repairs, keep, overruled, flags, facts };
        Examined { entry: Entry { place, left_out, fate }, stored: Some(stored) }
    }

    /// The changes that each pass makes to the record by itself. For a pass that only repairs what other passes leave,
    /// the changes that they make together.
    fn repairs(
        &self,
        place: &Place,
        id: &str,
        before: &[Message],
        after: &Record,
        changed: &[bool],
    ) -> Vec<(usize, Change)> {
        let wanted =
            |at: &usize| changed[*at] && !self.shown.get(*at).is_some_and(|shown| shown.load(Ordering::Relaxed));
        let change = |before: &[Message], after: &[Message]| {
            let (before, after) = first_change(before, after)?;
            let text = |message: Option<&Message>| {
                message.map(|message| self.pipeline.redacted(&shown(message)).into_owned()).unwrap_or_default()
            };
            Some(Change::new(place.clone(), id.to_owned(), &text(before), &text(after)))
        };
        let repair = |at: usize| {
            let mut alone = Record { messages: before.to_vec(), ..after.clone() };
            self.pipeline.passes()[at].repair(&mut alone);
            change(before, &alone.messages).or_else(|| change(before, &after.messages)).map(|change| (at, change))
        };
        (0..changed.len()).filter(wanted).filter_map(repair).collect()
    }
}

/// The first message that a pass changed or removed, and what it became.
fn first_change<'a>(before: &'a [Message], after: &'a [Message]) -> Option<(Option<&'a Message>, Option<&'a Message>)> {
    let at = (0..before.len().max(after.len())).find(|at| before.get(*at) != after.get(*at))?;
    let removed = before.len().saturating_sub(after.len());
    let is_removed = removed > 0 && before.get(at + removed..) == after.get(at..);
    Some((before.get(at), after.get(at).filter(|_| !is_removed)))
}

/// The id of a record without one: the hash of its tools and messages.
fn id_of(record: &Record) -> String {
    let mut bytes = Vec::new();
    bytes.extend(tools_form(record).into_iter().flat_map(String::into_bytes));
    for message in &record.messages {
        bytes.extend_from_slice(format!("{:?}\0{}\0", message.role, message.content).as_bytes());
        for more in message.reasoning_content.clone().into_iter().chain(calls_form(message)) {
            bytes.extend_from_slice(format!("{more}\0").as_bytes());
        }
    }
    if let Some(rejected) = &record.rejected {
        bytes.extend_from_slice(format!("Rejected\0{rejected}\0").as_bytes());
    }
    content_id(&bytes)
}
