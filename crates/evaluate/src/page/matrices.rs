//! Confusion and leakage as heat maps, the runs side by side. Every cell has its number, so that no colour is needed.

use crate::TaskReport;
use crate::html::{Cell, heat_map, heat_maps};

/// Matrices of more labels are left out.
const MAX_LABELS: usize = 40;

/// The matrices of a task.
pub(super) fn matrices(runs: &[String], task: &TaskReport) -> String {
    let count = task.labels.len();
    if count == 0 {
        return String::new();
    }
    if count > MAX_LABELS {
        return format!(
            "<h3>Confusion</h3><p class=\"soft\">{count} labels are too many for a picture. The JSON report has the \
             predictions.</p>"
        );
    }
    let mut page = confusion(runs, task, "likelihood", "Confusion by likelihood");
    page += &confusion(runs, task, "generation", "Confusion of generated answers");
    page + &leakage(runs, task)
}

fn confusion(runs: &[String], task: &TaskReport, by: &str, title: &str) -> String {
    let all: Vec<Option<Vec<Vec<u64>>>> = (0..runs.len()).map(|run| task.confusion(run, by)).collect();
    let columns = all.iter().flatten().flatten().map(Vec::len).max().unwrap_or(0);
    let mut names: Vec<&str> = task.labels.iter().map(String::as_str).collect();
    if columns > names.len() {
        names.push("none");
    }
    let cells = |row: &Vec<u64>| -> Vec<Cell> {
        let whole = row.iter().sum::<u64>().max(1) as f64;
        let counts = row.iter().copied().chain(std::iter::repeat(0)).take(columns);
        counts.map(|count| (count as f64 / whole, count.to_string())).collect()
    };
    let maps = runs.iter().zip(&all).filter_map(|(run, matrix)| {
        let rows = matrix.as_ref()?.iter().map(cells).collect();
        Some(heat_map(run, ["right", "given"], &task.labels, &names, rows))
    });
    let none = match columns > task.labels.len() {
        true => " “None” is an answer without a label.",
        false => "",
    };
    let note = format!(
        "Rows are the right labels, columns the given ones; the diagonal is right. The more of its row a cell has, the \
         stronger its colour.{none}"
    );
    side_by_side(title, &note, &names, maps.collect())
}

fn leakage(runs: &[String], task: &TaskReport) -> String {
    let names: Vec<&str> = task.labels.iter().map(String::as_str).collect();
    let maps = runs.iter().zip(&task.runs).filter_map(|(run, of_run)| {
        let matrix = of_run.leakage.as_ref()?;
        let cells = |row: &Vec<f64>| -> Vec<Cell> { row.iter().map(|share| (*share, format!("{share:.2}"))).collect() };
        Some(heat_map(run, ["asked", "words"], &task.labels, &names, matrix.cells.iter().map(cells).collect()))
    });
    let note = "Rows are the classes that were asked for, columns the classes of the words in the answers, as shares \
         of a row. What is off the diagonal has leaked.";
    side_by_side("Leakage", note, &names, maps.collect())
}

fn side_by_side(title: &str, note: &str, names: &[&str], maps: Vec<String>) -> String {
    if maps.is_empty() {
        return String::new();
    }
    format!("<h3>{title}</h3><p class=\"soft\">{note}</p>{}", heat_maps(names, maps))
}
