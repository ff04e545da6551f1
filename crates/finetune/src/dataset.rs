//! Turns records into masked samples, and checks them once.

use foehn_mistral::MistralConfig;
use foehn_record::{Conversation, Record, Role};
use foehn_tokens::{ChatTemplate, Sample, Tokenizer};
use sha2::{Digest, Sha256};

use crate::order::{self, Part};
use crate::rendering::{Fate, Fitting, Rendered, Renderer, TooLong};
use crate::{Error, Objective, TrainingConfig};

/// Samples that fit the model. In each, every trained turn ends with a token that stops generation, and so does the last
/// piece of a text.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub(crate) samples: Vec<Sample>,
    /// For error messages: the id of each example, or its number if it has no id.
    pub(crate) names: Vec<String>,
    /// The number of consecutive samples of one example: 1, or 2 for pairs, the chosen answer first.
    per_record: usize,
    /// For each example, the index of the record that it was made from.
    origins: Vec<usize>,
    /// How often the examples are seen in an epoch.
    parts: Vec<Part>,
    fitting: Fitting,
}

/// A sample before it is checked.
struct Entry {
    name: String,
    sample: Sample,
    /// The index of its record.
    origin: usize,
    /// Whether it is a piece of a text that goes on in another sample.
    goes_on: bool,
}

impl Dataset {
    /// Renders records: conversations through a template, plain text in pieces, each with its end token.
    ///
    /// `max_length` is the longest sample that is accepted, in tokens; 0 means the model's own limit.
    ///
    /// # Errors
    /// [`Error::NoData`] if there is no record; [`Error::TooLong`] if a conversation is too long; [`Error::Record`] if a
    /// record cannot be rendered or does not train its stop token; [`Error::RejectedAnswer`] for a pair of answers; and
    /// those of [`from_samples`](Self::from_samples).
    pub fn new(
        records: &[Record],
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
        config: &MistralConfig,
        max_length: usize,
    ) -> Result<Self, Error> {
        let settings = TrainingConfig { max_length, ..TrainingConfig::default() };
        Self::for_training(&settings, records, template, tokenizer, config)
    }

    /// The samples that a run trains on, by its `objective`, `max_length` and `too_long`: those of [`new`](Self::new),
    /// or for [`Dpo`](Objective::Dpo) two of each record, with the chosen and with the rejected answer: the last
    /// message, and [`Record::rejected`]. Of such a conversation, the last answer alone is trained.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::RejectedAnswer`] for a record with a rejected answer that would not be read; for
    /// pairs, [`Error::NotAPair`] for a record without a rejected answer, or whose answers are the same.
    pub fn for_training(
        settings: &TrainingConfig,
        records: &[Record],
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
        config: &MistralConfig,
    ) -> Result<Self, Error> {
        let limit = settings.longest(config.max_position_embeddings);
        let renderer = Renderer { template, tokenizer, limit, too_long: settings.too_long };
        let (mut entries, mut fitting) = (Vec::new(), Fitting { limit, ..Fitting::default() });
        for (origin, record) in records.iter().enumerate() {
            let name = name(origin + 1, record);
            let rendered = match settings.objective {
                Objective::Sft if record.rejected.is_some() => return Err(Error::RejectedAnswer { record: name }),
                Objective::Sft => renderer.record(record),
                Objective::Dpo => pair(&renderer, record, &name)?,
            };
            let rendered = rendered.map_err(|source| Error::Record { record: name.clone(), source })?;
            if let (Fate::TooLong(length), TooLong::Error) = (rendered.fate, settings.too_long) {
                return Err(Error::TooLong { record: name, length, limit });
            }
            fitting.add(&name, &rendered);
            let pieces = if rendered.fate == Fate::Cut { rendered.samples.len() } else { 1 };
            entries.extend((1..).zip(rendered.samples).map(|(piece, sample)| {
                let name = if pieces > 1 { format!("{name}, piece {piece} of {pieces}") } else { name.clone() };
                Entry { name, sample, origin, goes_on: piece < pieces }
            }));
        }
        if entries.is_empty() && !records.is_empty() {
            return Err(Error::NoData { reason: format!("of {} records, {fitting}", records.len()) });
        }
        let mut stop_ids = tokenizer.eos_ids().to_vec();
        stop_ids.extend(&config.eos_token_id);
        let per_record = if settings.objective == Objective::Dpo { 2 } else { 1 };
        Ok(Self { fitting, ..Self::checked(entries, per_record, &stop_ids, config.vocab_size)? })
    }

    /// Takes pairs of samples unchanged, the chosen answer first, each with a name for error messages.
    ///
    /// # Errors
    /// As [`from_samples`](Self::from_samples).
    pub fn from_pairs(named: Vec<(String, [Sample; 2])>, stop_ids: &[u32], vocab_size: usize) -> Result<Self, Error> {
        let named =
            (0..).zip(named).flat_map(|(origin, (name, pair))| pair.map(|sample| (origin, name.clone(), sample)));
        let entry = |(origin, name, sample)| Entry { name, sample, origin, goes_on: false };
        Self::checked(named.map(entry).collect(), 2, stop_ids, vocab_size)
    }

    /// Takes samples unchanged, each with a name for error messages.
    ///
    /// # Errors
    /// [`Error::NoData`] if there is no sample, [`Error::StopTokenUntrained`] if the last trained token is not in
    /// `stop_ids`, [`Error::TokenOutOfVocabulary`] if an id has no embedding.
    pub fn from_samples(named: Vec<(String, Sample)>, stop_ids: &[u32], vocab_size: usize) -> Result<Self, Error> {
        let entry = |(origin, (name, sample))| Entry { name, sample, origin, goes_on: false };
        Self::checked((0..).zip(named).map(entry).collect(), 1, stop_ids, vocab_size)
    }

    fn checked(entries: Vec<Entry>, per_record: usize, stop_ids: &[u32], vocab_size: usize) -> Result<Self, Error> {
        if entries.is_empty() {
            return Err(Error::NoData { reason: "it is empty".into() });
        }
        for Entry { name, sample, goes_on, .. } in &entries {
            let last = sample.loss_mask().iter().rposition(|trained| *trained);
            let last = last.and_then(|index| sample.input_ids().get(index).copied());
            if let Some(found) = last.filter(|id| !goes_on && !stop_ids.contains(id)) {
                let expected = stop_ids.to_vec();
                return Err(Error::StopTokenUntrained { record: name.clone(), found, expected });
            }
            if let Some(&id) = sample.input_ids().iter().find(|id| **id as usize >= vocab_size) {
                return Err(Error::TokenOutOfVocabulary { record: name.clone(), id, vocab_size });
            }
        }
        let of_examples = || entries.iter().step_by(per_record);
        let names: Vec<String> = of_examples().map(|entry| entry.name.clone()).collect();
        let origins = of_examples().map(|entry| entry.origin).collect();
        let parts = vec![Part { examples: names.len(), weight: 1.0 }];
        let samples = entries.into_iter().map(|entry| entry.sample).collect();
        Ok(Self { samples, names, per_record, origins, parts, fitting: Fitting::default() })
    }

    /// Gives each example the weight of the record that it was made from: how often it is seen in an epoch, in the mean.
    /// See [`Part`]. `of_records` has a weight for each record.
    ///
    /// # Errors
    /// [`Error::Setting`] if a weight is not above 0 and at most 1000.
    ///
    /// # Panics
    /// When a record has no weight.
    pub fn weighted(mut self, of_records: &[f64]) -> Result<Self, Error> {
        let mut parts: Vec<Part> = Vec::new();
        for origin in &self.origins {
            let weight = of_records[*origin];
            Part::check(weight)?;
            match parts.last_mut() {
                Some(part) if part.weight == weight => part.examples += 1,
                _ => parts.push(Part { examples: 1, weight }),
            }
        }
        self.parts = parts;
        Ok(self)
    }

    /// The runs of consecutive examples with one weight.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What became of the records that have more tokens than a sample may have.
    pub fn fitting(&self) -> &Fitting {
        &self.fitting
    }

    /// The number of steps of a run over these examples.
    pub fn total_steps(&self, config: &TrainingConfig) -> usize {
        order::total_steps(&self.parts, config)
    }

    /// The epoch of a step and the indices of its examples, all counted from 0.
    pub fn of_step(&self, config: &TrainingConfig, step: usize) -> (usize, Vec<usize>) {
        order::batch(&self.parts, config, step)
    }

    /// The number of examples: records, pairs, or pieces of texts.
    #[allow(clippy::len_without_is_empty, reason = "a dataset is never empty")]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The number of samples of each example: 1, or 2 for pairs.
    pub fn per_record(&self) -> usize {
        self.per_record
    }

    /// The samples of an example: one, or the chosen and the rejected answer.
    ///
    /// # Panics
    /// When there are not so many examples.
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

/// The two samples of a record, with its chosen and with its rejected answer.
fn pair(renderer: &Renderer<'_>, record: &Record, name: &str) -> Result<Result<Rendered, foehn_tokens::Error>, Error> {
    let not_a_pair = |reason| Error::NotAPair { record: name.to_owned(), reason };
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
    Ok(renderer.pair(Conversation::from(record).with_messages(&messages), rejected))
}

/// The id of a record, or its number.
fn name(number: usize, record: &Record) -> String {
    record.id.clone().unwrap_or_else(|| number.to_string())
}
