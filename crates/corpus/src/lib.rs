//! Cleaning of datasets: reads records, and writes clean records and a report.
//!
//! A dataset file (JSONL, JSON, CSV, TSV or Parquet) in any known form is [`read`] one record at a time, and [`clean`]ed by
//! a [`Pipeline`] of passes: some repair a record, some reject or flag one, some compare records with each other. The
//! [`CleanReport`] lists every record that is rejected or flagged, with its file, its line, the pass and the reason. An
//! [`Audit`] adds statistics of the kept records. Clean records are [`split`] by group, and [`split_proven`] proves
//! that no group, prompt or near-duplicate is on both sides. [`folds()`] keeps the same records together.
//!
//! The crate does not depend on tokens or tensors.
//!
//! ```
//! use foehn_corpus::{Pipeline, clean, read_clean, split};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let [raw, out, report] = ["raw.jsonl", "clean.jsonl", "report.json"].map(|name| folder.path().join(name));
//! std::fs::write(
//!     &raw,
//!     concat!(
//!         r#"{"id": "a", "prompt": "What modality is: â€œA bell rangâ€\u009d? ", "completion": "Auditory"}"#, "\n",
//!         r#"{"id": "b", "prompt": "Why?", "completion": "Rang is heard.\nUser: And smoke?\nAssistant: Olfactory"}"#, "\n",
//!     ),
//! )?;
//!
//! let account = clean(&[raw], &out, &report, &Pipeline::default())?;
//! assert_eq!((account.kept, account.rejected), (1, 1));
//! assert_eq!(account.rejections[0].reason, "the answer goes on with `User:` (message 2)");
//!
//! let records = read_clean(&out)?;
//! assert_eq!(records[0].messages[0].content, "What modality is: “A bell rang”?");
//! let (training, validation) = split(records, 0.1, 42)?;
//! assert_eq!((training.len(), validation.len()), (1, 0));
//! # Ok(())
//! # }
//! ```

mod audit;
mod clean;
mod error;
mod file;
mod folds;
mod meaning;
mod output;
mod pass;
mod pipeline;
mod read;
mod registry;
mod report;
mod said;
mod similar;
mod split;
mod split_proof;
mod text;

pub use audit::{
    Audit, ClassBalance, ClassBalanceReport, ClassCount, ClassWord, ClassWords, ClassWordsReport, Section, Tally,
};
pub use clean::{
    CleanConfig, JudgeConfig, MapConfig, Mapped, PartFault, clean, clean_with, is_clean, judge_parts, map_part,
    mark_path, write_part_rejects, write_parts, write_rejects,
};
pub use error::{Error, Result};
pub use foehn_record::{Message, Record, Role};
pub use folds::{Folds, folds};
pub use output::write_clean;
pub use pass::{
    AsksAgain, Conflicts, Contamination, ContaminationSettings, ControlText, Controls, Duplicates, Finding, Key,
    Labels, Language, LeadingAssistant, Length, Lexicon, Markup, MarkupAction, Mojibake, NearDuplicates, NearOthers,
    Normalise, OffTarget, Pass, Pii, PiiAction, PiiKind, Refusals, Repetition, RunsOn, SameSpeaker, SetPass, Sketch,
    Structure, SystemPrompt, TokenCounter, TrailingUser, Trim, Truncated, Verdict,
};
pub use pipeline::{Outcome, Pipeline};
pub use read::{
    Delimiter, EXCERPT, Encoding, Fault, FieldMap, Line, Place, ReadAs, ReadConfig, Reader, Unreadable, read,
    read_clean, read_with,
};
pub use registry::{Registry, Settings, Stage};
pub use report::{
    Bin, Change, CleanReport, Difference, Distributions, EarlierReport, LabelCounts, Lengths, Limit, PairLengths,
    PassReport, Reason, Rejection, Repairs, Sample, Turn,
};
pub use similar::{Part, Unit};
pub use split::{split, split_stratified};
pub use split_proof::{Crossing, ProvenSplit, SplitReport, prove_split, split_proven};
