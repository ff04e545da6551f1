//! Examples that the runs answer differently.

use super::{count, folded, text};
use crate::measure::Measure;
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
    run.measures.iter().find(|measure| measure.name == task.headline)
}

/// An item: the question, the right answer, and those of the first run and of another.
fn example(runs: &[String], task: &TaskReport, run: usize, item: usize) -> String {
    let Some(asked) = task.items.get(item) else { return String::new() };
    let ItemReport { id, place, slice, question, reference, label, .. } = asked;
    let slice = slice.as_ref().map_or_else(String::new, |slice| format!(" · {}", text(slice)));
    let question = if question.is_empty() { reference } else { question };
    let label = label.as_ref().map_or_else(String::new, |label| format!("<b>{}</b> ", text(label)));
    // A reference that is the label alone, or that stands as the question, is said once.
    let is_more = !reference.is_empty() && reference != question && Some(reference) != asked.label.as_ref();
    let right = if is_more { format!("{label}{}", folded(reference)) } else { label };
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
    let measure = headline(of_run, task);
    let part = measure.and_then(|measure| Some((*measure.sums.get(item)?, *measure.counts.get(item)?)));
    let value = match (measure, part) {
        (Some(measure), Some((sum, _))) if measure.is_binary() => (if sum == 1.0 { "right" } else { "wrong" }).to_owned(),
        (_, Some((sum, count))) => number(crate::measure::ratio(sum, count)),
        _ => String::new(),
    };
    let found = of_run.items.get(item);
    let label = found.and_then(|found| found.predicted.as_ref());
    let label = label.map_or_else(String::new, |label| format!("<b>{}</b> ", text(label)));
    let answers = found.map_or(&[][..], |found| found.answers.as_slice());
    let first = answers.first().map_or_else(String::new, answer);
    let others: String = answers.iter().skip(1).map(|other| format!("<p>{}</p>", answer(other))).collect();
    let others = match answers.len() {
        0 | 1 => others,
        more => format!("<details><summary>{}</summary>{others}</details>", count(more - 1, "more answer")),
    };
    format!("<dt>{}</dt><dd dir=\"auto\">{label}{first} <small>{value}</small>{others}</dd>", text(name))
}

/// An answer, and what is wrong with its end.
fn answer(answer: &Answer) -> String {
    let Answer { text: said, tokens, stop, goes_on, control_text } = answer;
    let stop = match serde_json::to_value(stop) {
        Ok(serde_json::Value::String(stop)) if stop != "eos" => Some(format!("ended by {} after {tokens} tokens", stop.replace('_', " "))),
        _ => None,
    };
    let control = control_text.as_ref().map(|control| format!("control text {control}"));
    let faults = stop.into_iter().chain(goes_on.clone()).chain(control);
    let faults: String = faults.map(|fault| format!(" <small class=\"fault\">{}</small>", text(&fault))).collect();
    let said = if said.trim().is_empty() { "<i>empty</i>".to_owned() } else { folded(said) };
    format!("{said}{faults}")
}
