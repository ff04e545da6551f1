//! An adapter as a GGUF file, for llama.cpp.

use std::borrow::Cow;
use std::path::Path;

use foehn_mistral::{MistralConfig, gguf_name, half_split_row};
use foehn_weights::{GgufValue, Tensor, save_gguf};

use crate::{Adapter, Error, Matrices};

impl Adapter {
    /// Writes the adapter as a GGUF file, which llama.cpp, and what is built on it, loads beside the base. `notes` are further
    /// keys of its metadata.
    ///
    /// llama.cpp has one alpha for all modules, and divides it by each module's rank. What differs from that (rsLoRA, ranks
    /// and alphas by pattern) goes into B. Where the base's rows of q and k are interleaved, B's rows are too.
    ///
    /// # Errors
    /// Those of [`check_config`](Self::check_config); [`Error::Model`] for a network that GGUF does not have;
    /// [`Error::NotFinite`] if a scale makes a value infinite; [`Error::Weights`] if writing fails.
    pub fn save_gguf(&self, path: &Path, config: &MistralConfig, notes: &[(String, GgufValue)]) -> Result<(), Error> {
        self.check_config(config)?;
        let architecture = config.gguf_architecture().map_err(|source| Error::Model { source: Box::new(source) })?;
        // To llama.cpp, 0 means that there is no alpha, and the scale 1. A scale of 0 goes into B as any other.
        let alpha = if self.config.lora_alpha == 0.0 { 1.0 } else { self.config.lora_alpha as f32 };
        let mut metadata = vec![
            ("general.architecture".to_owned(), GgufValue::from(architecture)),
            ("general.type".to_owned(), GgufValue::from("adapter")),
            ("adapter.type".to_owned(), GgufValue::from("lora")),
            ("adapter.lora.alpha".to_owned(), GgufValue::from(alpha)),
        ];
        metadata.extend_from_slice(notes);
        let mut tensors = Vec::new();
        for (module, pair) in &self.modules {
            let name = gguf_name(&format!("{}.weight", config.language_module(module)));
            let b = self.b_for_llama_cpp(module, pair, config, alpha.into())?;
            tensors.push(Tensor::f32(format!("{name}.lora_a"), vec![pair.r, pair.a.len() / pair.r], &pair.a));
            tensors.push(Tensor::f32(format!("{name}.lora_b"), vec![pair.b.len() / pair.r, pair.r], b));
        }
        Ok(save_gguf(path, &metadata, &tensors)?)
    }

    /// B, with what llama.cpp's scale `alpha / r` lacks.
    fn b_for_llama_cpp<'a>(
        &self,
        module: &str,
        pair: &'a Matrices,
        config: &MistralConfig,
        alpha: f64,
    ) -> Result<Cow<'a, [f32]>, Error> {
        let missing = self.config.scale(module)? * pair.r as f64 / alpha;
        let mut b = Cow::from(&pair.b);
        if missing != 1.0 {
            b.to_mut().iter_mut().for_each(|value| *value = (f64::from(*value) * missing) as f32);
        }
        if config.is_interleaved_in_gguf() && (module.ends_with(".q_proj") || module.ends_with(".k_proj")) {
            b = rows(&b, pair.r, |row| half_split_row(row, config.head_dim)).into();
        }
        Ok(b)
    }
}

/// The matrix whose row `n` is the row `source(n)`.
pub(crate) fn rows(values: &[f32], width: usize, source: impl Fn(usize) -> usize) -> Vec<f32> {
    (0..values.len() / width).flat_map(|row| values[source(row) * width..][..width].iter().copied()).collect()
}
