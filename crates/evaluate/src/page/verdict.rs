//! The verdicts: in a sentence for each run, and a card for each task.

use super::text;
use crate::table::{number, sentence};
use crate::{Outcome, Report, TaskReport, Verdict};

/// Tasks that ask what a model may forget: those of a suite `general`, joined to another.
const GENERAL: &str = "general: ";

/// The page's title: what the comparison of each run shows.
pub(super) fn headline(report: &Report) -> String {
    match report.runs.split_first() {
        None => "<h1>Nothing was measured</h1>".to_owned(),
        Some((only, [])) => format!("<h1>{}, measured alone</h1>", text(only)),
        Some((_, others)) => {
            let line = |(at, run): (usize, &String)| {
                let subject = if others.len() == 1 { "The adapter" } else { run.as_str() };
                text(&shown(report, at, subject))
            };
            let lines = others.iter().enumerate().map(line);
            let lines: String = lines.map(|line| format!("<span class=\"line\">{line}</span> ")).collect();
            format!("<h1 class=\"runs{}\">{lines}</h1>", others.len().min(3))
        }
    }
}

/// What the comparison of a run shows, in a sentence; `run` is its name there.
fn shown(report: &Report, at: usize, run: &str) -> String {
    let shows = |is_general: bool, is: &dyn Fn(&Verdict) -> bool| -> Vec<&str> {
        let tasks = report.tasks.iter().filter(|task| task.name.starts_with(GENERAL) == is_general);
        let found = tasks.filter(|task| task.verdicts.get(at).is_some_and(is));
        found.map(|task| task.name.strip_prefix(GENERAL).unwrap_or(&task.name)).collect()
    };
    let of = |is_general: bool, outcome: Outcome| shows(is_general, &|verdict| verdict.outcome == outcome);
    let is_better = |guesses: bool| {
        shows(false, &|verdict| verdict.outcome == Outcome::Better && verdict.guess.is_some() == guesses)
    };
    let own = [
        ("is better at", is_better(false)),
        ("has learned the form of the answers but may be guessing at", is_better(true)),
        ("is worse at", of(false, Outcome::Worse)),
        ("shows no difference at", of(false, Outcome::NoDifference)),
    ];
    let own = own.into_iter();
    let mut clauses: Vec<String> =
        own.filter(|(_, tasks)| !tasks.is_empty()).map(|(what, tasks)| format!("{what} {}", list(&tasks))).collect();
    let forgotten = of(true, Outcome::Worse);
    let kept = of(true, Outcome::Better).len() + of(true, Outcome::NoDifference).len();
    if !forgotten.is_empty() {
        clauses.push(format!("forgets some of what the base knew (general {})", list(&forgotten)));
    } else if kept > 0 {
        clauses.push("forgets nothing that these questions could show".to_owned());
    }
    match clauses.split_last() {
        None => format!("{run} was not compared."),
        Some((last, [])) => format!("{run} {last}."),
        Some((last, before)) => format!("{run} {}, and {last}.", before.join(", ")),
    }
}

/// `a, b and c`.
fn list(names: &[&str]) -> String {
    match names.split_last() {
        None => String::new(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
    }
}

/// A card for each task, with the verdict on each run.
pub(super) fn cards(report: &Report) -> String {
    let has_names = report.runs.len() > 2;
    let card = |(at, task): (usize, &TaskReport)| {
        let verdicts: String = match task.verdicts.is_empty() {
            true => alone(task),
            false => task.verdicts.iter().map(|verdict| line(task, verdict, has_names)).collect(),
        };
        format!("<li class=\"card\"><h3><a href=\"#task-{at}\">{}</a></h3>{verdicts}</li>", text(&task.name))
    };
    let cards: String = report.tasks.iter().enumerate().map(card).collect();
    let note = match report.runs.len() {
        0 | 1 => "",
        _ => {
            "<p class=\"soft\">A run counts as better or worse if the test says so after Holm’s adjustment for all \
              verdicts (p below 0.05), and the 95% interval of the difference does not contain 0.</p>"
        }
    };
    format!("<h2 id=\"verdict\">Verdict by task</h2><ul class=\"grid verdicts\">{cards}</ul>{note}\n")
}

/// The verdict on a run: its outcome as a chip, and the figure that it is about.
fn line(task: &TaskReport, verdict: &Verdict, has_name: bool) -> String {
    let class = match verdict.outcome {
        Outcome::Better => "better",
        Outcome::Worse => "worse",
        Outcome::NoDifference => "same",
    };
    let said = sentence(task, verdict);
    let (outcome, why) = said.split_once(": ").unwrap_or((class, &said));
    let name = if has_name { format!("<b>{}</b> ", text(&verdict.run)) } else { String::new() };
    format!("<p>{name}<span class=\"chip {class}\">{}</span> {}</p>", text(outcome), text(why))
}

/// The headline figure of a run that is compared with none.
fn alone(task: &TaskReport) -> String {
    let Some(figure) = task.figure(&task.headline, None) else { return String::new() };
    let values = figure
        .values
        .iter()
        .map(|value| format!("{} [{}, {}]", number(value.estimate), number(value.low), number(value.high)));
    let name = figure.name.split_once('/').map_or(figure.name.as_str(), |(_, name)| name);
    format!("<p>{} {}</p>", text(name), values.collect::<Vec<_>>().join(", "))
}
