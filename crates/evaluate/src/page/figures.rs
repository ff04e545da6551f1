//! The figures: drawn where they are shares, and all of them in a table.

use super::pictures::{legend, mark};
use super::{count, scroll, text};
use crate::table::{arrow, number, p};
use crate::{ClassReport, Compared, Figure, Interval, TaskReport};

/// The values at the two ends of a chart.
#[derive(Clone, Copy)]
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// A place on the chart, in percent of its width.
    fn at(self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        if share.is_finite() { (100.0 * share).clamp(0.0, 100.0) } else { 0.0 }
    }
}

/// The charts and the tables of a task.
pub(super) fn figures(runs: &[String], task: &TaskReport) -> String {
    format!("<h3>Figures</h3>{}{}{}", chart(runs, task), table(runs, task), classes(runs, task))
}

/// Values with their intervals as dots with whiskers: all figures from 0 to 1, or else the headline figure.
fn chart(runs: &[String], task: &TaskReport) -> String {
    let is_share = |value: &Interval| value.low >= 0.0 && value.high <= 1.0;
    let all = ordered(task);
    let mut drawn: Vec<&Figure> = all.iter().copied().filter(|figure| figure.values.iter().all(is_share)).collect();
    let mut scale = Scale { low: 0.0, high: 1.0 };
    let mut ends = ["0", "0.5", "1"].map(str::to_owned);
    if drawn.is_empty() {
        drawn = all.into_iter().filter(|figure| figure.name == task.headline).collect();
        let values = drawn.iter().flat_map(|figure| &figure.values).flat_map(|value| [value.low, value.high]);
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), end| (low.min(end), high.max(end)));
        let margin = (high - low).max(1e-3) * 0.06;
        scale = Scale { low: low - margin, high: high + margin };
        ends = [scale.low, scale.low.midpoint(scale.high), scale.high].map(number);
    }
    if drawn.is_empty() || !scale.low.is_finite() || !scale.high.is_finite() {
        return String::new();
    }
    let mut rows = String::new();
    let mut section = "";
    for figure in drawn {
        let (part, name) = figure.name.split_once('/').unwrap_or(("", &figure.name));
        if part != section {
            rows += &format!("<li class=\"part\">{}</li>", text(part));
            section = part;
        }
        rows += &row(runs, figure, name, scale, figure.name == task.headline && figure.slice.is_none());
    }
    let ends = ends.map(|end| format!("<i>{end}</i>")).concat();
    format!(
        "<figure><ul class=\"legend\">{}</ul><ul class=\"dots\" style=\"--values:{}rem\">{rows}<li class=\"ends\" \
         aria-hidden=\"true\"><span></span><span>{ends}</span><span></span></li></ul><figcaption>Each mark is a \
         value, its line the 95% interval. ↑ more is better, ↓ less is better. In bold, the figure of the \
         verdict.</figcaption></figure>",
        legend(runs),
        4 * runs.len().min(4) + 1,
    )
}

/// The figures, each before its slices.
fn ordered(task: &TaskReport) -> Vec<&Figure> {
    let first = |figure: &Figure| task.figures.iter().position(|other| other.name == figure.name);
    let mut all: Vec<&Figure> = task.figures.iter().collect();
    all.sort_by_key(|figure| (first(figure), figure.slice.is_some()));
    all
}

/// A figure's row in the chart.
fn row(runs: &[String], figure: &Figure, name: &str, scale: Scale, is_headline: bool) -> String {
    let height = 12 * figure.values.len() + 10;
    let grid =
        [0, 25, 50, 75, 100].map(|at| format!("<line class=\"grid\" x1=\"{at}%\" x2=\"{at}%\" y2=\"{height}\"/>"));
    let drawn = figure.values.iter().enumerate().map(|(run, value)| {
        let (low, high, y) = (scale.at(value.low), scale.at(value.high), 12 * run + 11);
        let whisker = format!("x1=\"{low:.2}%\" x2=\"{high:.2}%\" y1=\"{y}\" y2=\"{y}\"");
        let dot = mark(run, scale.at(value.estimate), &y.to_string());
        format!("<line class=\"whisker run{}\" {whisker}/>{dot}", run % 4)
    });
    let drawn: String = drawn.collect();
    let said = runs.iter().zip(&figure.values).map(|(run, Interval { estimate, low, high })| {
        format!("{}: {} ({} to {})", text(run), number(*estimate), number(*low), number(*high))
    });
    let said = said.collect::<Vec<_>>().join("; ");
    let values: Vec<String> = figure.values.iter().map(|value| number(value.estimate)).collect();
    let values = values.join(if values.len() == 2 { " → " } else { " · " });
    let (class, name) = match &figure.slice {
        Some(slice) => (" class=\"slice\"", text(slice)),
        None if is_headline => (" class=\"headline\"", text(name)),
        None => ("", text(name)),
    };
    format!(
        "<li{class}><span>{name} {}</span><svg height=\"{height}\" role=\"img\" aria-label=\"{name}. \
         {said}\">{}{drawn}</svg>\
         <span class=\"number\">{values}</span></li>",
        arrow(figure.better),
        grid.concat(),
    )
}

/// Every figure, with its interval and the comparisons.
fn table(runs: &[String], task: &TaskReport) -> String {
    let first = runs.first().map_or("", String::as_str);
    let column = |name: String| format!("<th scope=\"col\" class=\"number\">{name}</th>");
    let compared = runs.iter().skip(1).map(|run| column(format!("{} <small>minus {}</small>", text(run), text(first))));
    let head: String = runs.iter().map(|run| column(text(run))).chain(compared).collect();
    let columns = 2 * runs.len();
    let mut rows = String::new();
    let mut section = "";
    for figure in ordered(task) {
        let (part, name) = figure.name.split_once('/').unwrap_or(("", &figure.name));
        if part != section {
            rows +=
                &format!("<tr class=\"part\"><th scope=\"colgroup\" colspan=\"{columns}\">{}</th></tr>", text(part));
            section = part;
        }
        let class = match &figure.slice {
            Some(_) => " class=\"slice\"",
            None if figure.name == task.headline => " class=\"headline\"",
            None => "",
        };
        let name = text(figure.slice.as_deref().unwrap_or(name));
        let values: String = figure.values.iter().map(value).collect();
        let differences: String = figure.compared.iter().map(difference).collect();
        let items = match figure.items == task.items.len() {
            true => String::new(),
            false => format!(" <small>{}</small>", count(figure.items, "item")),
        };
        let rest = runs.len().saturating_sub(1 + figure.compared.len());
        rows += &format!(
            "<tr{class}><th scope=\"row\">{name} {}{items}</th>{values}{differences}{}</tr>",
            arrow(figure.better),
            "<td></td>".repeat(rest),
        );
    }
    format!(
        "{}<table class=\"figures\"><caption>Every figure, with its 95% interval</caption><thead><tr>\
         <th scope=\"col\">Figure</th>{head}</tr></thead><tbody>{rows}</tbody></table></div><p \
         class=\"soft\">Intervals are \
         from the bootstrap over groups, differences on the same items. A difference in bold has an interval without \
         0. \
         Only the p-values of the figure in bold are adjusted for all verdicts (Holm).</p>",
        scroll(&format!("Figures of {}", text(&task.name))),
    )
}

fn value(Interval { estimate, low, high }: &Interval) -> String {
    let interval = format!("[{}, {}]", number(*low), number(*high));
    format!("<td class=\"number\">{} <small>{interval}</small></td>", number(*estimate))
}

fn difference(compared: &Compared) -> String {
    let Interval { estimate, low, high } = compared.difference;
    let shown = match low > 0.0 || high < 0.0 {
        true => format!("<b>{}</b>", signed(estimate)),
        false => signed(estimate),
    };
    let holm = compared.p_holm.map_or_else(String::new, |holm| format!(", Holm {}", p(holm)));
    let p = text(&format!("p {}{holm}", p(compared.p_value)));
    format!("<td class=\"number\">{shown} <small>[{}, {}]</small> <small>{p}</small></td>", signed(low), signed(high))
}

fn signed(value: f64) -> String {
    if value < 0.0 { number(value) } else { format!("+{}", number(value)) }
}

/// Precision, recall and F1 of each label.
fn classes(runs: &[String], task: &TaskReport) -> String {
    if task.classes.is_empty() {
        return String::new();
    }
    let over = runs.iter().map(|run| format!("<th scope=\"colgroup\" colspan=\"3\">{}</th>", text(run)));
    let tests = runs
        .iter()
        .skip(1)
        .map(|run| format!("<th scope=\"col\" rowspan=\"2\" class=\"number\">Recall of {}</th>", text(run)));
    let over: String = over.chain(tests).collect();
    let under = ["Precision", "Recall", "F1"].map(|name| format!("<th scope=\"col\" class=\"number\">{name}</th>"));
    let row = |class: &ClassReport| {
        let support = class.values.first().map_or(0, |values| values.support as usize);
        let values = class.values.iter().flat_map(|class| [class.precision, class.recall, class.f1]);
        let values: String = values.map(|value| format!("<td class=\"number\">{value:.2}</td>")).collect();
        let tests = class.tests.iter().map(|test| {
            let p = text(&format!("p {}", p(test.p_holm)));
            format!("<td class=\"number\">{} <small>{p}</small></td>", signed(test.difference))
        });
        let name = text(&class.label);
        let items = count(support, "item");
        format!("<tr><th scope=\"row\">{name} <small>{items}</small></th>{values}{}</tr>", tests.collect::<String>())
    };
    format!(
        "{}<table><caption>Each label, by likelihood</caption><thead><tr><th scope=\"col\" \
         rowspan=\"2\">Label</th>{over}\
         </tr><tr>{}</tr></thead><tbody>{}</tbody></table></div><p class=\"soft\">The recall is tested with McNemar’s \
         exact \
         test, adjusted for the number of labels (Holm).</p>",
        scroll(&format!("Labels of {}", text(&task.name))),
        under.concat().repeat(runs.len()),
        task.classes.iter().map(row).collect::<String>(),
    )
}
