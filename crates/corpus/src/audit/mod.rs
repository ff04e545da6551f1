//! Audits: statistics of the kept records. They reject nothing.

mod class_balance;
mod class_words;

use std::fmt::Debug;

use serde::Serialize;

pub use class_balance::{ClassBalance, ClassBalanceReport, ClassCount};
pub use class_words::{ClassWord, ClassWords, ClassWordsReport};

use foehn_record::Record;

/// Statistics over the records that cleaning keeps.
pub trait Audit: Debug + Send + Sync {
    /// The audit's name.
    fn name(&self) -> &'static str;

    /// Starts counting.
    fn tally(&self) -> Box<dyn Tally>;
}

/// An audit that is counting.
pub trait Tally {
    /// Counts one record.
    fn add(&mut self, record: &Record);

    /// The result.
    fn section(self: Box<Self>) -> Section;
}

/// The result of an audit. In JSON it is an object whose `audit` names the kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "audit", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Section {
    /// The number of records of each class.
    ClassBalance(ClassBalanceReport),
    /// The words that reveal a class.
    ClassWords(ClassWordsReport),
}
