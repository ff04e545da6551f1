//! Which records have a label, and what a fold trains on.

use std::collections::{BTreeMap, BTreeSet};

use foehn_evaluate::{DataConfig, Error as EvaluateError, Item, Judge, LabelRule, Suite, Task};
use foehn_record::{Message, Record, Role};

use super::source::{Entry, Source};
use super::{AuditConfig, AuditError};

/// The records with labels of one kind.
pub(super) struct Labelled {
    /// One item a record; its judge is a choice.
    pub task: Task,
    /// The place of each item's record among the entries.
    pub entries: Vec<usize>,
    pub rule: LabelRule,
}

/// The tasks whose answers have labels. Records with a text `task` make a task for each of its values.
pub(super) fn tasks(data: &Source, config: &AuditConfig) -> Result<Vec<Labelled>, AuditError> {
    let answered: Vec<usize> = (0..data.entries.len()).filter(|at| is_answered(&data.entries[*at])).collect();
    if answered.is_empty() {
        return Err(AuditError::NoRecords { path: data.path.clone() });
    }
    let names: Option<Vec<&str>> = answered.iter().map(|at| data.entries[*at].record.text("task")).collect();
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, at) in answered.iter().enumerate() {
        by_name.entry(names.as_ref().map_or("answers", |names| names[place])).or_default().push(*at);
    }
    let mut tasks = Vec::new();
    for (name, entries) in by_name {
        tasks.extend(task(name, entries, data, config)?);
    }
    if tasks.is_empty() {
        let rule = config.rule.as_ref().map_or_else(|| "the rule is inferred".to_owned(), ToString::to_string);
        return Err(AuditError::Texts { path: data.path.clone(), records: answered.len(), rule });
    }
    Ok(tasks)
}

fn is_answered(entry: &Entry) -> bool {
    match entry.record.messages.split_last() {
        Some((last, before)) => last.role == Role::Assistant && !last.content.trim().is_empty() && !before.is_empty(),
        None => false,
    }
}

/// The task of some entries; `None` if their answers have no labels.
fn task(
    name: &str,
    mut entries: Vec<usize>,
    data: &Source,
    config: &AuditConfig,
) -> Result<Option<Labelled>, AuditError> {
    let rule = config.rule.clone().or_else(|| (!config.labels.is_empty()).then_some(LabelRule::Whole));
    if let Some(rule) = &rule {
        let is_known = |label: &String| config.labels.is_empty() || config.labels.contains(label);
        entries.retain(|at| rule.of_record(&data.entries[*at].record).as_ref().is_some_and(is_known));
        if entries.is_empty() {
            return Ok(None);
        }
    }
    // Without ids of their own, the items have unique ones.
    let plain = |at: &usize| Record { id: None, rejected: None, ..data.entries[*at].record.clone() };
    let records: Vec<Record> = entries.iter().map(plain).collect();
    let asked =
        DataConfig { rule, labels: config.labels.clone(), system: config.system.clone(), ..DataConfig::default() };
    let one_label = |label| AuditError::OneLabel { path: data.path.clone(), task: name.to_owned(), label };
    let mut suite = match Suite::from_records("record", &records, &asked) {
        Err(EvaluateError::OneLabel { label, .. }) => return Err(one_label(label)),
        other => other?,
    };
    let Some(mut task) = suite.tasks.pop() else { return Ok(None) };
    // Nothing is generated: the likelihoods of the labels are all that counts.
    task.max_new_tokens = 0;
    let Judge::Choice(choice) = &mut task.judge else { return Ok(None) };
    choice.scorers.clear();
    let rule = choice.rule.clone();
    let present: BTreeSet<usize> = task.items.iter().map(|item| item.truth).collect();
    match (present.len(), task.items.first()) {
        (1, Some(item)) => Err(one_label(task.labels()[item.truth].clone())),
        _ => Ok(Some(Labelled { task, entries, rule })),
    }
}

/// An item as a record to train on: its last answer alone is trained, up to the end of its label.
///
/// What stands behind a label says nothing about it: it is not there yet when the label is said. Without it a fold takes
/// less time. The label of a JSON answer is its value at a path, so such an answer stays whole.
pub(super) fn training_record(item: &Item, labelled: &Labelled, line: u64) -> Record {
    let label = labelled.task.labels().get(item.truth).map_or(&[][..], std::slice::from_ref);
    let place = labelled.rule.find(&item.reference, label);
    let end = match (&labelled.rule, place) {
        (LabelRule::Json(_), _) | (_, None) => item.reference.len(),
        (_, Some(place)) => place.end,
    };
    let prompt = item.prompts.first().cloned().unwrap_or_default();
    let answer = Message::assistant(&item.reference[..end]);
    let mut record = Record::new(prompt.into_iter().chain([answer]).collect());
    record.id = Some(format!("line {line}"));
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(answers: &[&str]) -> Source {
        let entry = |(at, answer): (usize, &&str)| Entry {
            line: at as u64 + 2,
            record: Record::pair(format!("question {at}"), *answer),
        };
        let entries = answers.iter().enumerate().map(entry).collect();
        Source { path: "x.csv".into(), sha256: String::new(), entries, unreadable: Vec::new() }
    }

    fn config(rule: &str) -> AuditConfig {
        AuditConfig { rule: (!rule.is_empty()).then(|| rule.parse().unwrap()), ..AuditConfig::default() }
    }

    #[test]
    fn a_record_is_trained_up_to_its_label() {
        for (rule, answer, expected) in [
            ("first-line", "red\nIt is warm.", "red"),
            ("whole", "red", "red"),
            ("regex:colour (\\w+)", "The colour red, I think", "The colour red"),
            ("json:c", "{\"c\": \"red\", \"d\": 1}", "{\"c\": \"red\", \"d\": 1}"),
        ] {
            let other = answer.replace("red", "blue");
            let found = tasks(&source(&[answer, &other, answer, &other]), &config(rule)).unwrap();
            let record = training_record(&found[0].task.items[0], &found[0], 7);
            assert_eq!(record.messages.last().unwrap().content, expected, "{rule}");
            assert_eq!(record.id.as_deref(), Some("line 7"));
        }
    }

    #[test]
    fn what_has_no_label_is_left_out_and_texts_are_refused() {
        let mut data = source(&["red", "blue", "red", "blue", "", "Hard to say"]);
        data.entries[4].record.messages.pop();
        let found = tasks(&data, &AuditConfig { labels: vec!["red".into(), "blue".into()], ..config("") }).unwrap();
        assert_eq!(found[0].entries, [0, 1, 2, 3]);
        assert_eq!(found[0].task.labels(), ["red", "blue"]);

        let texts = source(&["One text of this data set.", "Another one of them, as long.", "And the last of them."]);
        assert!(matches!(tasks(&texts, &config("")), Err(AuditError::Texts { records: 3, .. })));
        assert!(matches!(tasks(&source(&["red", "red"]), &config("")), Err(AuditError::OneLabel { .. })));
        assert!(matches!(tasks(&source(&["red", "red"]), &config("whole")), Err(AuditError::OneLabel { .. })));
        assert!(matches!(tasks(&source(&[" "]), &config("")), Err(AuditError::NoRecords { .. })));
    }
}
