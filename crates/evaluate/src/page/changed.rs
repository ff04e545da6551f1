//! Examples that the runs answer differently.

use foehn_generate::StopReason;

use super::{count, folded, text};
use crate::measure::{Measure, ratio};
use crate::table::number;
use crate::{Answer, Better, ItemReport, TaskReport, TaskRun, Verdict};

/// The examples of each direction that are open, and those that are on the page.
const OPEN: usize = 3;
const SHOWN: usize = 60;

/// The items whose headline figure changed, for each run after the first.
pub(super) fn changed(runs: &[String], task: &TaskReport) -> String {
    let verdicts = task.verdicts.iter().enumerate().map(|(at, verdict)| of_run(runs, task, at + 1, verdict));
    let verdicts: String = verdicts.collect();
    if verdicts.is_empty() { verdicts } else { format!("<h3>What changed</h3>{verdicts}") }
}

fn of_run(runs: &[String], task: &TaskReport, run: usize, verdict: &Verdict) -> String {
    let figure = task.figure(&task.headline, None);
    let is_binary = task.runs.first().and_then(|run| headline(run, task)).is_some_and(Measure::is_binary);
    let falls = figure.is_some_and(|figure| figure.better == Better::Lower);
    let (up, down) = match falls {
        false => (&verdict.gained, &verdict.lost),
        true => (&verdict.lost, &verdict.gained),
    };
    let (gained, lost) = match is_binary {
        true => ("from wrong to right", "from right to wrong"),
        false => ("better than before", "worse than before"),
    };
    let whole = figure.map_or(task.items.len(), |figure| figure.items);
    let direction = |items: &[usize], what: &str, class: &str| {
        let (open, more) = items.split_at(items.len().min(OPEN));
        let example = |item: &usize| example(runs, task, run, *item);
        let open: String = open.iter().map(example).collect();
        let left = items.len().saturating_sub(SHOWN);
        let more: String = more.iter().take(SHOWN - OPEN).map(example).collect();
        let left = match left {
            0 => String::new(),
            left => format!("<p class=\"soft\">{left} more are in the JSON report.</p>"),
        };
        let more = match items.len() > OPEN {
            false => String::new(),
            true => format!("<details><summary>{} more</summary>{more}{left}</details>", items.len() - OPEN),
        };
        let head = format!("<span class=\"chip {class}\">{} of {whole}</span> {what}", items.len());
        format!("<div class=\"card inside\"><h4>{head}</h4>{open}{more}</div>")
    };
    let name = match runs.len() > 2 {
        true => format!("<p><b>{}</b></p>", text(&verdict.run)),
        false => String::new(),
    };
    let (up, down) = (direction(up, gained, "better"), direction(down, lost, "worse"));
    format!("{name}<div class=\"grid changes\">{up}{down}</div>")
}

fn headline<'a>(run: &'a TaskRun, task: &TaskReport) -> Option<&'a Measure> {
    let is_whole = |measure: &Measure| measure.sums.len() == measure.counts.len();
    run.measures.iter().find(|measure| measure.name == task.headline && is_whole(measure))
}

/// An item: the question, the right answer, and those of the first run and of another.
fn example(runs: &[String], task: &TaskReport, run: usize, item: usize) -> String {
    let Some(asked) = task.items.get(item) else { return String::new() };
    let ItemReport { id, place, slice, question, reference, label, .. } = asked;
    let slice = slice.as_ref().map_or_else(String::new, |slice| format!(" · {}", text(slice)));
    let question = if question.is_empty() { reference } else { question };
    // A reference that is or begins with the label, or that stands as the question, is said once.
    let label = label.as_ref().filter(|label| !reference.starts_with(label.as_str()));
    let label = label.map_or_else(String::new, |label| format!("<b>{}</b> ", text(label)));
    let right = if reference == question { label } else { format!("{label}{}", folded(reference)) };
    let right = match (right.is_empty(), task.kind.as_str()) {
        (true, _) => String::new(),
        (false, "describe") => format!("<dt>Asked for</dt><dd dir=\"auto\">{right}</dd>"),
        (false, _) => format!("<dt>Right</dt><dd dir=\"auto\">{right}</dd>"),
    };
    let said: String = [0, run].into_iter().map(|run| said(runs, task, run, item)).collect();
    format!(
        "<article class=\"sample\"><p><code>{}</code> <small class=\"place\">{}{slice}</small></p>\
         <div class=\"turn\" dir=\"auto\">{}</div><dl class=\"facts\">{right}{said}</dl></article>",
        text(id),
        text(place),
        folded(question),
    )
}

/// What a run said to an item: its label, or its answers, and the value of the headline figure.
fn said(runs: &[String], task: &TaskReport, run: usize, item: usize) -> String {
    let (Some(name), Some(of_run)) = (runs.get(run), task.runs.get(run)) else { return String::new() };
    let value = headline(of_run, task).map_or_else(String::new, |measure| value(measure, item));
    let found = of_run.items.get(item);
    let label = found.and_then(|found| found.predicted.as_ref());
    let label = label.map_or_else(String::new, |label| format!("<b>{}</b> ", text(label)));
    let answers: Vec<String> = found.map_or(&[][..], |found| found.answers.as_slice()).iter().map(answer).collect();
    let (first, others) = answers.split_first().map_or((String::new(), String::new()), |(first, others)| {
        let more =
            format!("<details><summary>{}</summary>{}</details>", count(others.len(), "more answer"), others.concat());
        (first.clone(), if others.is_empty() { String::new() } else { more })
    });
    format!("<dt>{}</dt><dd dir=\"auto\">{label}<small>{value}</small>{first}{others}</dd>", text(name))
}

/// The headline figure of an item, with its name if it is more than right or wrong.
fn value(measure: &Measure, item: usize) -> String {
    let (Some(sum), Some(count)) = (measure.sums.get(item), measure.counts.get(item)) else { return String::new() };
    let name = measure.name.split_once('/').map_or(measure.name.as_str(), |(_, name)| name);
    match (measure.is_binary(), *sum == 1.0) {
        (true, true) => "✓ right".to_owned(),
        (true, false) => "✗ wrong".to_owned(),
        (false, _) => format!("{} {}", number(ratio(*sum, *count)), text(name)),
    }
}

/// An answer, and what is wrong with its end.
fn answer(answer: &Answer) -> String {
    let Answer { text: said, tokens, stop, goes_on, control_text } = answer;
    let stop = match stop {
        StopReason::Eos | StopReason::StopString => None,
        StopReason::MaxTokens => Some(format!("cut off at {tokens} tokens")),
        StopReason::ContextFull => Some(format!("cut off at {tokens} tokens: the context is full")),
        StopReason::Cancelled => Some(format!("cancelled at {tokens} tokens")),
    };
    let control = control_text.as_ref().map(|control| format!("control text {control}"));
    let faults = stop.into_iter().chain(goes_on.clone()).chain(control);
    let faults: String = faults.map(|fault| format!(" <small class=\"fault\">{}</small>", text(&fault))).collect();
    let said = if said.trim().is_empty() { "<i>empty</i>".to_owned() } else { folded(said) };
    format!("<div class=\"said\">{said}{faults}</div>")
}
