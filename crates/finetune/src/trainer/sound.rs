//! Whether a run's state is fit to be written.

use foehn_lora::{Adapter, detach};

use super::Trainer;
use crate::Error;

impl Trainer<'_> {
    /// The current adapter, if all its values are finite.
    pub(super) fn sound_adapter(&self) -> Result<Adapter, Error> {
        let adapter = detach(&mut self.model.clone(), &self.config.lora);
        let adapter = adapter.ok_or_else(|| Error::NoData { reason: "the model has no adapter".into() })?;
        for (name, pair) in &adapter.modules {
            self.check_finite(&format!("{name}.lora_A"), &pair.a)?;
            self.check_finite(&format!("{name}.lora_B"), &pair.b)?;
        }
        Ok(adapter)
    }

    pub(super) fn check_finite(&self, name: &str, values: &[f32]) -> Result<(), Error> {
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(self.not_finite(name, self.state.step.saturating_sub(1), f64::from(*value))),
            None => Ok(()),
        }
    }

    /// Parameters can be finite but so large that the computation overflows. A validation shows this. If there was none
    /// since the last step, the samples of that step are used.
    pub(super) fn check_loss(&mut self) -> Result<(), Error> {
        if self.state.step == 0 || self.validation.is_some() && self.state.validated == self.state.step {
            return Ok(());
        }
        let (_, samples) = self.samples_of(self.state.step - 1);
        let (loss, _) = self.loss(&samples);
        if loss.is_finite() { Ok(()) } else { Err(self.not_finite("loss after the update", self.state.step - 1, loss)) }
    }

    pub(super) fn not_finite(&self, what: &str, step: usize, value: f64) -> Error {
        let (training, config) = (self.training, &self.config);
        let (_, chosen) = training.of_step(config, step);
        Error::NotFinite {
            what: what.to_owned(),
            step: step + 1,
            value,
            samples: chosen.into_iter().map(|index| training.names[index].clone()).collect(),
            last_checkpoint: self.last_checkpoint.clone(),
        }
    }
}
