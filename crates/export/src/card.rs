//! A model card.

use std::fmt;

use foehn_lora::Manifest;

/// What a written model or adapter is made of, as the `README.md` that the Hugging Face hub shows.
#[derive(Clone, Debug, Default)]
pub struct Card {
    /// The name of the model.
    pub name: String,
    /// The base: its repository on the hub if it is known, or else the name that the user gave.
    pub base: String,
    /// Whether `base` is a repository of the hub (`org/name`).
    pub is_repository: bool,
    /// Whether the folder holds an adapter beside the base, and not a whole model.
    pub is_adapter: bool,
    /// The adapters, each with its weight and where it comes from, if Foehn trained it.
    pub adapters: Vec<(f64, Option<Manifest>)>,
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "---")?;
        if self.is_repository {
            writeln!(f, "base_model: {}", self.base)?;
            writeln!(f, "base_model_relation: {}", if self.is_adapter { "adapter" } else { "finetune" })?;
        }
        writeln!(f, "library_name: {}", if self.is_adapter { "peft" } else { "transformers" })?;
        writeln!(f, "pipeline_tag: text-generation\ntags:\n- foehn\n- lora\n---\n\n# {}\n", self.name)?;
        match self.is_adapter {
            true => writeln!(f, "A LoRA adapter for `{}`.", self.base)?,
            false if self.adapters.is_empty() => writeln!(f, "`{}`, written again.", self.base)?,
            false => writeln!(f, "`{}` with a LoRA adapter merged into its weights.", self.base)?,
        }
        writeln!(f, "The licence is that of the base and of the data that it was tuned on.")?;
        for (weight, manifest) in &self.adapters {
            writeln!(f, "\n## Where the adapter comes from\n")?;
            if *weight != 1.0 {
                writeln!(f, "Its update has the weight {weight}.\n")?;
            }
            let Some(manifest) = manifest else {
                writeln!(f, "It has no manifest.")?;
                continue;
            };
            let text = serde_json::to_string_pretty(manifest).map_err(|_| fmt::Error)?;
            writeln!(f, "Trained with Foehn {}. All that decided it:\n\n```json\n{text}\n```", manifest.foehn)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_says_what_the_model_is_made_of() {
        let manifest = Manifest { foehn: "0.1.0".into(), seed: 7, ..Manifest::default() };
        let card = Card {
            name: "tuned".into(),
            base: "org/base".into(),
            is_repository: true,
            is_adapter: false,
            adapters: vec![(0.5, Some(manifest)), (1.0, None)],
        };
        let text = card.to_string();
        for part in ["base_model: org/base\n", "finetune", "# tuned", "weight 0.5", "\"seed\": 7", "no manifest"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let card = Card { is_repository: false, is_adapter: true, ..card };
        assert!(!card.to_string().contains("base_model:") && card.to_string().contains("library_name: peft"));
    }
}
