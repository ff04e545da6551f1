//! Turns records into masked samples, and checks them once.

use foehn_mistral::MistralConfig;
use foehn_record::Record;
use foehn_tokens::{ChatTemplate, Sample, Tokenizer};
use sha2::{Digest, Sha256};

use crate::Error;

/// Samples that fit the model. In each, every trained turn ends with a token that stops generation.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub(crate) samples: Vec<Sample>,
    /// For error messages: the id of each sample's record, or its number if it has no id.
    pub(crate) names: Vec<String>,
}

impl Dataset {
    /// Renders records through a template.
    ///
    /// `max_length` is the longest sample that is accepted, in tokens; 0 means the model's own limit.
    ///
    /// # Errors
    /// [`Error::NoData`] if there is no record; [`Error::Record`] if a record cannot be rendered, is too long, or does
    /// not train its stop token; and those of [`from_samples`](Self::from_samples).
    pub fn new(
        records: &[Record],
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
        config: &MistralConfig,
        max_length: usize,
    ) -> Result<Self, Error> {
        let limit = config.max_position_embeddings;
        let limit = if max_length == 0 { limit } else { limit.min(max_length) };
        let sample = |(number, record): (usize, &Record)| {
            let name = record.id.clone().unwrap_or_else(|| (number + 1).to_string());
            let sample = template
                .sample(tokenizer, &record.messages)
                .and_then(|sample| sample.check_length(limit).map(|()| sample))
                .map_err(|source| Error::Record { record: name.clone(), source })?;
            Ok((name, sample))
        };
        let named = records.iter().enumerate().map(sample).collect::<Result<Vec<_>, Error>>()?;
        let mut stop_ids = tokenizer.eos_ids().to_vec();
        stop_ids.extend(&config.eos_token_id);
        Self::from_samples(named, &stop_ids, config.vocab_size)
    }

    /// Takes samples unchanged, each with a name for error messages.
    ///
    /// # Errors
    /// [`Error::NoData`] if there is no sample, [`Error::StopTokenUntrained`] if the last trained token is not in
    /// `stop_ids`, [`Error::TokenOutOfVocabulary`] if an id has no embedding.
    pub fn from_samples(named: Vec<(String, Sample)>, stop_ids: &[u32], vocab_size: usize) -> Result<Self, Error> {
        if named.is_empty() {
            return Err(Error::NoData { reason: "it is empty".into() });
        }
        for (record, sample) in &named {
            let last = sample.loss_mask().iter().rposition(|trained| *trained);
            let last = last.and_then(|index| sample.input_ids().get(index).copied());
            if let Some(found) = last.filter(|id| !stop_ids.contains(id)) {
                let expected = stop_ids.to_vec();
                return Err(Error::StopTokenUntrained { record: record.clone(), found, expected });
            }
            if let Some(&id) = sample.input_ids().iter().find(|id| **id as usize >= vocab_size) {
                return Err(Error::TokenOutOfVocabulary { record: record.clone(), id, vocab_size });
            }
        }
        let (names, samples) = named.into_iter().unzip();
        Ok(Self { samples, names })
    }

    /// SHA-256 of the ids and the trained positions of all samples, in lower-case hexadecimal.
    pub fn sha256(&self) -> String {
        let mut hasher = Sha256::new();
        for sample in &self.samples {
            hasher.update((sample.len() as u64).to_le_bytes());
            for (id, trained) in sample.input_ids().iter().zip(sample.loss_mask()) {
                hasher.update(id.to_le_bytes());
                hasher.update([u8::from(*trained)]);
            }
        }
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The samples, in the order of their records.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }
}
