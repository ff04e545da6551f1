//! Answers in the text of their prompts.

use std::collections::{BTreeMap, BTreeSet};

use foehn_corpus::{Record, Role};
use foehn_evaluate::LabelRule;
use foehn_files::printable;
use serde_json::Value;

use super::case::Case;
use super::{Check, Finding, Missing, Severity, count};

/// A label of a closed set has at most this number of words, and stands at least this number of times.
const LABEL_WORDS: usize = 4;
const LABEL_USES: usize = 3;

/// The smallest number of records, and the largest number of labels, of a closed set.
const CLOSED_RECORDS: usize = 10;
const CLOSED_LABELS: usize = 50;

/// The share of the records that a part of an answer must be a label of, for that part to be a closed set.
const CLOSED_SHARE: f64 = 0.9;

/// The share of prompts with their own answer, and its excess over the share of other labels, that are a fault.
const OWN: f64 = 0.5;
const EXCESS: f64 = 0.25;

/// Looks for the answer of a closed set in the user's text. A prompt that lists all labels has every other label too.
///
/// The answer is the whole answer, its first line, or a field of a JSON answer.
pub(super) fn labels(case: &Case<'_>) -> Finding {
    let looked_at =
        "short answers, first lines and JSON fields that stand again and again, and the prompts before them";
    let Some(records) = &case.training else { return Finding::missing(Check::Labels, looked_at, Missing::Data) };
    let asked: Vec<(Vec<String>, &str)> = records.list.iter().filter_map(question_and_answer).collect();
    let found = rules(&asked).into_iter().filter_map(|rule| Some((Prompts::of(&rule, &asked)?, rule)));
    let found = found.max_by(|(a, _), (b, _)| a.severity().cmp(&b.severity()).then(a.own.total_cmp(&b.own)));
    let Some((prompts, rule)) = found else {
        return Finding::sound(Check::Labels, looked_at, "the answers are no closed set of labels");
    };
    let finding = Finding::new(Check::Labels, prompts.severity(), looked_at, prompts.said(&rule));
    match prompts.severity() {
        Severity::Sound => finding,
        Severity::Warning => finding.advising(
            "take the answer out of the prompts, or list all labels in every prompt; if the task is to find the \
             value in the text, leave it",
        ),
        _ => finding.advising("take the answer out of the prompts, or list all labels in every prompt"),
    }
}

/// The parts of answers that may be labels.
fn rules(asked: &[(Vec<String>, &str)]) -> Vec<LabelRule> {
    let fields = asked.iter().filter_map(|(_, answer)| match serde_json::from_str(answer) {
        Ok(Value::Object(fields)) => Some(fields),
        _ => None,
    });
    let keys: BTreeSet<String> = fields.flat_map(|fields| fields.into_iter().map(|(key, _)| key)).collect();
    let fields = keys.into_iter().filter(|key| !key.contains('.')).map(LabelRule::Json);
    let has_lines = asked.iter().any(|(_, answer)| answer.trim().contains('\n'));
    let lines = has_lines.then_some(LabelRule::FirstLine);
    [LabelRule::Whole].into_iter().chain(lines).chain(fields).collect()
}

/// How often the labels of a closed set stand in prompts.
struct Prompts {
    records: usize,
    labels: usize,
    /// The share of prompts with their own label.
    own: f64,
    /// The mean share of the other labels that stand in a prompt.
    others: f64,
    /// The label is a field, which a task may want to be taken from the text.
    is_field: bool,
}

impl Prompts {
    /// `None` if the labels are no closed set.
    fn of(rule: &LabelRule, asked: &[(Vec<String>, &str)]) -> Option<Self> {
        let labelled = asked.iter().filter_map(|(prompt, answer)| Some((prompt, words(&rule.label(answer)?))));
        let labelled: Vec<(&Vec<String>, Vec<String>)> = labelled.collect();
        let mut uses: BTreeMap<&[String], usize> = BTreeMap::new();
        let is_short = |answer: &[String]| (1..=LABEL_WORDS).contains(&answer.len());
        for (_, answer) in labelled.iter().filter(|(_, answer)| is_short(answer)) {
            *uses.entry(answer).or_default() += 1;
        }
        let labels: Vec<&[String]> =
            uses.iter().filter(|(_, uses)| **uses >= LABEL_USES).map(|(label, _)| *label).collect();
        let items: Vec<_> = labelled.iter().filter(|(_, answer)| labels.contains(&answer.as_slice())).collect();
        // Whole answers that are labels may stand beside others; a part of an answer is a label everywhere or nowhere.
        let is_part = *rule != LabelRule::Whole;
        let share = items.len() as f64 / labelled.len().max(1) as f64;
        let is_closed = (2..=CLOSED_LABELS).contains(&labels.len()) && items.len() >= CLOSED_RECORDS;
        if !is_closed || (is_part && share < CLOSED_SHARE) {
            return None;
        }
        let (mut own, mut others) = (0.0, 0.0);
        for (prompt, answer) in &items {
            let present = labels.iter().filter(|label| has(prompt, label)).count();
            let is_own = usize::from(has(prompt, answer));
            own += is_own as f64;
            others += (present - is_own) as f64 / (labels.len() - 1) as f64;
        }
        let (records, labels) = (items.len(), labels.len());
        let (own, others) = (own / records as f64, others / records as f64);
        Some(Self { records, labels, own, others, is_field: matches!(rule, LabelRule::Json(_)) })
    }

    fn severity(&self) -> Severity {
        match self.own > OWN && self.own - self.others > EXCESS {
            false => Severity::Sound,
            true if self.is_field => Severity::Warning,
            true => Severity::Fault,
        }
    }

    fn said(&self, rule: &LabelRule) -> String {
        let place = match rule {
            LabelRule::FirstLine => " in the first line".to_owned(),
            LabelRule::Json(key) => format!(" in the field `{}`", printable(key)),
            _ => String::new(),
        };
        format!(
            "of {} with {} labels{place}, {:.0}% have their own label in the prompt; another label stands in {:.0}%",
            count(self.records, "record"),
            self.labels,
            100.0 * self.own,
            100.0 * self.others
        )
    }
}

/// The words of the user's text before the last answer, and that answer.
fn question_and_answer(record: &Record) -> Option<(Vec<String>, &str)> {
    let (last, before) = record.messages.split_last().filter(|(last, _)| last.role == Role::Assistant)?;
    let asked = before.iter().filter(|message| message.role == Role::User);
    Some((asked.flat_map(|message| words(&message.content)).collect(), &last.content))
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

fn has(prompt: &[String], label: &[String]) -> bool {
    prompt.windows(label.len().max(1)).any(|window| window == label)
}
