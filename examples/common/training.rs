//! The output of a training run.

use super::terminal::{Interrupt, Stopped, say, tell};
use std::ops::ControlFlow;

use foehn::finetune::{Event, Rewards};
use indicatif::ProgressBar;

/// A progress bar with the remaining time, metrics at intervals, and at the end the number of tokens saved by packing.
pub struct TrainingProgress {
    interrupt: Interrupt,
    bar: ProgressBar,
    tokens: usize,
    rows: usize,
    examples: usize,
    seconds: f64,
}

impl TrainingProgress {
    /// Starts watching for signals.
    pub fn new() -> std::io::Result<Self> {
        super::terminal::go_on_without_reader();
        Ok(Self {
            interrupt: Interrupt::watch()?,
            bar: super::progress("training", 0),
            tokens: 0,
            rows: 0,
            examples: 0,
            seconds: 0.0,
        })
    }

    pub fn show(&mut self, event: Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Started { step, total, parameters } => {
                say!("training {parameters} parameters, steps {step} to {total}");
                self.bar.set_length(total as u64);
                self.bar.set_position(step as u64 - 1);
                self.bar.reset_eta();
            }
            Event::Step(metrics) => {
                self.tokens += metrics.tokens;
                self.rows += metrics.rows;
                self.examples += metrics.examples;
                self.seconds += metrics.seconds;
                self.bar.set_position(metrics.step as u64);
                self.bar.set_message(format!("epoch {} loss {:.3}", metrics.epoch, metrics.loss));
                if metrics.step % 20 == 0 || metrics.step == 1 {
                    let rate = self.examples as f64 / self.seconds;
                    let (loss, rewards) = (metrics.loss, rewards(metrics.rewards));
                    self.line(metrics.step, &format!("loss {loss:.4}{rewards}  {rate:.1} examples/s"));
                }
            }
            Event::Validated(metrics) => {
                let (loss, rewards) = (metrics.validation_loss, rewards(metrics.rewards));
                self.line(metrics.step, &format!("validation loss {loss:.4}{rewards}"));
            }
            Event::StoppedEarly { step } => self.line(step, "stopped early: the validation loss has not improved"),
            Event::Warning(warning) => self.bar.suspend(|| tell!("warning: {warning}")),
            Event::Checkpointed(_) => {}
        }
        if self.interrupt.received().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Prints a summary. If a signal ended the run, returns an error.
    pub fn finish(self) -> Result<(), Stopped> {
        self.bar.finish_and_clear();
        if self.tokens > 0 {
            let saved = 100.0 * (1.0 - self.rows as f64 / self.tokens as f64);
            say!("{:.0} s of steps: {} tokens in the samples, {} computed", self.seconds, self.tokens, self.rows);
            say!("({saved:.0}% saved by prefixes that samples share)\n");
        }
        self.interrupt.received().map_or(Ok(()), Err)
    }

    fn line(&self, step: usize, text: &str) {
        self.bar.suspend(|| say!("  step {step:>4}  {text}"));
    }
}

/// How far the chosen answers of pairs are ahead, and in what share of the pairs.
fn rewards(rewards: Option<Rewards>) -> String {
    rewards.map_or_else(String::new, |Rewards { reward_margin, reward_accuracy, .. }| {
        format!("  margin {reward_margin:.3}  chosen ahead in {:.0}%", 100.0 * reward_accuracy)
    })
}
