//! Records on both sides of a split.

use std::collections::BTreeSet;

use foehn_corpus::{NearDuplicates, Record, Role, prove_split};
use foehn_files::printable;

use super::case::Case;
use super::{Check, Finding, Missing, Severity, count};

/// The share of near-duplicates among the validation records that is told.
const NEAR: f64 = 0.2;

/// Looks for the same records, the same groups and near-duplicates in training and validation.
pub(super) fn leak(case: &Case<'_>) -> Finding {
    let (Some(training), validation) = (&case.training, &case.validation) else {
        return Finding::missing(Check::Leak, "training and validation records", Missing::Data);
    };
    let Some(validation) = validation else {
        return Finding::missing(Check::Leak, "training and validation records", Missing::Validation);
    };
    let looked_at = format!("{} against {}", training.origin, validation.origin);
    let known: BTreeSet<Vec<String>> = training.list.iter().map(key).collect();
    let same: Vec<&Record> = validation.list.iter().filter(|record| known.contains(&key(record))).collect();
    let report = prove_split(&training.list, &validation.list, &NearDuplicates::default());
    let all = validation.list.len();
    let near: BTreeSet<&str> = report.near_duplicates.iter().map(|pair| pair.validation.as_str()).collect();
    let near_share = near.len() as f64 / all as f64;
    let mut found = Vec::new();
    if let Some(first) = same.first() {
        let text: String = first.messages.first().map_or("", |message| &message.content).chars().take(60).collect();
        found.push(format!("{} of {all} validation records are in training too: `{}`", same.len(), printable(text)));
    }
    if let Some(first) = report.groups.first() {
        let groups = count(report.groups.len(), "group");
        found.push(format!("{groups} of {} stand on both sides: {}", report.validation_groups, printable(&first.what)));
    }
    let severity = match (found.is_empty(), near_share > NEAR) {
        (false, _) => Severity::Fault,
        (true, true) => Severity::Warning,
        (true, false) => Severity::Sound,
    };
    if found.is_empty() {
        found.push(format!("no record and no group is on both sides; validation has {}", count(all, "record")));
    }
    found.push(format!("{} of {all} have a near-duplicate in training", near.len()));
    let finding = Finding::new(Check::Leak, severity, looked_at, found.join("; "));
    match severity {
        Severity::Sound => finding,
        _ => finding
            .advising("split the clean records again by group, with near-duplicates on one side, and train again"),
    }
}

/// A record's texts, ignoring case and spacing.
fn key(record: &Record) -> Vec<String> {
    let said = record.messages.iter().filter(|message| message.role != Role::System);
    said.map(|message| message.content.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()).collect()
}
