//! The passes: they repair records, reject or flag single records, and compare records with each other.

mod asks_again;
mod conflicts;
mod contamination;
mod control_text;
mod duplicates;
mod labels;
mod language;
mod length;
mod lexicon;
mod markup;
mod mojibake;
mod near_duplicates;
mod pii;
mod refusals;
mod repetition;
mod runs_on;
mod settings;
mod skeleton;
mod structure;
mod truncated;
mod unicode;

use std::fmt::Debug;
use std::sync::Arc;

pub use asks_again::AsksAgain;
pub use conflicts::Conflicts;
pub use contamination::{Contamination, ContaminationSettings};
pub use control_text::ControlText;
pub use duplicates::Duplicates;
pub use labels::Labels;
pub use language::Language;
pub use length::{Length, TokenCounter};
pub use lexicon::{Lexicon, OffTarget};
pub use markup::{Markup, MarkupAction};
pub use mojibake::Mojibake;
pub use near_duplicates::{NearDuplicates, NearOthers};
pub use pii::{Pii, PiiAction, PiiKind};
pub use refusals::Refusals;
pub use repetition::Repetition;
pub use runs_on::RunsOn;
pub use structure::{LeadingAssistant, SameSpeaker, Structure, SystemPrompt, TrailingUser};
pub use truncated::Truncated;
pub use unicode::{Controls, Normalise, Trim};

use serde::{Deserialize, Serialize};

use crate::said::repaired_arguments;
use foehn_record::Record;

/// A pass over single records.
///
/// A [`Pipeline`](crate::Pipeline) first repeats the repairs of all passes until none changes anything, and only then
/// runs the checks. So a check sees the final text, and cleaning a clean record changes nothing.
pub trait Pass: Debug + Send + Sync {
    /// The name of the pass in the report.
    fn name(&self) -> &'static str;

    /// Repairs the record in place. Returns whether the record was changed.
    fn repair(&self, _record: &mut Record) -> bool {
        false
    }

    /// The reason to reject the record; `None` to keep it.
    fn check(&self, _record: &Record) -> Option<String> {
        None
    }

    /// The reason to flag a record that [`check`](Self::check) keeps: something that may be a fault or may be intended.
    fn doubt(&self, _record: &Record) -> Option<String> {
        None
    }

    /// Whether the pass judges records. For a pass that only repairs them, no [`Verdict`] can be set.
    fn judges(&self) -> bool {
        true
    }

    /// Takes a token counter, if the pass limits tokens.
    fn count_with(&mut self, _counter: &Arc<dyn TokenCounter>) {}

    /// Whether the pass limits tokens but has no [token counter](Self::count_with).
    fn lacks_counter(&self) -> bool {
        false
    }

    /// The text with everything masked that a report must not show; `None` if there is nothing to mask.
    fn redact(&self, _text: &str) -> Option<String> {
        None
    }
}

/// A pass that compares records with each other.
///
/// It sees each record once, and remembers only numbers. So a set of any size takes a few words of memory per record.
/// Larger data, such as for an exact Jaccard index, is computed only for the [`suspects`](Self::suspects).
pub trait SetPass: Debug + Send + Sync {
    /// The name of the pass in the report.
    fn name(&self) -> &'static str;

    /// The numbers, usually hashes, that the pass remembers of a record. They must depend only on the record.
    fn sketch(&self, record: &Record) -> Vec<u64>;

    /// The keys by which a sketch is compared with others; `None` if the record has to be among those that are judged.
    ///
    /// A record is left out if for each of its keys there is no other entry with the same hash, or none that
    /// [seeks](Key::seeks). The findings must not depend on records that are left out. So for a large set of which little is
    /// compared, [`judge_parts`](crate::judge_parts) loads few sketches. Different keys with the same hash do no harm.
    fn keys(&self, _words: &[u64]) -> Option<Vec<Key>> {
        None
    }

    /// The indices of the records that cannot be judged by their sketches alone, in any order. By default there are
    /// none.
    fn suspects(&self, _sketches: &[Sketch<'_>]) -> Vec<usize> {
        Vec::new()
    }

    /// The numbers that are needed to judge a suspect. They must depend only on the record.
    fn evidence(&self, _record: &Record) -> Vec<u64> {
        Vec::new()
    }

    /// The records to reject. `sketches` has all records that are left, in order, with the evidence of suspects.
    fn judge(&self, sketches: &[Sketch<'_>]) -> Vec<Finding>;

    /// The records to flag besides those that [`judge`](Self::judge) rejects: they have something that may be a fault
    /// or may be intended.
    fn doubts(&self, _sketches: &[Sketch<'_>]) -> Vec<Finding> {
        Vec::new()
    }
}

/// What happens to a record in which a pass finds something.
///
/// By default, a pass rejects definite faults and flags what may be intended. A pipeline can set one verdict for all
/// findings of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The record is removed, and the report says why.
    Reject,
    /// The record is kept, and the report says what to check.
    Flag,
}

/// The numbers that a [`SetPass`] remembers of one record.
#[derive(Clone, Copy, Debug)]
pub struct Sketch<'a> {
    /// The index of the record in the set. Indices are ascending; those of records that earlier passes rejected are
    /// missing.
    pub index: usize,
    /// The result of [`SetPass::sketch`].
    pub words: &'a [u64],
    /// The result of [`SetPass::evidence`] for a suspect; otherwise empty.
    pub evidence: &'a [u64],
}

/// A key of a sketch: records with the same key are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The hash of the key.
    pub hash: u64,
    /// Whether the record looks for others with this key, or only lets itself be found.
    pub seeks: bool,
}

/// A record that a [`SetPass`] rejects or flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The index of the record.
    pub index: usize,
    /// The indices of the other records because of which it is rejected or flagged.
    pub others: Vec<usize>,
    /// The reason, worded so that the places of the other records can follow.
    pub reason: String,
}

/// Repairs the text and the reasoning of every message, and the rejected answer. Returns whether any changed.
fn repair_messages(record: &mut Record, repair: impl Fn(&str) -> Option<String>) -> bool {
    let mut changed = false;
    let said = record
        .messages
        .iter_mut()
        .flat_map(|message| [&mut message.content].into_iter().chain(&mut message.reasoning_content));
    for text in said.chain(&mut record.rejected) {
        if let Some(repaired) = repair(text) {
            changed |= repaired != *text;
            *text = repaired;
        }
    }
    changed
}

/// Repairs the texts inside the arguments of calls. Returns whether any changed.
///
/// Only faults of characters are repaired there, and personal data: white space and markup may be meant.
fn repair_calls(record: &mut Record, repair: impl Fn(&str) -> Option<String>) -> bool {
    let mut changed = false;
    for call in record.messages.iter_mut().flat_map(|message| &mut message.tool_calls) {
        if let Some(repaired) = repaired_arguments(&call.function.arguments, &repair) {
            call.function.arguments = repaired;
            changed = true;
        }
    }
    changed
}
