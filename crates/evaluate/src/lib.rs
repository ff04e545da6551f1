//! Suites, scoring, statistics, reports.
//!
//! A [`Suite`] holds tasks: questions, and how the answers are judged. It comes from a file of records with the right
//! answers ([`Suite::from_data`]) or from a TOML file ([`Suite::open`]). [`evaluate`] measures a model on it, and a
//! [`Report`] compares runs and tests whether a difference could be chance. [`check_disjoint`] refuses training data
//! that contains one of the items, and a [`Gate`] holds a report to floors.
//!
//! The metrics are pure functions: [`Classification`], [`McNemar`], [`Clusters`], [`holm`], [`chrf`], [`repeats`].
//!
//! ```
//! use foehn_evaluate::{Classification, McNemar};
//!
//! let truth = [0, 1, 2, 2];
//! let found = Classification::new(&truth, &[0, 1, 2, 1], 3);
//! assert_eq!((found.accuracy, found.confusion[2][1]), (0.75, 1));
//!
//! // Six items that only the adapter has right, none that only the base has: 2 · (1/2)⁶.
//! let test = McNemar::new(&[false; 6], &[true; 6]);
//! assert!((test.p_value - 0.03125).abs() < 1e-12);
//! ```

mod answer;
mod calibration;
mod choice;
mod describe;
mod disjoint;
mod error;
mod fluency;
mod gate;
pub mod html;
mod label;
mod measure;
mod metrics;
mod page;
mod pairs;
mod power;
mod reference;
mod report;
mod run;
mod statistics;
mod suite;
mod table;
mod text;

pub use answer::{Answer, Decoding, goes_on};
pub use calibration::{Bin, Reliability};
pub use describe::Matrix;
pub use disjoint::check_disjoint;
pub use error::{Error, Result, Shared};
pub use gate::{Checked, Floor, Gate};
pub use label::{LabelRule, LabelRuleError};
pub use measure::{Better, Classified, Measure};
pub use metrics::{ClassFigures, Classification, argmax, softmax};
pub use pairs::{AnswerScorer, Chosen, CommandScorer, Pairs, PairsConfig, Quality, Score, pairs};
pub use power::{smallest_difference, wilson};
pub use report::{ClassReport, ClassTest, Compared, Figure, ItemReport, Outcome, Report, TaskReport, Verdict};
pub use run::{EvaluateConfig, Evaluation, ItemRun, Subject, TaskRun, evaluate};
pub use statistics::{Clusters, Interval, McNemar, Part, holm};
pub use suite::{Choice, DataConfig, Describe, Item, Judge, Probe, Scorer, Suite, Task};
pub use text::{JsonMatch, chrf, contains, distinct, normalised, quotes, repeats, words};
