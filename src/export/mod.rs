//! Writes a tuned model for other programs, and measures what merging into few bits costs.
//!
//! A [`Source`] is a base, of which the header alone is read, and the adapters to be merged into it. The formats are those of
//! `foehn-export`, which this module re-exports; [`Cost`] compares a merged model with the attached adapter.

mod cost;

use std::path::{Path, PathBuf};

use foehn_generate::SamplingConfig;
use foehn_hub::Hub;
use foehn_lora::Adapter;
use foehn_mistral::Checkpoint;
use foehn_tokens::{ChatTemplate, TemplateChoice, Tokenizer};
use foehn_weights::GgufValue;
use serde_json::{Map, Value};

pub use cost::{Cost, CostError, Questions};
pub use foehn_export::{Card, Error, Folder, Merged, Mix, Modelfile, Result, save_folder, save_gguf};

use crate::pretrained::Side;
use crate::{LoadError, Loading};

/// A base and the adapters that go with it, opened and not loaded.
#[derive(Debug)]
pub struct Source {
    name: String,
    side: Side,
    adapters: Vec<(PathBuf, f64, Adapter)>,
    /// What is merged or written beside the base.
    combined: Option<Adapter>,
}

impl Source {
    /// Finds a model's files (for the possible names see [`Hub::resolve`]) and reads adapters, each with its weight. An
    /// adapter that was trained on another base, tokenizer or template is refused, unless `allow_mismatch` is set.
    ///
    /// # Errors
    /// [`LoadError`], which names the file and the place.
    pub fn open(
        name: &str,
        template: Option<&TemplateChoice>,
        adapters: &[(PathBuf, f64)],
        allow_mismatch: bool,
        progress: &mut dyn FnMut(Loading<'_>),
    ) -> std::result::Result<Self, LoadError> {
        let side = Side::open(name, template, true, progress)?;
        let mut read = Vec::new();
        for (path, weight) in adapters {
            read.push((path.clone(), *weight, side.adapter(path, allow_mismatch, progress)?));
        }
        let combined = match read.as_slice() {
            [] => None,
            [(_, weight, adapter)] if *weight == 1.0 => Some(adapter.clone()),
            several => {
                let parts: Vec<(f64, &Adapter)> = several.iter().map(|(_, weight, one)| (*weight, one)).collect();
                let failed = |source| LoadError::Adapter { path: several[0].0.clone(), source: Box::new(source) };
                Some(Adapter::combined(&parts).map_err(failed)?)
            }
        };
        Ok(Self { name: name.to_owned(), side, adapters: read, combined })
    }

    /// The tokenizer of the base.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.side.tokenizer
    }

    /// The chat template: the base's, or the chosen one.
    pub fn template(&self) -> &ChatTemplate {
        &self.side.template
    }

    /// The text of the base's `config.json`, if it has one.
    pub fn config_json(&self) -> Option<&str> {
        self.side.config_json.as_deref()
    }

    /// The path of the base's weights: a file or a folder.
    pub fn base_path(&self) -> &Path {
        self.side.weights.path()
    }

    /// The adapter: the only one, or the weighted sum of all; `None` if there is none.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.combined.as_ref()
    }

    /// The base with the adapter merged into it, tensor by tensor.
    ///
    /// # Errors
    /// Those of [`Checkpoint::new`] and [`Merged::new`].
    pub fn merged(&self) -> Result<Merged<'_>> {
        Merged::new(Checkpoint::new(&self.side.config, &self.side.weights)?, self.combined.as_ref())
    }

    /// The base's repository on the hub, or else the name that the user gave, and which of them it is.
    pub fn base_name(&self) -> (String, bool) {
        match Hub::repository(&self.name) {
            Some(repository) => (repository, true),
            None => (self.name.clone(), false),
        }
    }

    /// A card for what is written.
    pub fn card(&self, name: &str, is_adapter: bool) -> Card {
        let (base, is_repository) = self.base_name();
        let adapters = self.adapters.iter().map(|(_, weight, adapter)| (*weight, adapter.manifest.clone())).collect();
        Card { name: name.to_owned(), base, is_repository, is_adapter, adapters }
    }

    /// Keys of a GGUF's metadata that say what the file is made of: its name, the base, and the manifest of each adapter.
    pub fn notes(&self, name: &str) -> Vec<(String, GgufValue)> {
        let mut notes = vec![
            ("general.name".to_owned(), GgufValue::from(name)),
            ("foehn.version".to_owned(), GgufValue::from(env!("CARGO_PKG_VERSION"))),
            ("foehn.base".to_owned(), GgufValue::from(self.base_name().0.as_str())),
        ];
        for (at, (_, weight, adapter)) in self.adapters.iter().enumerate() {
            notes.push((format!("foehn.adapter.{at}.weight"), GgufValue::from(*weight as f32)));
            let manifest = adapter.manifest.as_ref().and_then(|manifest| serde_json::to_string(manifest).ok());
            notes.extend(manifest.map(|text| (format!("foehn.adapter.{at}.manifest"), GgufValue::from(text.as_str()))));
        }
        notes
    }

    /// How answers are decoded, from the `generation_config.json` beside the first adapter that has one.
    ///
    /// # Errors
    /// The file cannot be read, or asks for a decoding that is not supported.
    pub fn sampling(&self) -> foehn_generate::Result<Option<SamplingConfig>> {
        for (path, ..) in &self.adapters {
            if let Some(config) = SamplingConfig::of_folder(path)? {
                return Ok(Some(config));
            }
        }
        Ok(None)
    }

    /// The keys of [`sampling`](Self::sampling), as `generation_config.json` has them.
    ///
    /// # Errors
    /// As [`sampling`](Self::sampling).
    pub fn generation_keys(&self) -> foehn_generate::Result<Map<String, Value>> {
        let text = self.sampling()?.map(|config| config.to_generation_config());
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    /// A file for Ollama: `from` is the model, `adapter` an adapter beside it. Where the template has no equivalent in Go's
    /// language, Ollama takes one of those that it knows by the template in the GGUF.
    ///
    /// # Errors
    /// As [`sampling`](Self::sampling).
    pub fn modelfile(&self, from: &str, adapter: Option<&str>) -> foehn_generate::Result<Modelfile> {
        let mut parameters = Vec::new();
        if let Some(config) = self.sampling()? {
            // The shortest decimal form of the f32, not its exact value.
            let shown = |value: f32| value.to_string().parse::<f64>().unwrap_or(value.into());
            parameters.push(("temperature", shown(config.temperature)));
            parameters.push(("top_k", config.top_k.unwrap_or(0) as f64));
            parameters.push(("top_p", config.top_p.map_or(1.0, shown)));
            parameters.push(("min_p", config.min_p.map_or(0.0, shown)));
            parameters.push(("repeat_penalty", shown(config.repetition_penalty)));
        }
        Ok(Modelfile {
            from: from.to_owned(),
            adapter: adapter.map(str::to_owned),
            template: self.side.template.ollama(&self.side.tokenizer).ok(),
            stop: self.side.tokenizer.stop_texts().into_iter().map(str::to_owned).collect(),
            parameters,
        })
    }

    /// The held-out records of the first adapter's run, if the run is there: what [`Cost::measure`] asks.
    ///
    /// # Errors
    /// A file of the run cannot be read.
    pub fn questions(&self) -> foehn_corpus::Result<Option<Questions>> {
        for (path, _, adapter) in &self.adapters {
            if let Some(run) = crate::run_data::run_of(path)
                && let [_, Some(held_out)] = crate::run_data::records_of(&run, adapter.manifest.as_ref())?
            {
                return Ok(Some(Questions { origin: held_out.origin, records: held_out.list }));
            }
        }
        Ok(None)
    }
}
