//! The passes: what repairs a record, what refuses it, and what judges it beside the others.

mod asks_again;
mod conflicts;
mod contamination;
mod control_text;
mod duplicates;
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
pub use language::Language;
pub use length::{Length, TokenCounter};
pub use lexicon::{OffTarget, SenseLexicon};
pub use markup::{Markup, MarkupAction};
pub use mojibake::Mojibake;
pub use near_duplicates::{NearDuplicates, NearOthers};
pub use pii::{Pii, PiiAction, PiiKind};
pub use refusals::Refusals;
pub use repetition::Repetition;
pub use runs_on::RunsOn;
pub use structure::Structure;
pub use truncated::Truncated;
pub use unicode::{Controls, Normalise, Trim};

use serde::{Deserialize, Serialize};

use foehn_record::Record;

/// A pass that looks at one record by itself.
///
/// A [`Pipeline`](crate::Pipeline) lets every pass repair, over and over, until no pass changes anything; only then it
/// lets every pass check. So a check sees settled text, and cleaning what is clean changes nothing.
pub trait Pass: Debug + Send + Sync {
    /// The name under which the report counts the pass.
    fn name(&self) -> &'static str;

    /// Repairs the record in place, and says whether that changed anything.
    fn repair(&self, _record: &mut Record) -> bool {
        false
    }

    /// The reason to reject the record, or `None` to keep it.
    fn check(&self, _record: &Record) -> Option<String> {
        None
    }

    /// The reason to flag a record that [`check`](Self::check) keeps: what may be a fault there, and may be meant.
    fn doubt(&self, _record: &Record) -> Option<String> {
        None
    }

    /// Whether the pass judges records. One that only repairs them has no [`Verdict`] to set.
    fn judges(&self) -> bool {
        true
    }

    /// Takes what counts tokens, if the pass limits them.
    fn count_with(&mut self, _counter: &Arc<dyn TokenCounter>) {}

    /// Whether the pass limits tokens, and nobody has given it what [counts](Self::count_with) them.
    fn lacks_counter(&self) -> bool {
        false
    }

    /// The text with what a report must not repeat masked, if there is any.
    fn redact(&self, _text: &str) -> Option<String> {
        None
    }
}

/// A pass that compares records with one another.
///
/// It sees each record once, and remembers numbers alone: a set of any size is judged in a few words of memory a record.
/// What takes more than that, such as a true Jaccard index, is asked of the [`suspects`](Self::suspects) alone.
pub trait SetPass: Debug + Send + Sync {
    /// The name under which the report counts the pass.
    fn name(&self) -> &'static str;

    /// The numbers, hashes mostly, that the pass remembers of a record. They depend on nothing but the record.
    fn sketch(&self, record: &Record) -> Vec<u64>;

    /// The indices of the records that cannot be judged by their sketches, in any order; none unless a pass says so.
    fn suspects(&self, _sketches: &[Sketch<'_>]) -> Vec<usize> {
        Vec::new()
    }

    /// The numbers that judging a suspect takes. They depend on nothing but the record.
    fn evidence(&self, _record: &Record) -> Vec<u64> {
        Vec::new()
    }

    /// The records to reject, given the sketches of all that are left, in their order, with the evidence of suspects.
    fn judge(&self, sketches: &[Sketch<'_>]) -> Vec<Finding>;

    /// The records to flag beside those that [`judge`](Self::judge) rejects: what may be a fault there, and may be meant.
    fn doubts(&self, _sketches: &[Sketch<'_>]) -> Vec<Finding> {
        Vec::new()
    }
}

/// What becomes of a record in which a pass finds something.
///
/// A pass has its own mind: it rejects what is surely a fault, and flags what may be meant. A pipeline can set one verdict
/// for all that a pass finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The record goes, and the report says why.
    Reject,
    /// The record stays, and the report says what to look at.
    Flag,
}

/// What a [`SetPass`] remembers of one record.
#[derive(Clone, Copy, Debug)]
pub struct Sketch<'a> {
    /// The record's place in the set. Indices ascend; those of records that earlier passes rejected are missing.
    pub index: usize,
    /// What [`SetPass::sketch`] made of it.
    pub words: &'a [u64],
    /// What [`SetPass::evidence`] made of it, if it is a suspect; else empty.
    pub evidence: &'a [u64],
}

/// A record that a [`SetPass`] rejects or flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The index of the record.
    pub index: usize,
    /// The indices of the records because of which it is.
    pub others: Vec<usize>,
    /// Why, in words that make sense before the places of the others.
    pub reason: String,
}

/// Repairs every message's text; true if any changed.
fn repair_messages(record: &mut Record, repair: impl Fn(&str) -> Option<String>) -> bool {
    let mut changed = false;
    for message in &mut record.messages {
        if let Some(repaired) = repair(&message.content) {
            changed |= repaired != message.content;
            message.content = repaired;
        }
    }
    changed
}
