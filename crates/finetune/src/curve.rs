//! The loss curve as a picture.

use std::path::Path;

use plotters::prelude::*;

use crate::{Error, metrics};

const SIZE: (u32, u32) = (900, 500);

/// Draws the training and validation losses of a `metrics.jsonl` as an SVG.
pub(crate) fn draw(metrics_path: &Path, svg_path: &Path) -> Result<(), Error> {
    let [train, validation] = metrics::losses(metrics_path)?;
    if train.is_empty() {
        return Ok(());
    }
    let mut svg = String::new();
    render(&train, &validation, &mut svg).map_err(|error| Error::Curve { reason: error.to_string() })?;
    crate::checkpoint::write_file(svg_path, svg.as_bytes())
}

fn render(
    train: &[(usize, f64)],
    validation: &[(usize, f64)],
    svg: &mut String,
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let last = train.iter().map(|point| point.0).max().unwrap_or(1);
    let top = train.iter().chain(validation).map(|point| point.1).fold(0.0, f64::max) * 1.05;
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let to_io = |error: DrawingAreaErrorKind<_>| match error {
        DrawingAreaErrorKind::BackendError(_)
        | DrawingAreaErrorKind::SharingError
        | DrawingAreaErrorKind::LayoutError => DrawingAreaErrorKind::LayoutError,
    };
    area.fill(&WHITE).map_err(to_io)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Loss (nats per supervised token)", ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0..last, 0.0..top)
        .map_err(to_io)?;
    chart.configure_mesh().x_desc("step").light_line_style(WHITE).draw().map_err(to_io)?;
    let blue = RGBColor(31, 119, 180);
    let red = RGBColor(214, 39, 40);
    let faint = chart.draw_series(LineSeries::new(train.iter().copied(), blue.mix(0.3))).map_err(to_io)?;
    faint.label("training, each step").legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], blue.mix(0.3)));
    let smooth = chart.draw_series(LineSeries::new(smoothed(train), blue.stroke_width(2))).map_err(to_io)?;
    smooth
        .label("training, smoothed")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], blue.stroke_width(2)));
    if !validation.is_empty() {
        let held_out = LineSeries::new(validation.iter().copied(), red.stroke_width(2)).point_size(3);
        let held_out = chart.draw_series(held_out).map_err(to_io)?;
        held_out.label("validation").legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], red.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .border_style(BLACK)
        .background_style(WHITE.mix(0.8))
        .draw()
        .map_err(to_io)?;
    area.present().map_err(to_io)
}

/// An exponential moving average that starts at the first value.
fn smoothed(points: &[(usize, f64)]) -> Vec<(usize, f64)> {
    let mut average = points.first().map_or(0.0, |point| point.1);
    points
        .iter()
        .map(|&(step, loss)| {
            average = 0.9 * average + 0.1 * loss;
            (step, average)
        })
        .collect()
}
