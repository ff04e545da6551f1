//! Records in, clean records and a report out.
//!
//! A dataset file (JSONL, JSON, CSV or Parquet) of any known shape is [`read`] one record at a time, and [`clean`]ed by
//! a [`Pipeline`] of passes: some repair a record, some reject one, some judge records beside each other. A record that
//! is rejected is in the [`Report`], with its file, its line, the pass and the reason. Clean records are [`split`] by
//! group.
//!
//! The crate knows no token and no tensor.
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

mod clean;
mod error;
mod file;
mod pass;
mod pipeline;
mod read;
mod record;
mod report;
mod split;
mod text;

pub use clean::clean;
pub use error::{Error, Result};
pub use pass::{
    AsksAgain, Conflicts, ControlText, Controls, Duplicates, Finding, Mojibake, Normalise, OffTarget, Pass, RunsOn,
    SenseLexicon, SetPass, Sketch, Structure, Trim, Truncated,
};
pub use pipeline::{Outcome, Pipeline};
pub use read::{Fault, Line, Place, Reader, Unreadable, read, read_clean};
pub use record::{Message, Record, Role};
pub use report::{PassReport, Rejection, Report};
pub use split::{split, split_stratified};
