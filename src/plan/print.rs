//! A plan as text.

use std::fmt;

use super::{Part, Plan};

impl Part {
    fn text(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Adapter => "adapter",
            Self::Moments => "moments",
            Self::Gradients => "gradients",
            Self::Activations => "activations",
            Self::Head => "logits and loss",
            Self::Scratch => "packed copies, scratch",
            Self::Program => "program and data",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, data, memory, time } = self;
        let (base, rows) = (&settings.base, settings.micro_batch_rows);
        writeln!(
            f,
            "settings   base = \"{base}\", micro_batch_rows = {rows}, recompute = {}, {} parameters",
            settings.recompute, settings.parameters
        )?;
        writeln!(
            f,
            "data       {} samples for training, {} for validation, {} records rejected by the cleaning",
            data.samples, data.validation_samples, data.rejected
        )?;
        if data.too_long > 0 {
            writeln!(f, "           {} records are too long: the run would refuse them", data.too_long)?;
        }
        for (set, fitting) in [("training", &data.fitting), ("validation", &data.validation_fitting)] {
            if data.too_long == 0 && !fitting.is_whole() {
                writeln!(f, "           {set}: {fitting}")?;
            }
        }
        if !data.weights.is_empty() {
            let weights = data.weights.iter().map(|part| format!("{} samples {} times", part.examples, part.weight));
            writeln!(f, "           in an epoch: {}", weights.collect::<Vec<_>>().join(", "))?;
        }
        writeln!(
            f,
            "           {} tokens, {} of them trained; the longest sample has {}",
            data.tokens, data.supervised, data.longest
        )?;
        writeln!(
            f,
            "steps      {} ({} tokens computed, at most {} at once)",
            data.steps, data.computed, data.largest_micro_batch
        )?;
        writeln!(f, "memory     {} at the peak", size(memory.peak))?;
        for (part, bytes) in &memory.parts {
            writeln!(f, "           {:<24} {:>10}", part.text(), size(*bytes))?;
        }
        match time {
            Some(time) => write!(
                f,
                "time       {} of steps, {} each; {} of validations; without loading and evaluation",
                duration(time.training),
                duration(time.step),
                duration(time.validation)
            ),
            None => write!(f, "time       not measured"),
        }
    }
}

/// A number of bytes as people read it.
pub fn size(bytes: usize) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024.0 { format!("{mib:.1} MiB") } else { format!("{:.2} GiB", mib / 1024.0) }
}

fn duration(seconds: f64) -> String {
    match seconds {
        _ if seconds < 10.0 => format!("{seconds:.2} s"),
        _ if seconds < 120.0 => format!("{seconds:.0} s"),
        _ if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([size(0), size(3 << 19), size(3 << 29)], ["0.0 MiB", "1.5 MiB", "1.50 GiB"]);
        let said = [0.5, 65.0, 600.0, 9000.0].map(duration);
        assert_eq!(said, ["0.50 s", "65 s", "10 min", "2.5 h"]);
    }
}
