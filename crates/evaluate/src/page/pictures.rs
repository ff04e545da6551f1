//! Reliability diagrams and the loss curve. Their labels are HTML, so that they keep their size on narrow screens.

use serde_json::Value;

use super::{count, text};
use crate::table::number;
use crate::{Reliability, TaskReport};

/// The shapes of the runs' marks: they differ without colour.
const SHAPES: [&str; 4] = [
    "<circle r=\"4.5\"/>",
    "<circle r=\"4.5\"/>",
    "<rect x=\"-4\" y=\"-4\" width=\"8\" height=\"8\"/>",
    "<path d=\"M0 -5.5 5.5 4H-5.5z\"/>",
];

/// The mark of a run, `x` percent from the left, and `y` with its unit from the top.
pub(super) fn mark(run: usize, x: f64, y: &str) -> String {
    let shape = SHAPES[run % SHAPES.len()];
    format!("<svg x=\"{x:.2}%\" y=\"{y}\" class=\"mark run{}\" overflow=\"visible\">{shape}</svg>", run % SHAPES.len())
}

/// The runs and their marks, as items of a list.
pub(super) fn legend(runs: &[String]) -> String {
    let entry = |(at, run): (usize, &String)| {
        let mark = format!("<svg aria-hidden=\"true\">{}</svg>", mark(at, 50.0, "50%"));
        format!("<li>{mark}{}</li>", text(run))
    };
    runs.iter().enumerate().map(entry).collect()
}

/// A picture with its axes: what stands at the left from top to bottom, and below from left to right.
fn plot(class: &str, said: &str, drawn: &str, left: [&str; 3], below: [&str; 3]) -> String {
    let axis = |class: &str, labels: [&str; 3]| {
        let labels = labels.map(|label| format!("<span>{label}</span>"));
        format!("<div class=\"{class}\" aria-hidden=\"true\">{}</div>", labels.concat())
    };
    format!(
        "<div class=\"plot {class}\">{}<svg role=\"img\" aria-label=\"{said}\">{drawn}</svg>{}</div>",
        axis("left", left),
        axis("below", below),
    )
}

/// How often each run is right, by how sure it is.
pub(super) fn reliability(runs: &[String], task: &TaskReport) -> String {
    let all = runs.iter().zip(&task.runs).enumerate();
    let diagram =
        |(at, (run, of_run)): (usize, (&String, &crate::TaskRun))| Some(diagram(at, run, of_run.reliability.as_ref()?));
    let diagrams: Vec<String> = all.filter_map(diagram).collect();
    if diagrams.is_empty() {
        return String::new();
    }
    format!(
        "<h3>Reliability</h3><p class=\"soft\">Is a run right as often as it says? On the dashed line it is; a mark \
         below it is too sure, one above it too modest. A larger mark stands for more answers.</p><div \
         class=\"grid\">{}</div>",
        diagrams.concat()
    )
}

fn diagram(run: usize, name: &str, found: &Reliability) -> String {
    let filled: Vec<_> = found.bins.iter().filter(|bin| bin.count > 0).collect();
    let most = filled.iter().map(|bin| bin.count).max().unwrap_or(1) as f64;
    let grid = [25, 50, 75].map(|at| {
        format!(
            "<line class=\"grid\" x1=\"{at}%\" x2=\"{at}%\" y2=\"100%\"/><line class=\"grid\" y1=\"{at}%\" x2=\"100%\" \
             y2=\"{at}%\"/>"
        )
    });
    let mut drawn = grid.concat() + "<line class=\"ideal\" x1=\"0\" y1=\"100%\" x2=\"100%\" y2=\"0\"/>";
    let percent = |share: f64| 100.0 * share.clamp(0.0, 1.0);
    for bin in &filled {
        let (x, ideal, y) = (percent(bin.confidence), 100.0 - percent(bin.confidence), 100.0 - percent(bin.accuracy));
        let radius = 4.0 + 7.0 * (bin.count as f64 / most).sqrt();
        drawn += &format!(
            "<line class=\"whisker run{0}\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"{ideal:.2}%\" y2=\"{y:.2}%\"/>\
             <circle class=\"mark run{0}\" cx=\"{x:.2}%\" cy=\"{y:.2}%\" r=\"{radius:.1}\"><title>{1}: {2:.0}% sure, \
             {3:.0}% right</title></circle>",
            run % SHAPES.len(),
            count(bin.count as usize, "answer"),
            100.0 * bin.confidence,
            100.0 * bin.accuracy,
        );
    }
    let bins = filled
        .iter()
        .map(|bin| format!("{:.0}% sure, {:.0}% right ({})", 100.0 * bin.confidence, 100.0 * bin.accuracy, bin.count));
    let bins = bins.collect::<Vec<_>>().join("; ");
    let said = format!("{}: expected calibration error {}. {bins}", text(name), number(found.ece));
    let excluded = match found.excluded {
        0 => String::new(),
        excluded => format!(" {} without a probability left out.", count(excluded as usize, "answer")),
    };
    format!(
        "<figure><h4>{}</h4>{}<figcaption>ECE {}: the mean distance from the line; 0 is the \
         best.{excluded}</figcaption>\
         </figure>",
        text(name),
        plot("square", &said, &drawn, ["100%", "right", "0%"], ["0%", "how sure", "100%"]),
        number(found.ece),
    )
}

/// The losses of training and validation; nothing if there are fewer than two of both.
pub(super) fn curve(name: &str, curve: &Value) -> String {
    let series = |name: &str| -> Vec<(f64, f64)> {
        let points = curve.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let point = |point: &Value| Some((point.get(0)?.as_f64()?, point.get(1)?.as_f64()?));
        points.iter().filter_map(point).collect()
    };
    let all = [("training", series("training")), ("validation", series("validation"))];
    let points = || all.iter().flat_map(|(_, points)| points);
    if points().count() < 2 {
        return String::new();
    }
    let steps = points().map(|(step, _)| *step).fold(1.0, f64::max);
    let highest = points().map(|(_, loss)| *loss).fold(f64::MIN_POSITIVE, f64::max);
    let place = |(step, loss): &(f64, f64)| {
        (100.0 * (step / steps).clamp(0.0, 1.0), 100.0 - 100.0 * (loss / highest).clamp(0.0, 1.0))
    };
    let line =
        |points: &[(f64, f64)]| points.iter().map(place).map(|(x, y)| format!("{x:.2},{y:.2} ")).collect::<String>();
    let mut drawn =
        [25, 50, 75].map(|at| format!("<line class=\"grid\" y1=\"{at}%\" x2=\"100%\" y2=\"{at}%\"/>")).concat();
    drawn += "<svg viewBox=\"0 0 100 100\" preserveAspectRatio=\"none\" width=\"100%\" height=\"100%\" \
         overflow=\"visible\">";
    for (run, (_, points)) in all.iter().enumerate() {
        drawn += &format!("<polyline class=\"curve run{run}\" points=\"{}\"/>", line(points).trim_end());
    }
    drawn += "</svg>";
    for (x, y) in all[1].1.iter().map(place) {
        drawn += &mark(1, x, &format!("{y:.2}%"));
    }
    let ends = |(name, points): &(&str, Vec<(f64, f64)>)| {
        let (first, last) = (points.first()?, points.last()?);
        Some(format!("{name} from {} to {}", number(first.1), number(last.1)))
    };
    let said = all.iter().filter_map(ends).collect::<Vec<_>>().join(", ");
    let (top, right) = (number(highest), format!("{steps:.0}"));
    let name = if name.is_empty() { String::new() } else { format!(": {}", text(name)) };
    format!(
        "<section aria-label=\"Loss while training{name}\"><h2>Loss while training{name}</h2><figure><ul \
         class=\"legend\">{}</ul>{}\
         <figcaption>The mean loss of a token, in nats: {said}.</figcaption></figure></section>\n",
        legend(&all.map(|(name, _)| name.to_owned())),
        plot("wide", &format!("Loss: {said}"), &drawn, [&top, "loss", "0"], ["0", "step", &right]),
    )
}
