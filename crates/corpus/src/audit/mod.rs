//! The audits: what is said of the set that is kept, and rejected of nothing.

mod class_balance;
mod class_words;

use std::fmt::Debug;

use serde::Serialize;

pub use class_balance::{ClassBalance, ClassBalanceReport, ClassCount};
pub use class_words::{ClassWord, ClassWords, ClassWordsReport};

use foehn_record::Record;

/// A count over the records that cleaning keeps.
pub trait Audit: Debug + Send + Sync {
    /// The audit's name.
    fn name(&self) -> &'static str;

    /// A fresh count.
    fn tally(&self) -> Box<dyn Tally>;
}

/// A count under way.
pub trait Tally {
    /// Counts one record.
    fn add(&mut self, record: &Record);

    /// What was found.
    fn section(self: Box<Self>) -> Section;
}

/// What an audit found, in JSON an object whose `audit` names its kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "audit", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Section {
    /// How many records each class has.
    ClassBalance(ClassBalanceReport),
    /// The words that give a class away.
    ClassWords(ClassWordsReport),
}
