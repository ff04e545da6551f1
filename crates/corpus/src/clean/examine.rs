//! Examines a single record; this may run on any thread.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::facts::Facts;
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
}

/// A record, examined.
pub(super) struct Examined {
    pub place: Place,
    /// The record's id, or the hash of its content as it was read.
    pub id: String,
    /// The parts of the record that were left out.
    pub left_out: Vec<String>,
    pub fate: Fate,
}

pub(super) enum Fate {
    /// It could not be read as a record.
    Unreadable { reason: String, shown: Shown },
    /// A pass rejects it.
    Rejected { changed: Vec<bool>, repairs: Vec<(usize, Change)>, pass: usize, reason: String, shown: Shown },
    /// It goes on to the passes over the set. `overruled` names the pass that would have rejected it, with the reason,
    /// if the caller asked to keep it.
    Passed {
        changed: Vec<bool>,
        repairs: Vec<(usize, Change)>,
        overruled: Option<(usize, String)>,
        /// The passes that flag it, with their reasons.
        flags: Vec<(usize, String)>,
        json: serde_json::Result<Vec<u8>>,
        /// The sketches of the passes over the set.
        sketches: Vec<Vec<u64>>,
        facts: Facts,
    },
}

impl Examiner<'_> {
    pub fn examine(&self, Line { place, record, left_out }: Line) -> Examined {
        let mut record = match record {
            Ok(record) => record,
            Err(Unreadable { id, fault, excerpt }) => {
                let fate = Fate::Unreadable {
                    reason: fault.to_string(),
                    shown: Shown::raw(&self.pipeline.redacted(&excerpt)),
                };
                return Examined { place, id, left_out, fate };
            }
        };
        let id = record.id.clone().unwrap_or_else(|| id_of(&record));
        let before = record.messages.clone();
        let Outcome { changed, rejected, flags } = self.pipeline.run(&mut record);
        let repairs = self.repairs(&place, &id, &before, &record, &changed);
        let (overruled, rejected) = if self.keep.contains(&id) { (rejected, None) } else { (None, rejected) };
        let fate = match rejected {
            Some((pass, reason)) => {
                let shown = Shown::record(&record.messages, self.pipeline);
                Fate::Rejected { changed, repairs, pass, reason, shown }
            }
            None => Fate::Passed {
                changed,
                repairs,
                overruled,
                flags,
                json: serde_json::to_vec(&record),
                sketches: self.pipeline.set_passes().iter().map(|pass| pass.sketch(&record)).collect(),
                facts: Facts::of(&record, place.line),
            },
        };
        Examined { place, id, left_out, fate }
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
