//! The report as one HTML page: for narrow and wide screens, light and dark mode and paper, without scripts or other
//! files.

mod changed;
mod figures;
mod matrices;
mod pictures;
mod verdict;

use serde_json::Value;

use crate::html::{count, document, folded, scroll, text};
use crate::{Report, TaskReport};

/// The beginning of the keys of [`Report::about`] whose values are drawn as curves.
const LOSS_CURVE: &str = "loss_curve";

impl Report {
    /// One HTML page for someone who would rather look than read. It needs no script and no other file.
    ///
    /// All that stands in the report is on it: the verdicts, each task's figures with their intervals, confusion and
    /// leakage, reliability, the examples that changed, and [`about`](Self::about). A value `loss_curve` or
    /// `loss_curve NAME` in there, `{"training": [[step, loss], …], "validation": [[step, loss], …]}`, is drawn.
    pub fn page(&self) -> String {
        let tasks: String = self.tasks.iter().enumerate().map(|(at, task)| section(&self.runs, at, task)).collect();
        let curves = self.about.iter().filter_map(|(key, value)| Some((key.strip_prefix(LOSS_CURVE)?, value)));
        let mut curves: String = curves.map(|(name, value)| pictures::curve(name.trim(), value)).collect();
        if !curves.is_empty() {
            curves = format!("<div id=\"curve\">{curves}</div>");
        }
        let body = format!(
            "{}<main>\n{}{tasks}{curves}{}</main>\n",
            header(self, !curves.is_empty()),
            verdict::cards(self),
            about(self)
        );
        document(&format!("Evaluation of {}", self.suite), &body)
    }
}

fn header(report: &Report, has_curve: bool) -> String {
    let items: usize = report.tasks.iter().map(|task| task.items.len()).sum();
    let runs = match report.runs.split_first() {
        None => "Nothing was run.".to_owned(),
        Some((only, [])) => format!("<code>{}</code> on {}.", text(only), count(items, "item")),
        Some((first, others)) => {
            let others: Vec<String> = others.iter().map(|run| format!("<code>{}</code>", text(run))).collect();
            let (first, others) = (text(first), others.join(", "));
            format!("{others} compared with <code>{first}</code>, on the same {}.", count(items, "item"))
        }
    };
    let mut links: Vec<(String, String)> =
        report.tasks.iter().enumerate().map(|(at, task)| (format!("task-{at}"), text(&task.name))).collect();
    if has_curve {
        links.push(("curve".to_owned(), "Loss".to_owned()));
    }
    links.push(("about".to_owned(), "What was run".to_owned()));
    let links: String = links.iter().map(|(id, name)| format!("<a href=\"#{id}\">{name}</a>")).collect();
    format!(
        "<header><p class=\"eyebrow\">Evaluation of {}</p>{}<p class=\"soft\">{runs}</p>\
         <nav aria-label=\"On this page\">{links}</nav></header>\n",
        text(&report.suite),
        verdict::headline(report),
    )
}

/// All about one task.
fn section(runs: &[String], at: usize, task: &TaskReport) -> String {
    format!(
        "<section aria-labelledby=\"task-{at}\"><h2 id=\"task-{at}\">{}</h2>{}{}{}{}{}</section>\n",
        text(&task.name),
        asked(task),
        figures::figures(runs, task),
        matrices::matrices(runs, task),
        pictures::reliability(runs, task),
        changed::changed(runs, task),
    )
}

/// What was asked, and how the answers were generated and judged.
fn asked(task: &TaskReport) -> String {
    let kind = match task.kind.as_str() {
        "choice" => "an answer is one of several labels or options",
        "text" => "an answer is compared with a reference",
        "describe" => "an answer should use the words of one class",
        "likelihood" => "how likely is a text?",
        kind => kind,
    };
    let mut rows = vec![("Task", format!("{}; {}", text(kind), count(task.items.len(), "item")))];
    if !task.labels.is_empty() {
        rows.push(("Labels", text(&task.labels.join(", "))));
    }
    rows.extend(task.rule.as_ref().map(|rule| ("Label is", format!("<code>{}</code>", text(rule)))));
    rows.extend(task.prompts.iter().map(|prompt| ("Prompt", folded(prompt))));
    rows.extend(task.decoding.as_ref().map(|decoding| ("Answers", text(decoding))));
    let rows: String =
        rows.iter().map(|(name, value)| format!("<dt>{name}</dt><dd dir=\"auto\">{value}</dd>")).collect();
    format!("<dl class=\"facts\">{rows}</dl>")
}

/// The files' hashes, the manifests and settings.
fn about(report: &Report) -> String {
    let hash = |task: &TaskReport| -> String {
        let row = |(file, hash): (&String, &String)| {
            let (task, file, hash) = (text(&task.name), text(file), text(hash));
            format!("<tr><th scope=\"row\">{task}</th><td><code>{file}</code></td><td><code>{hash}</code></td></tr>")
        };
        task.hashes.iter().map(row).collect()
    };
    let hashes: String = report.tasks.iter().map(hash).collect();
    let hashes = match hashes.is_empty() {
        true => String::new(),
        false => format!(
            "{}<table class=\"hashes\"><caption>Where the questions come from</caption><thead><tr>\
             <th scope=\"col\">Task</th><th scope=\"col\">File</th><th scope=\"col\">SHA-256</th></tr></thead>\
             <tbody>{hashes}</tbody></table></div>",
            scroll("Files and hashes")
        ),
    };
    let others = report.about.iter().filter(|(key, _)| !key.starts_with(LOSS_CURVE));
    let (short, long): (Vec<_>, Vec<_>) = others.partition(|(_, value)| !value.is_array() && !value.is_object());
    let row = |(key, value): (&String, &Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("<dt>{}</dt><dd>{}</dd>", text(key), folded(&value))
    };
    let block = |(key, value): (&String, &Value)| {
        let value = text(&format!("{value:#}"));
        format!("<details class=\"card\"><summary>{}</summary><pre>{value}</pre></details>", text(key))
    };
    let short: String = short.into_iter().map(row).collect();
    let short = if short.is_empty() { short } else { format!("<dl class=\"facts\">{short}</dl>") };
    let long: String = long.into_iter().map(block).collect();
    format!("<section aria-labelledby=\"about\"><h2 id=\"about\">What was run</h2>{short}{hashes}{long}</section>\n")
}
