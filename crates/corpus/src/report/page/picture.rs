//! Charts as SVG, inside the page.

use std::fmt::Write;

use super::text::{escaped, number, percent};
use crate::report::{Bin, Lengths};

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 120.0;
/// The height of the labels below the bars.
const FOOT: f64 = 22.0;

/// A histogram with its median, as a figure.
pub(super) fn histogram(title: &str, unit: &str, lengths: &Lengths) -> String {
    let Lengths { min, p05, median, p95, max, bins } = lengths;
    let highest = bins.iter().map(|bin| bin.count).max().unwrap_or(0).max(1);
    let slot = WIDTH / bins.len().max(1) as f64;
    let mut picture = String::new();
    for (at, Bin { from, to, count }) in bins.iter().enumerate() {
        if *count == 0 {
            continue;
        }
        // A bar of one record among thousands must still be visible.
        let height = (HEIGHT * *count as f64 / highest as f64).max(1.5);
        let range = if from == to {
            number(*from as u64)
        } else {
            format!("{}–{}", number(*from as u64), number(*to as u64))
        };
        let _ = write!(
            picture,
            "<rect class=\"kept\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" rx=\"1.5\"><title>{range} {unit}: {}</title></rect>",
            at as f64 * slot + slot * 0.06,
            HEIGHT - height,
            slot * 0.88,
            number(*count),
        );
    }
    let line = bins.iter().position(|bin| (bin.from..=bin.to).contains(median)).map_or(0.0, |at| {
        let bin = bins[at];
        let within = ((*median - bin.from) as f64 + 0.5) / (bin.to - bin.from + 1) as f64;
        (at as f64 + within) * slot
    });
    let last = bins.last().map_or(0, |bin| bin.from);
    let more = if bins.last().is_some_and(|bin| bin.to > bin.from) { " and more" } else { "" };
    let text = format!(
        "Median {}, 90% between {} and {}, all between {} and {}.",
        number(*median as u64),
        number(*p05 as u64),
        number(*p95 as u64),
        number(*min as u64),
        number(*max as u64),
    );
    format!(
        "<figure><h3>{title}</h3><svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{title}. {text}\">{picture}\
         <line class=\"axis\" x1=\"0\" y1=\"{HEIGHT}\" x2=\"{WIDTH}\" y2=\"{HEIGHT}\"/>\
         <line class=\"median\" x1=\"{line:.1}\" y1=\"0\" x2=\"{line:.1}\" y2=\"{HEIGHT}\"/>\
         <text x=\"0\" y=\"{y}\">0</text><text x=\"{WIDTH}\" y=\"{y}\" text-anchor=\"end\">{}{more}</text></svg>\
         <figcaption>{text}</figcaption></figure>",
        HEIGHT + FOOT,
        number(last as u64),
        y = HEIGHT + FOOT - 5.0,
    )
}

/// A bar chart of named counts, as a figure.
pub(super) fn bars(title: &str, note: &str, counts: &[(String, u64)]) -> String {
    let whole: u64 = counts.iter().map(|(_, count)| count).sum();
    let highest = counts.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let mut figure = format!("<figure><h3>{}</h3><dl class=\"bars\">", escaped(title));
    for (name, count) in counts {
        let _ = write!(
            figure,
            "<dt>{}</dt><dd>{}</dd><dd class=\"number\">{} <span class=\"soft\">{}</span></dd>",
            escaped(name),
            meter(*count, highest, "kept"),
            number(*count),
            percent(*count, whole),
        );
    }
    figure.push_str("</dl>");
    if !note.is_empty() {
        let _ = write!(figure, "<figcaption>{note}</figcaption>");
    }
    figure + "</figure>"
}

/// A bar that shows a share. The value is also written beside it.
pub(super) fn meter(part: u64, whole: u64, class: &str) -> String {
    let mut width = 100.0 * part as f64 / whole.max(1) as f64;
    if part > 0 {
        width = width.max(0.8);
    }
    format!(
        "<svg class=\"meter\" viewBox=\"0 0 100 4\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect class=\"{class}\" width=\"{width:.2}\" height=\"4\"/></svg>"
    )
}

/// One bar with the kept and the rejected records, and a legend.
pub(super) fn hero(kept: u64, rejected: u64) -> String {
    let whole = kept + rejected;
    let width = 100.0 * kept as f64 / whole.max(1) as f64;
    let chip = |class| {
        format!(
            "<svg viewBox=\"0 0 1 1\" aria-hidden=\"true\"><rect class=\"{class}\" width=\"1\" height=\"1\" rx=\".25\"/></svg>"
        )
    };
    let words = format!(
        "{} kept ({}), {} rejected ({})",
        number(kept),
        percent(kept, whole),
        number(rejected),
        percent(rejected, whole)
    );
    format!(
        "<svg class=\"hero\" viewBox=\"0 0 100 4\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{words}\">\
         <rect class=\"kept\" width=\"{width:.3}\" height=\"4\"/><rect class=\"lost\" x=\"{width:.3}\" width=\"{:.3}\" height=\"4\"/></svg>\
         <ul class=\"legend\"><li>{}{} kept <span class=\"soft\">{}</span></li><li>{}{} rejected <span class=\"soft\">{}</span></li></ul>",
        100.0 - width,
        chip("kept"),
        number(kept),
        percent(kept, whole),
        chip("lost"),
        number(rejected),
        percent(rejected, whole),
    )
}
