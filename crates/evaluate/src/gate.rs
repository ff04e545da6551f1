//! Floors that the figures of a report must reach.

use std::path::Path;

use serde::Deserialize;

use crate::{Error, Report, Result};

/// Floors and ceilings for the figures of a report, from a TOML file:
///
/// ```toml
/// [[floor]]
/// task = "recognition"
/// figure = "likelihood/accuracy" # as the report names it
/// at_least = 0.9
///
/// [[floor]]
/// task = "general: questions"
/// figure = "text/contains an accepted answer"
/// difference_at_least = -0.05    # compared with the first run
/// ```
///
/// `slice` picks a slice, and `run` a run by its name; without it, the last run counts. `at_most` and
/// `difference_at_most` are ceilings.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The floors, at least one.
    pub floor: Vec<Floor>,
}

/// The limits of one figure; at least one limit is given.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// The task.
    pub task: String,
    /// The figure.
    pub figure: String,
    /// The slice; `None` for all items.
    pub slice: Option<String>,
    /// The run; `None` for the last.
    pub run: Option<String>,
    /// The smallest value.
    pub at_least: Option<f64>,
    /// The largest value.
    pub at_most: Option<f64>,
    /// The smallest difference from the first run.
    pub difference_at_least: Option<f64>,
    /// The largest difference from the first run.
    pub difference_at_most: Option<f64>,
}

/// A limit, and the figure that it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The figure, in words.
    pub what: String,
    /// Its value.
    pub found: f64,
    /// The limit, in words: `at least 0.9`.
    pub limit: String,
    /// Whether the value keeps to it.
    pub holds: bool,
}

impl Gate {
    /// Reads a gate's file.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::GateSyntax`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = foehn_files::read_to_string(path, foehn_files::MAX_TEXT)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let failed = |source| Error::GateSyntax { path: path.to_owned(), source: Box::new(source) };
        let gate: Self = toml::from_str(&text).map_err(failed)?;
        let without = gate.floor.iter().position(|floor| floor.limits(0.0, None).is_empty());
        match (without, gate.floor.is_empty()) {
            (None, false) => Ok(gate),
            (Some(at), _) => Err(failed(serde::de::Error::custom(format!("the floor {} has no limit", at + 1)))),
            (None, true) => Err(failed(serde::de::Error::custom("no block `[[floor]]`"))),
        }
    }

    /// Compares a report with every limit.
    ///
    /// # Errors
    /// [`Error::GateFigure`] if the report lacks a figure.
    pub fn check(&self, report: &Report) -> Result<Vec<Checked>> {
        let mut checked = Vec::new();
        for (at, floor) in self.floor.iter().enumerate() {
            let missing = |wanted: String, there: Vec<&str>| Error::GateFigure {
                number: at + 1,
                wanted,
                there: there.join(", "),
            };
            let Some(task) = report.task(&floor.task) else {
                let there = report.tasks.iter().map(|task| task.name.as_str()).collect();
                return Err(missing(format!("the task `{}`", floor.task), there));
            };
            let Some(figure) = task.figure(&floor.figure, floor.slice.as_deref()) else {
                let slice = floor.slice.as_ref().map_or_else(String::new, |slice| format!(", slice `{slice}`"));
                let there = task.figures.iter().map(|figure| figure.name.as_str()).collect();
                return Err(missing(format!("the figure `{}`{slice}", floor.figure), there));
            };
            let run = match &floor.run {
                None => Some(report.runs.len().saturating_sub(1)),
                Some(name) => report.runs.iter().position(|run| run == name),
            };
            let Some((run, value)) = run.and_then(|run| Some((run, figure.values.get(run)?.estimate))) else {
                let run = floor.run.clone().unwrap_or_default();
                let there = report.runs.iter().map(String::as_str).collect();
                return Err(missing(format!("the run `{run}`"), there));
            };
            let base = figure.values[0].estimate;
            if run == 0 && (floor.difference_at_least.is_some() || floor.difference_at_most.is_some()) {
                return Err(missing("a run to compare with the first".to_owned(), vec!["one run"]));
            }
            let slice = floor.slice.as_ref().map_or_else(String::new, |slice| format!(", {slice}"));
            let name = format!("{}, {}{slice}, {}", floor.task, floor.figure, report.runs[run]);
            checked.extend(
                floor.limits(value, Some(value - base)).into_iter().map(|(what, found, limit, holds)| Checked {
                    what: format!("{name}{what}"),
                    found,
                    limit,
                    holds,
                }),
            );
        }
        Ok(checked)
    }
}

impl Floor {
    fn limits(&self, value: f64, difference: Option<f64>) -> Vec<(&'static str, f64, String, bool)> {
        let difference = difference.unwrap_or(0.0);
        let limits = [
            ("", value, "at least", self.at_least, value >= self.at_least.unwrap_or(value)),
            ("", value, "at most", self.at_most, value <= self.at_most.unwrap_or(value)),
            (
                " (difference)",
                difference,
                "at least",
                self.difference_at_least,
                difference >= self.difference_at_least.unwrap_or(difference),
            ),
            (
                " (difference)",
                difference,
                "at most",
                self.difference_at_most,
                difference <= self.difference_at_most.unwrap_or(difference),
            ),
        ];
        let given = |(what, found, word, limit, holds): (_, f64, &str, Option<f64>, bool)| {
            limit.map(|limit| (what, found, format!("{word} {limit}"), holds))
        };
        limits.into_iter().filter_map(given).collect()
    }
}
