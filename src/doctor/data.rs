//! The records by themselves: answers in prompts, and records on both sides of a split.

use std::collections::{BTreeMap, BTreeSet};

use foehn_corpus::{NearDuplicates, Record, Role, prove_split};
use foehn_files::printable;

use super::case::Case;
use super::{Check, Finding, Missing, Severity, count};

/// An answer of a closed set has at most this number of words, and stands at least this number of times.
const LABEL_WORDS: usize = 4;
const LABEL_USES: usize = 3;

/// The smallest number of records, and the largest number of labels, of a closed set.
const CLOSED_RECORDS: usize = 10;
const CLOSED_LABELS: usize = 50;

/// The share of prompts with their own answer, and its excess over the share of other labels, that are a fault.
const OWN: f64 = 0.5;
const EXCESS: f64 = 0.25;

/// The share of near-duplicates among the validation records that is told.
const NEAR: f64 = 0.2;

/// Looks for the answer of a closed set in the user's text. A prompt that lists all labels has every other label too.
pub(super) fn labels(case: &Case<'_>) -> Finding {
    let looked_at = "short answers that stand again and again, and the prompts before them";
    let Some(records) = &case.training else { return Finding::missing(Check::Labels, looked_at, Missing::Data) };
    let answers: Vec<(Vec<String>, Vec<String>)> = records.list.iter().filter_map(question_and_answer).collect();
    let mut uses: BTreeMap<&[String], usize> = BTreeMap::new();
    let is_short = |answer: &[String]| (1..=LABEL_WORDS).contains(&answer.len());
    for (_, answer) in answers.iter().filter(|(_, answer)| is_short(answer)) {
        *uses.entry(answer).or_default() += 1;
    }
    let labels: Vec<&[String]> =
        uses.iter().filter(|(_, uses)| **uses >= LABEL_USES).map(|(label, _)| *label).collect();
    let items: Vec<&(Vec<String>, Vec<String>)> =
        answers.iter().filter(|(_, answer)| labels.contains(&answer.as_slice())).collect();
    if !(2..=CLOSED_LABELS).contains(&labels.len()) || items.len() < CLOSED_RECORDS {
        return Finding::sound(Check::Labels, looked_at, "the answers are no closed set of labels");
    }
    let (mut own, mut others) = (0.0, 0.0);
    for (prompt, answer) in &items {
        let present = labels.iter().filter(|label| has(prompt, label)).count();
        let is_own = usize::from(has(prompt, answer));
        own += is_own as f64;
        others += (present - is_own) as f64 / (labels.len() - 1) as f64;
    }
    let (own, others) = (own / items.len() as f64, others / items.len() as f64);
    let found = format!(
        "of {} with {} labels, {:.0}% have their own label in the prompt; another label stands in {:.0}%",
        count(items.len(), "record"),
        labels.len(),
        100.0 * own,
        100.0 * others
    );
    if own > OWN && own - others > EXCESS {
        return Finding::new(Check::Labels, Severity::Fault, looked_at, found)
            .advising("take the answer out of the prompts, or list all labels in every prompt");
    }
    Finding::sound(Check::Labels, looked_at, found)
}

/// The words of the user's text before the last answer, and those of that answer.
fn question_and_answer(record: &Record) -> Option<(Vec<String>, Vec<String>)> {
    let (last, before) = record.messages.split_last().filter(|(last, _)| last.role == Role::Assistant)?;
    let asked = before.iter().filter(|message| message.role == Role::User);
    Some((asked.flat_map(|message| words(&message.content)).collect(), words(&last.content)))
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

fn has(prompt: &[String], label: &[String]) -> bool {
    prompt.windows(label.len().max(1)).any(|window| window == label)
}

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
