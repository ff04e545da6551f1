//! Sample records for each reason, and sample repairs of each pass.

use std::collections::BTreeMap;

use serde::Serialize;

use super::PassReport;
use crate::pipeline::Pipeline;
use crate::read::{EXCERPT, Place};
use crate::said::shown;
use crate::similar::{HashedMap, hash_bytes};
use foehn_record::{Message, Role};

/// The number of samples per reason, and of repairs per pass.
const SAMPLES: usize = 10;

/// The largest number of kinds of reasons per pass. A caller's own pass may give each record another reason.
const KINDS: usize = 40;

/// The number of messages that are shown of a conversation.
const TURNS: usize = 6;

/// A kind of reason, and how often it occurred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The pass.
    pub pass: String,
    /// The reason, with `…` in place of quoted text and N in place of numbers.
    pub reason: String,
    /// The number of records rejected or flagged for this reason.
    pub count: u64,
    /// The first ten of these records.
    pub samples: Vec<Sample>,
}

/// A rejected or flagged record, for people to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// The index of the record among the report's rejections, or among its flags, from 0.
    pub rejection: usize,
    /// The conversation after the repairs, or the raw text if it could not be read.
    pub text: Vec<Turn>,
    /// The conversation of the first of the other records because of which it was rejected or flagged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other: Vec<Turn>,
}

/// A message, shortened if it is long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Turn {
    /// The role; `None` if the text is not a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The text. `[…]` stands for parts that are left out.
    pub text: String,
}

/// Some of the repairs of one pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repairs {
    /// The pass.
    pub pass: String,
    /// The first ten records that the pass changed.
    pub changes: Vec<Change>,
}

/// A change that a pass made to a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The record's id, or the hash of its content.
    pub id: String,
    /// The place where it was read.
    #[serde(flatten)]
    pub place: Place,
    /// The text around the first change, before the repair.
    pub before: String,
    /// The same text after the repair.
    pub after: String,
}

/// The part of a record that is shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown(pub(crate) Vec<Turn>);

impl Shown {
    /// The first messages and the last message of a conversation.
    pub fn record(messages: &[Message], pipeline: &Pipeline) -> Self {
        let text = |message: &Message| excerpt(&pipeline.redacted(&shown(message)));
        let turn = |message: &Message| Turn { role: Some(message.role), text: text(message) };
        if messages.len() <= TURNS {
            return Self(messages.iter().map(turn).collect());
        }
        let (head, rest) = messages.split_at(2);
        let (left_out, tail) = rest.split_at(rest.len() + 2 - TURNS);
        let gap = Turn { role: None, text: format!("[… {} messages …]", left_out.len()) };
        Self(head.iter().map(turn).chain([gap]).chain(tail.iter().map(turn)).collect())
    }

    /// The text of something that is not a record.
    pub fn raw(text: &str) -> Self {
        Self(vec![Turn { role: None, text: excerpt(text) }])
    }
}

impl Change {
    /// The number of characters shown before a change, and the number shown from there on.
    const BEFORE: usize = 60;
    const SHOWN: usize = 300;

    pub(crate) fn new(place: Place, id: String, before: &str, after: &str) -> Self {
        let same = before.chars().zip(after.chars()).take_while(|(before, after)| before == after).count();
        let window = |text: &str| {
            let start = same.saturating_sub(Self::BEFORE);
            let shown: String = text.chars().skip(start).take(Self::SHOWN).collect();
            let is_cut = text.chars().nth(start + Self::SHOWN).is_some();
            format!("{}{shown}{}", if start > 0 { "[…] " } else { "" }, if is_cut { " […]" } else { "" })
        };
        Self { id, place, before: window(before), after: window(after) }
    }
}

/// Which samples of a part of a set the report of the whole set may need: the first of each kind.
#[derive(Debug, Default)]
pub(crate) struct Needed {
    /// The number of records for each kind of reason of a pass; the keys are hashes.
    reasons: HashedMap<u8>,
    /// The number of repairs of each pass.
    repairs: BTreeMap<usize, usize>,
}

impl Needed {
    /// Whether the report may show a record that is rejected for this reason.
    ///
    /// All records of one kind are counted together in [`Samples`], even where there are too many kinds. So after the
    /// first of a kind, no other is shown.
    pub fn rejected(&mut self, pass: &str, reason: &str) -> bool {
        let kind = hash_bytes(kind_of(reason).as_bytes(), hash_bytes(pass.as_bytes(), 0));
        let count = self.reasons.entry(kind).or_default();
        *count = count.saturating_add(1);
        usize::from(*count) <= SAMPLES
    }

    /// Whether the report may show a repair of the pass with this index, and whether it was the last one.
    pub fn repaired(&mut self, pass: usize) -> (bool, bool) {
        let count = self.repairs.entry(pass).or_default();
        *count += 1;
        (*count <= SAMPLES, *count >= SAMPLES)
    }
}

/// The samples collected so far.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    /// The kinds of reasons for each pass.
    reasons: BTreeMap<String, BTreeMap<String, Kind>>,
    /// The repairs of each pass, by its index in the pipeline.
    repairs: BTreeMap<usize, Repairs>,
}

#[derive(Debug, Default)]
struct Kind {
    count: u64,
    samples: Vec<Collected>,
}

#[derive(Debug)]
struct Collected {
    /// The number of records read up to this one.
    order: usize,
    shown: Shown,
    /// The index of the stored record because of which it was rejected.
    other: Option<usize>,
    other_shown: Option<Shown>,
}

impl Samples {
    /// Counts a rejection, and keeps it as a sample while there are few of its kind.
    pub fn rejected(
        &mut self,
        order: usize,
        pass: &str,
        reason: &str,
        shown: impl FnOnce() -> Shown,
        other: Option<usize>,
    ) {
        if !self.reasons.contains_key(pass) {
            self.reasons.insert(pass.to_owned(), BTreeMap::new());
        }
        let Some(kinds) = self.reasons.get_mut(pass) else { return };
        let mut kind = kind_of(reason);
        if kinds.len() >= KINDS && !kinds.contains_key(&kind) {
            kind = "other reasons".to_owned();
        }
        let kind = kinds.entry(kind).or_default();
        kind.count += 1;
        if kind.samples.len() < SAMPLES {
            kind.samples.push(Collected { order, shown: shown(), other, other_shown: None });
        }
    }

    /// Keeps a repair as a sample while the pass has few of them. Returns true when there are enough.
    pub fn repaired(&mut self, at: usize, pass: &str, change: Change) -> bool {
        let repairs = self.repairs.entry(at).or_insert_with(|| Repairs { pass: pass.to_owned(), changes: Vec::new() });
        if repairs.changes.len() < SAMPLES {
            repairs.changes.push(change);
        }
        repairs.changes.len() == SAMPLES
    }

    /// The stored records that must be shown beside other records.
    pub fn others(&self) -> std::collections::BTreeSet<usize> {
        self.collected().filter_map(|collected| collected.other).collect()
    }

    pub fn show_other(&mut self, index: usize, shown: &Shown) {
        let kinds = self.reasons.values_mut().flat_map(BTreeMap::values_mut);
        let all = kinds.flat_map(|kind| kind.samples.iter_mut());
        all.filter(|collected| collected.other == Some(index)).for_each(|collected| {
            collected.other_shown = Some(shown.clone());
        });
    }

    /// The samples for the report. `rejection` maps the position among all records read to the index among the
    /// rejections.
    pub fn finish(
        self,
        passes: &[PassReport],
        rejection: impl Fn(usize) -> Option<usize>,
    ) -> (Vec<Reason>, Vec<Repairs>) {
        let mut reasons = Vec::new();
        let mut by_pass = self.reasons;
        for PassReport { pass, .. } in passes {
            // Two passes with the same name share their reasons.
            let Some(kinds) = by_pass.remove(pass) else { continue };
            let mut kinds: Vec<Reason> = kinds
                .into_iter()
                .map(|(reason, kind)| Reason {
                    pass: pass.clone(),
                    reason,
                    count: kind.count,
                    samples: kind.samples.into_iter().filter_map(|collected| collected.finish(&rejection)).collect(),
                })
                .collect();
            kinds.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
            reasons.append(&mut kinds);
        }
        (reasons, self.repairs.into_values().collect())
    }

    fn collected(&self) -> impl Iterator<Item = &Collected> {
        self.reasons.values().flat_map(BTreeMap::values).flat_map(|kind| &kind.samples)
    }
}

impl Collected {
    fn finish(self, rejection: impl Fn(usize) -> Option<usize>) -> Option<Sample> {
        let other = self.other_shown.map_or_else(Vec::new, |Shown(turns)| turns);
        Some(Sample { rejection: rejection(self.order)?, text: self.shown.0, other })
    }
}

/// A reason without the parts that differ between records: `…` for text between backticks, N for numbers.
fn kind_of(reason: &str) -> String {
    let mut kind = String::with_capacity(reason.len());
    for (at, part) in reason.split('`').enumerate() {
        if at % 2 == 1 {
            kind.push_str("`…`");
            continue;
        }
        // A digit inside a word is part of a name: UTF-8, x86.
        let (mut in_number, mut in_word) = (false, false);
        for c in part.chars() {
            let is_number = c.is_ascii_digit() && !in_word;
            if is_number && !in_number {
                kind.push('N');
            } else if !is_number {
                kind.push(c);
            }
            in_number = is_number;
            in_word = !is_number && (c.is_alphanumeric() || c == '-');
        }
    }
    kind
}

/// The text, or its beginning and its end if it is long.
fn excerpt(text: &str) -> String {
    let length = text.chars().count();
    if length <= EXCERPT {
        return text.to_owned();
    }
    let (head, tail) = (EXCERPT * 2 / 3, EXCERPT / 4);
    let mut shown: String = text.chars().take(head).collect();
    shown.push_str(" […] ");
    shown.extend(text.chars().skip(length - tail));
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_a_kind_differ_in_quotes_and_numbers() {
        for (reason, kind) in [
            ("the answer goes on with `User:` (message 12)", "the answer goes on with `…` (message N)"),
            ("not JSON: EOF at line 1 column 10", "not JSON: EOF at line N column N"),
            ("`5` is Visual", "`…` is Visual"),
            ("invalid UTF-8 after byte 11", "invalid UTF-8 after byte N"),
            ("plain", "plain"),
            ("", ""),
        ] {
            assert_eq!(kind_of(reason), kind);
        }
    }

    #[test]
    fn long_texts_show_both_ends() {
        assert_eq!(excerpt("short"), "short");
        let text = format!("é{}ß", "x".repeat(5000));
        let shown = excerpt(&text);
        assert!(shown.starts_with('é') && shown.ends_with('ß') && shown.contains(" […] "));
        assert!(shown.chars().count() <= EXCERPT);
        let messages: Vec<Message> = (0..9).map(|at| Message::new(Role::User, at.to_string())).collect();
        let texts: Vec<String> =
            Shown::record(&messages, &Pipeline::new()).0.into_iter().map(|turn| turn.text).collect();
        assert_eq!(texts, ["0", "1", "[… 3 messages …]", "5", "6", "7", "8"]);
    }

    #[test]
    fn a_change_is_shown_where_it_begins() {
        let place = Place { file: std::path::Path::new("x").into(), line: 1 };
        let text = "y".repeat(400);
        let change = Change::new(place, "a".to_owned(), &format!("{text}A{text}"), &format!("{text}B{text}"));
        assert!(
            change.before.starts_with("[…] yyy") && change.before.contains("yyAyy") && change.before.ends_with(" […]")
        );
        assert!(change.after.contains("yyByy") && change.after.chars().count() < 320);
    }

    #[test]
    fn ten_of_a_kind_are_kept_and_all_are_counted() {
        let mut samples = Samples::default();
        for order in 0..25 {
            samples.rejected(order, "p", &format!("reason {order}"), || Shown::raw("x"), Some(order));
        }
        for order in 25..200 {
            samples.rejected(order, "p", &format!("own {}", "x".repeat(order)), || Shown::raw("x"), None);
        }
        assert_eq!(samples.others().len(), SAMPLES);
        samples.show_other(3, &Shown::raw("other"));
        let (reasons, _) = samples.finish(&[PassReport::new("p")], Some);
        assert_eq!(reasons.iter().map(|reason| reason.count).sum::<u64>(), 200);
        assert!(reasons.len() <= KINDS + 1 && reasons.iter().all(|reason| reason.samples.len() <= SAMPLES));
        assert_eq!(reasons[1].reason, "reason N");
        assert_eq!(reasons[1].samples[3].other[0].text, "other");
    }
}
