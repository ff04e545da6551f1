//! What is counted and reported of a record, as bytes.
//!
//! Of a record that is passed on, the length of its stored form follows the entry. An entry names its file by its index among the part's files. It has no text of a record but in the samples that the
//! report may show.

use std::path::Path;
use std::sync::Arc;

use super::code::{Code, coded};
use crate::clean::examine::{Entry, Fate};
use crate::read::Place;
use crate::report::{Change, Shown, Turn};
use foehn_record::Role;

/// The number of passes over single records, and the part's files; both bound what an entry may name.
pub(super) struct Bounds<'a> {
    pub passes: usize,
    pub files: &'a [Arc<Path>],
}

/// The texts around a change. Its place is that of its record.
struct Repair {
    pass: usize,
    id: String,
    before: String,
    after: String,
}

coded!(Repair { pass, id, before, after });

/// The fates of a record.
const UNREADABLE: u8 = 0;
const REJECTED: u8 = 1;
const PASSED: u8 = 2;

/// An entry, with the index of its file.
pub(super) fn put(entry: &Entry, file: usize, to: &mut Vec<u8>) {
    let Entry { place, left_out, fate } = entry;
    file.put(to);
    place.line.put(to);
    left_out.put(to);
    match fate {
        Fate::Unreadable { id, reason, shown } => {
            UNREADABLE.put(to);
            id.put(to);
            reason.put(to);
            shown.put(to);
        }
        Fate::Rejected { id, changed, repairs, pass, reason, shown } => {
            REJECTED.put(to);
            put_changes(changed, repairs, to);
            id.put(to);
            pass.put(to);
            reason.put(to);
            shown.put(to);
        }
        Fate::Passed { changed, repairs, keep, overruled, flags, facts } => {
            PASSED.put(to);
            put_changes(changed, repairs, to);
            keep.put(to);
            overruled.put(to);
            flags.put(to);
            facts.put(to);
        }
    }
}

/// The entry that these bytes are. `None` if they are none, or if it names a pass or a file that there is not.
pub(super) fn get(mut from: &[u8], bounds: &Bounds<'_>) -> Option<Entry> {
    let from = &mut from;
    let file = Arc::clone(bounds.files.get(usize::get(from)?)?);
    let place = Place { file, line: u64::get(from)? };
    let left_out = Vec::get(from)?;
    let is_known = |pass: usize| pass < bounds.passes;
    let fate = match u8::get(from)? {
        UNREADABLE => Fate::Unreadable { id: String::get(from)?, reason: String::get(from)?, shown: Shown::get(from)? },
        REJECTED => {
            let (changed, repairs) = get_changes(from, &place, bounds)?;
            let id = String::get(from)?;
            let pass = usize::get(from).filter(|pass| is_known(*pass))?;
            Fate::Rejected { id, changed, repairs, pass, reason: String::get(from)?, shown: Shown::get(from)? }
        }
        PASSED => {
            let (changed, repairs) = get_changes(from, &place, bounds)?;
            let keep = Option::get(from)?;
            let overruled: Option<(usize, String)> = Option::get(from)?;
            let flags: Vec<(usize, String)> = Vec::get(from)?;
            if !overruled.iter().chain(&flags).all(|(pass, _)| is_known(*pass)) {
                return None;
            }
            Fate::Passed { changed, repairs, keep, overruled, flags, facts: Code::get(from)? }
        }
        _ => return None,
    };
    from.is_empty().then_some(Entry { place, left_out, fate })
}

/// For each pass, whether it changed the record; and the samples of the changes, each with the index of its pass.
type Changes = (Vec<bool>, Vec<(usize, Change)>);

/// The passes that changed the record, by their index, and the samples of their changes.
fn put_changes(changed: &[bool], repairs: &[(usize, Change)], to: &mut Vec<u8>) {
    let passes: Vec<usize> = (0..changed.len()).filter(|pass| changed[*pass]).collect();
    passes.put(to);
    let repair = |(pass, change): &(usize, Change)| {
        let Change { id, before, after, .. } = change.clone();
        Repair { pass: *pass, id, before, after }
    };
    repairs.iter().map(repair).collect::<Vec<_>>().put(to);
}

fn get_changes(from: &mut &[u8], place: &Place, bounds: &Bounds<'_>) -> Option<Changes> {
    let mut changed = vec![false; bounds.passes];
    for pass in Vec::<usize>::get(from)? {
        *changed.get_mut(pass)? = true;
    }
    let repairs = Vec::<Repair>::get(from)?.into_iter().map(|Repair { pass, id, before, after }| {
        (pass < bounds.passes).then(|| (pass, Change { id, place: place.clone(), before, after }))
    });
    Some((changed, repairs.collect::<Option<_>>()?))
}

impl Code for Shown {
    fn put(&self, to: &mut Vec<u8>) {
        self.0.put(to);
    }

    fn get(from: &mut &[u8]) -> Option<Self> {
        Vec::get(from).map(Self)
    }
}

coded!(Turn { role, text });

impl Code for Role {
    fn put(&self, to: &mut Vec<u8>) {
        to.push(ROLES.iter().position(|role| role == self).unwrap_or_default() as u8);
    }

    fn get(from: &mut &[u8]) -> Option<Self> {
        ROLES.get(usize::from(u8::get(from)?)).copied()
    }
}

const ROLES: [Role; 4] = [Role::System, Role::User, Role::Assistant, Role::Tool];
