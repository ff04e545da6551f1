//! Prints a report as tables for a terminal.

use crate::report::{ClassReport, Compared, Outcome, TaskReport, Verdict};
use crate::{Better, Interval, Report};

/// The width of a figure's name.
const NAME: usize = 34;

/// The widths of a run's column.
const COLUMNS: std::ops::RangeInclusive<usize> = 8..=12;

/// The width of a page.
const PAGE: usize = 100;

/// The width of a matrix's column, and of the label in front of a row.
const CELL: usize = 8;

/// The most changed examples that are shown for each direction.
const CHANGED: usize = 3;

/// The whole report.
pub(crate) fn render(report: &Report) -> String {
    let mut page = Page { runs: &report.runs, text: String::new() };
    for task in &report.tasks {
        page.head(report, task);
        page.figures(task);
        page.classes(&task.classes);
        page.matrices(task);
        page.changed(task);
        page.line("");
    }
    page.verdicts(report);
    page.text
}

/// What a verdict says, in a sentence.
pub(crate) fn sentence(task: &TaskReport, verdict: &Verdict) -> String {
    let Some(figure) = task.figure(&task.headline, None) else { return String::new() };
    let at = task.verdicts.iter().position(|other| other.run == verdict.run).unwrap_or(0);
    let (Some(base), Some(value), Some(compared)) =
        (figure.values.first(), figure.values.get(at + 1), figure.compared.get(at))
    else {
        return String::new();
    };
    let p = p(compared.p_holm.unwrap_or(compared.p_value));
    let name = figure.name.split_once('/').map_or(figure.name.as_str(), |(_, name)| name);
    let from_to = format!("{name} {} → {} (p {p})", number(base.estimate), number(value.estimate));
    match verdict.outcome {
        Outcome::Better => match verdict.guess {
            None => format!("better: {from_to}"),
            Some(guess) => format!(
                "better: {from_to}; but it may be guessing: {} gives {}",
                match task.labels.is_empty() {
                    true => "any option".to_owned(),
                    false => format!("one label for all {} items", task.items.len()),
                },
                number(guess)
            ),
        },
        Outcome::Worse => format!("worse: {from_to}"),
        Outcome::NoDifference => format!(
            "no difference shown: {from_to}; {} items could have shown {} or more",
            figure.items,
            number(verdict.smallest)
        ),
    }
}

struct Page<'a> {
    runs: &'a [String],
    text: String,
}

impl Page<'_> {
    fn line(&mut self, text: &str) {
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    fn column(&self) -> usize {
        let room = PAGE - NAME - 2;
        (room / self.runs.len().max(1)).clamp(*COLUMNS.start(), *COLUMNS.end())
    }

    fn head(&mut self, report: &Report, task: &TaskReport) {
        // A task of a joined suite has its suite's name already.
        let suite = if task.name.contains(": ") { String::new() } else { format!("{}: ", cut(&report.suite, 30)) };
        self.line(&format!("{suite}{} ({} items)", cut(&task.name, 60), task.items.len()));
        if let Some(rule) = &task.rule {
            self.line(&format!("  judged by its label ({}): {}", cut(rule, 30), cut(&task.labels.join(", "), 60)));
        }
        for (at, prompt) in task.prompts.iter().enumerate() {
            self.line(&format!("  prompt {}: {}", at + 1, cut(&prompt.replace('\n', " "), 80)));
        }
        if let Some(decoding) = &task.decoding {
            self.line(&format!("  answers: {decoding}"));
        }
        let width = self.column();
        let names: String = self.runs.iter().map(|run| format!("{:>width$}", cut(run, width - 1))).collect();
        let remark = if self.runs.len() == 2 { "   difference [95%]; p" } else { "" };
        self.line(&format!("  {:<NAME$}{names}{remark}", ""));
    }

    fn figures(&mut self, task: &TaskReport) {
        let width = self.column();
        let mut section = "";
        for figure in &task.figures {
            let (part, name) = figure.name.split_once('/').unwrap_or(("", &figure.name));
            if part != section {
                self.line(part);
                section = part;
            }
            let name = match &figure.slice {
                None => name.to_owned(),
                Some(slice) => format!("  {slice} ({})", figure.items),
            };
            let values: String =
                figure.values.iter().map(|value| format!("{:>width$}", self::number(value.estimate))).collect();
            let remark = match figure.compared.as_slice() {
                [compared] => format!("   {}", difference(compared)),
                _ => String::new(),
            };
            self.line(&format!("  {:<NAME$}{values}{remark}", cut(&name, NAME)));
            if figure.compared.len() > 1 && (figure.name == task.headline && figure.slice.is_none()) {
                for (run, compared) in self.runs.iter().skip(1).zip(&figure.compared) {
                    self.text += &format!("    {}: {}\n", cut(run, NAME - 2), difference(compared));
                }
            }
        }
    }

    fn classes(&mut self, classes: &[ClassReport]) {
        if !classes.is_empty() {
            self.line("labels: precision, recall, F1");
        }
        for class in classes {
            let shown = class.values.iter().take(3);
            let values: String =
                shown.map(|class| format!("   {:.2} {:.2} {:.2}", class.precision, class.recall, class.f1)).collect();
            let remark = match class.tests.as_slice() {
                [test] => format!("   recall {:+.2}; p {} (Holm)", test.difference, p(test.p_holm)),
                _ => String::new(),
            };
            self.line(&format!("  {:<24}{values}{remark}", cut(&class.label, 24)));
        }
    }

    /// The confusion and the leakage of each run, for labels that fit the page.
    fn matrices(&mut self, task: &TaskReport) {
        if task.labels.is_empty() || task.labels.len() * CELL + CELL + 2 > PAGE {
            return;
        }
        for (run, name) in self.runs.iter().enumerate() {
            if let Some(cells) = task.confusion(run, "likelihood") {
                let cells = cells.iter().map(|row| row.iter().map(u64::to_string).collect()).collect();
                self.matrix(&format!("confusion, rows are true ({name})"), &task.labels, cells);
            }
            if let Some(leakage) = &task.runs[run].leakage {
                let cells = leakage.cells.iter().map(|row| row.iter().map(|share| format!("{share:.2}")).collect());
                self.matrix(&format!("class words, rows are asked ({name})"), &task.labels, cells.collect());
            }
        }
    }

    fn matrix(&mut self, title: &str, labels: &[String], cells: Vec<Vec<String>>) {
        self.line(title);
        let head: String = labels.iter().map(|label| format!("{:>CELL$}", cut(label, CELL - 1))).collect();
        self.line(&format!("  {:<CELL$}{head}", ""));
        for (label, row) in labels.iter().zip(cells) {
            let row: String = row.iter().map(|cell| format!("{cell:>CELL$}")).collect();
            self.line(&format!("  {:<CELL$}{row}", cut(label, CELL - 1)));
        }
    }

    /// Items whose headline figure changed.
    fn changed(&mut self, task: &TaskReport) {
        for (at, verdict) in task.verdicts.iter().enumerate() {
            for (items, what) in [(&verdict.gained, "better"), (&verdict.lost, "worse")] {
                if items.is_empty() {
                    continue;
                }
                let run = cut(&verdict.run, 30);
                self.line(&format!("{} of {} items are {what} in {run}, such as", items.len(), task.items.len()));
                for item in items.iter().take(CHANGED) {
                    self.example(task, at + 1, *item);
                }
            }
        }
    }

    fn example(&mut self, task: &TaskReport, run: usize, item: usize) {
        let asked = &task.items[item];
        let said = |run: usize| {
            let run = &task.runs[run].items[item];
            let answer = run.answers.first().map(|answer| answer.text.as_str());
            match task.headline.starts_with("likelihood/") {
                true => run.predicted.as_deref().or(answer).map(one_line),
                false => answer.or(run.predicted.as_deref()).map(one_line),
            }
        };
        let question = if asked.question.is_empty() { &asked.reference } else { &asked.question };
        self.line(&format!("  {}: {}", cut(&asked.id, 24), cut(&one_line(question), 70)));
        if let (Some(first), Some(second)) = (said(0), said(run)) {
            let label = asked.label.as_ref().map_or_else(String::new, |label| format!(" (right: {label})"));
            self.line(&format!("    {} → {}{}", cut(&first, 34), cut(&second, 34), cut(&label, 24)));
        }
    }

    fn verdicts(&mut self, report: &Report) {
        for task in &report.tasks {
            for verdict in &task.verdicts {
                let run = if report.runs.len() > 2 { format!(", {}", cut(&verdict.run, 12)) } else { String::new() };
                let text = format!("{}{run}: {}", cut(&task.name, 22), sentence(task, verdict));
                match text.split_once("; ").filter(|_| text.chars().count() > PAGE) {
                    None => self.line(&text),
                    Some((verdict, rest)) => {
                        self.line(verdict);
                        self.line(&format!("  {rest}"));
                    }
                }
            }
        }
    }
}

/// A difference, its interval, and the p-value, adjusted if it is a headline's.
fn difference(compared: &Compared) -> String {
    let Interval { estimate, low, high } = compared.difference;
    let holm = if compared.p_holm.is_some() { " (Holm)" } else { "" };
    let p = p(compared.p_holm.unwrap_or(compared.p_value));
    match estimate.abs().max(low.abs()).max(high.abs()) >= 10.0 {
        true => format!("{estimate:+.1} [{low:+.1}, {high:+.1}]; {p}{holm}"),
        false => format!("{estimate:+.3} [{low:+.2}, {high:+.2}]; {p}{holm}"),
    }
}

pub(crate) fn p(value: f64) -> String {
    if value < 0.001 { "<0.001".to_owned() } else { format!("{value:.3}") }
}

/// A value with three decimals, or with one if it is large.
pub(crate) fn number(value: f64) -> String {
    if value.abs() >= 10.0 { format!("{value:.1}") } else { format!("{value:.3}") }
}

/// Whether more is better, as an arrow.
pub(crate) fn arrow(better: Better) -> &'static str {
    match better {
        Better::Higher => "↑",
        Better::Lower => "↓",
        Better::Neither => "",
    }
}

pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first `width` characters.
pub(crate) fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
    }
}
