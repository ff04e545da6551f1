//! Turns records into masked samples, and checks them once.

use foehn_mistral::MistralConfig;
use foehn_record::{Conversation, Message, Record, Role};
use foehn_tokens::{ChatTemplate, Sample, Tokenizer};
use sha2::{Digest, Sha256};

use crate::{Error, Objective};

/// Samples that fit the model. In each, every trained turn ends with a token that stops generation.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub(crate) samples: Vec<Sample>,
    /// For error messages: the id of each record, or its number if it has no id.
    pub(crate) names: Vec<String>,
    /// The number of consecutive samples of one record: 1, or 2 for pairs, the chosen answer first.
    per_record: usize,
}

impl Dataset {
    /// Renders records through a template.
    ///
    /// `max_length` is the longest sample that is accepted, in tokens; 0 means the model's own limit.
    ///
    /// # Errors
    /// [`Error::NoData`] if there is no record; [`Error::Record`] if a record cannot be rendered, is too long, or does
    /// not train its stop token; [`Error::RejectedAnswer`] for a pair of answers; and those of
    /// [`from_samples`](Self::from_samples).
    pub fn new(
        records: &[Record],
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
        config: &MistralConfig,
        max_length: usize,
    ) -> Result<Self, Error> {
        Self::for_objective(Objective::Sft, records, template, tokenizer, config, max_length)
    }

    /// The samples that an objective trains on: those of [`new`](Self::new), or for [`Dpo`](Objective::Dpo) two of each
    /// record, with the chosen and with the rejected answer: the last message, and [`Record::rejected`]. Of such a
    /// conversation, the last answer alone is trained.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::RejectedAnswer`] for a record with a rejected answer that would not be read; for
    /// pairs, [`Error::NotAPair`] for a record without a rejected answer, or whose answers are the same.
    pub fn for_objective(
        objective: Objective,
        records: &[Record],
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
        config: &MistralConfig,
        max_length: usize,
    ) -> Result<Self, Error> {
        let rendering = Rendering::new(template, tokenizer, config, max_length);
        if objective == Objective::Dpo {
            return Self::from_pairs(rendering.pairs(records)?, &rendering.stop_ids, config.vocab_size);
        }
        if let Some((number, record)) = (1..).zip(records).find(|(_, record)| record.rejected.is_some()) {
            return Err(Error::RejectedAnswer { record: name(number, record) });
        }
        let sample = |(number, record): (usize, &Record)| rendering.sample(name(number, record), record.into());
        let named = (1..).zip(records).map(sample).collect::<Result<Vec<_>, Error>>()?;
        Self::from_samples(named, &rendering.stop_ids, config.vocab_size)
    }

    /// Takes pairs of samples unchanged, the chosen answer first, each with a name for error messages.
    ///
    /// # Errors
    /// As [`from_samples`](Self::from_samples).
    pub fn from_pairs(named: Vec<(String, [Sample; 2])>, stop_ids: &[u32], vocab_size: usize) -> Result<Self, Error> {
        let each = named.into_iter().flat_map(|(name, pair)| pair.map(|sample| (name.clone(), sample)));
        let mut dataset = Self::from_samples(each.collect(), stop_ids, vocab_size)?;
        dataset.per_record = 2;
        dataset.names = dataset.names.into_iter().step_by(2).collect();
        Ok(dataset)
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
        Ok(Self { samples, names, per_record: 1 })
    }

    /// The number of records.
    #[allow(clippy::len_without_is_empty, reason = "a dataset is never empty")]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The number of samples of each record: 1, or 2 for pairs.
    pub fn per_record(&self) -> usize {
        self.per_record
    }

    /// The samples of a record: one, or the chosen and the rejected answer.
    ///
    /// # Panics
    /// When there are not so many records.
    pub fn of_record(&self, record: usize) -> &[Sample] {
        &self.samples[record * self.per_record..][..self.per_record]
    }

    /// Refuses an objective that these samples are not for.
    pub(crate) fn check_objective(&self, objective: Objective) -> Result<(), Error> {
        let expected = match objective {
            Objective::Sft if self.per_record != 1 => "\"dpo\" for pairs of answers",
            Objective::Dpo if self.per_record != 2 => "\"sft\" for samples that are no pairs",
            _ => return Ok(()),
        };
        let found = if objective == Objective::Dpo { "dpo" } else { "sft" };
        Err(Error::Setting { field: "objective", found: found.into(), expected })
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

    /// The samples, in the order of their records. Those of a pair follow each other, the chosen answer first.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }
}

/// How conversations become samples.
struct Rendering<'a> {
    template: &'a ChatTemplate,
    tokenizer: &'a Tokenizer,
    stop_ids: Vec<u32>,
    limit: usize,
}

impl<'a> Rendering<'a> {
    fn new(template: &'a ChatTemplate, tokenizer: &'a Tokenizer, config: &MistralConfig, max_length: usize) -> Self {
        let limit = config.max_position_embeddings;
        let limit = if max_length == 0 { limit } else { limit.min(max_length) };
        let mut stop_ids = tokenizer.eos_ids().to_vec();
        stop_ids.extend(&config.eos_token_id);
        Self { template, tokenizer, stop_ids, limit }
    }

    fn sample(&self, name: String, conversation: Conversation<'_>) -> Result<(String, Sample), Error> {
        let sample = self.template.sample(self.tokenizer, conversation);
        match sample.and_then(|sample| sample.check_length(self.limit).map(|()| sample)) {
            Ok(sample) => Ok((name, sample)),
            Err(source) => Err(Error::Record { record: name, source }),
        }
    }

    /// The conversations with the chosen and with the rejected answer of each record.
    fn pairs(&self, records: &[Record]) -> Result<Vec<(String, [Sample; 2])>, Error> {
        let mut named = Vec::with_capacity(records.len());
        for (number, record) in (1..).zip(records) {
            let name = name(number, record);
            let not_a_pair = |reason| Error::NotAPair { record: name.clone(), reason };
            let rejected = record.rejected.as_ref().ok_or_else(|| not_a_pair("it has no rejected answer"))?;
            let mut messages = record.messages.clone();
            messages.iter_mut().for_each(|message| message.weight = Some(0));
            let Some(last) = messages.last_mut().filter(|last| last.role == Role::Assistant) else {
                return Err(not_a_pair("its last message is not an answer"));
            };
            if last.content == *rejected {
                return Err(not_a_pair("its answers are the same"));
            }
            last.weight = None;
            let other = Message::assistant(rejected);
            let conversation = Conversation::from(record);
            let (name, chosen) = self.sample(name, conversation.with_messages(&messages))?;
            messages.pop();
            messages.push(other);
            let (name, rejected) = self.sample(name, conversation.with_messages(&messages))?;
            named.push((name, [chosen, rejected]));
        }
        Ok(named)
    }
}

/// The id of a record, or its number.
fn name(number: usize, record: &Record) -> String {
    record.id.clone().unwrap_or_else(|| number.to_string())
}
