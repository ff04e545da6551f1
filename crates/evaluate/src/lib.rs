//! Suites, scoring, statistics, reports.
//!
//! A [`Suite`] is a frozen set of probes. [`check_disjoint`] refuses training data that contains one of them.
//! [`evaluate`] measures a model on a suite: which label is most likely for a sentence, whether descriptions use the
//! requested sense, and whether answers end. A [`Report`] compares an adapter with its base and tests whether the
//! difference could be chance.
//!
//! The metrics are pure functions: [`Classification`], [`brier`], [`McNemar`], [`clustered_bootstrap`], [`holm`].
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

mod compare;
mod disjoint;
mod error;
mod metrics;
mod production;
mod recognition;
mod report;
mod run;
mod statistics;
mod stopping;
mod suite;
mod table;

pub use compare::{ClassTest, Comparison, Paired, compare};
pub use disjoint::check_disjoint;
pub use error::{Error, Result, Shared};
pub use metrics::{ClassFigures, Classification, argmax, brier, softmax};
pub use production::{Production, ProductionFigures, ProductionItem};
pub use recognition::{LabelFigures, Recognition, RecognitionItem, Slice, recognise, score_labels};
pub use report::Report;
pub use run::{EvaluateConfig, Evaluation, Subject, evaluate};
pub use statistics::{Interval, McNemar, clustered_bootstrap, holm};
pub use stopping::{Answer, StopFigures, Stopping, answer, goes_on};
pub use suite::{Hashes, Probe, Scene, Suite};
