//! What is lost where an adapter is merged into weights of few bits.

use std::fmt;
use std::path::Path;

use burn::tensor::Device;
use foehn_evaluate::{Clusters, Interval, Part};
use foehn_generate::{GenerateConfig, generate};
use foehn_mistral::{Base, Mistral};
use foehn_record::Record;

use crate::run_data::Records;
use crate::{LoadError, Loading, Network, Pretrained};

/// The number of questions that are answered, the first ones.
const ANSWERED: usize = 100;
/// The number of records whose answers' likelihood is measured, the first ones.
const SCORED: usize = 400;
/// The number of tokens of one forward pass.
const ROWS: usize = 1024;
const RESAMPLES: usize = 2000;
/// A loss of less than this share of what the adapter gained is none.
const MARGIN: f64 = 0.02;

/// Records that an adapter was not trained on.
#[derive(Clone, Debug)]
pub struct Questions {
    /// Where they come from, in words.
    pub origin: String,
    /// The records; each ends with the answer that is expected.
    pub records: Vec<Record>,
}

/// A merged model beside the base with its adapter attached, on the same questions.
#[derive(Clone, Debug)]
pub struct Cost {
    /// The number of records, and of tokens of their answers.
    pub counts: [usize; 2],
    /// The mean log-probability of a token of the expected answers: of the base, with the adapter attached, and merged.
    pub likelihood: [f64; 3],
    /// Merged minus attached, with its 95% interval over groups of records.
    pub difference: Interval,
    /// The share of greedy answers that are another text than with the adapter attached; `None` if no record is a question.
    pub flips: Option<(usize, Interval)>,
}

/// What merging costs could not be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CostError {
    /// A file with questions cannot be read.
    #[error(transparent)]
    Questions(#[from] foehn_corpus::Error),
    /// A model cannot be loaded.
    #[error(transparent)]
    Load(#[from] Box<LoadError>),
    /// An adapter does not fit.
    #[error(transparent)]
    Adapter(#[from] foehn_lora::Error),
    /// The records cannot be rendered.
    #[error(transparent)]
    Records(#[from] foehn_finetune::Error),
    /// A model gives no finite probability.
    #[error(transparent)]
    NotFinite(#[from] foehn_score::NotFinite),
    /// A model gives no answer.
    #[error(transparent)]
    Answers(#[from] foehn_generate::Error),
}

impl Questions {
    /// Reads clean records, as `clean` writes them.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path) -> foehn_corpus::Result<Self> {
        let Records { origin, list } = Records::read(path)?;
        Ok(Self { origin, records: list })
    }
}

impl Cost {
    /// Asks a base with an adapter attached, and a merged model in a file or folder.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn measure(
        base: &mut Pretrained,
        adapter: &foehn_lora::Adapter,
        merged: &str,
        questions: &Questions,
        device: &Device,
        progress: &mut dyn FnMut(Loading<'_>),
    ) -> Result<Self, CostError> {
        let records = &questions.records[..questions.records.len().min(SCORED)];
        let without = likelihoods(base, &base.model, records)?;
        foehn_lora::attach(&mut base.model, adapter)?;
        let attached = likelihoods(base, &base.model, records)?;
        let asked = answers(base, &base.model, records)?;
        let network = Network::load(merged, Base::Stored, device, progress).map_err(Box::new)?;
        let found = likelihoods(base, &network.model, records)?;
        let given = answers(base, &network.model, records)?;

        let names: Vec<String> = records.iter().enumerate().map(|(at, record)| group(record, at)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mean = |parts: &[Part]| {
            let (sum, count) = parts.iter().fold((0.0, 0.0), |all, part| (all.0 + part.0, all.1 + part.1));
            sum / f64::max(count, 1.0)
        };
        let difference = Clusters::new(&names).bootstrap_difference(&attached, &found, RESAMPLES, 0);
        let asked_of: Vec<&str> = names
            .iter()
            .zip(records)
            .filter(|(_, record)| is_question(record))
            .map(|(name, _)| *name)
            .take(ANSWERED)
            .collect();
        let flipped: Vec<Part> = asked.iter().zip(&given).map(|(a, b)| (f64::from(u8::from(a != b)), 1.0)).collect();
        let count = flipped.iter().filter(|part| part.0 > 0.0).count();
        let flips =
            (!flipped.is_empty()).then(|| (count, Clusters::new(&asked_of).bootstrap_ratio(&flipped, RESAMPLES, 0)));
        let tokens = attached.iter().map(|part| part.1 as usize).sum();
        let likelihood = [&without, &attached, &found].map(|parts| mean(parts));
        Ok(Self { counts: [records.len(), tokens], likelihood, difference, flips })
    }

    /// Whether the merged model is significantly worse: the whole interval of the difference is below zero by more than a
    /// fiftieth of what the adapter gained. A smaller loss is not worth refusing, however sure it is.
    pub fn is_significant(&self) -> bool {
        self.difference.high < -MARGIN * self.gain().max(0.0)
    }

    /// What the adapter gained: the mean log-probability of a token with it, minus the base's.
    pub fn gain(&self) -> f64 {
        self.likelihood[1] - self.likelihood[0]
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([records, tokens], [base, attached, merged]) = (self.counts, self.likelihood);
        writeln!(f, "log-probability of a token, {tokens} tokens of {records} answers:")?;
        writeln!(f, "  base {base:.4}, adapter attached {attached:.4}, merged {merged:.4}")?;
        let Interval { estimate, low, high } = self.difference;
        write!(f, "  merged minus attached {estimate:+.4} [{low:+.4}, {high:+.4}]")?;
        if self.gain() > 0.0 {
            write!(f, ", {:.1}% of what the adapter gained", 100.0 * estimate / self.gain())?;
        }
        if let Some((count, Interval { estimate, low, high })) = self.flips {
            write!(
                f,
                "\nanswers that become another text: {count}, {:.1}% [{:.1}%, {:.1}%]",
                100.0 * estimate,
                100.0 * low,
                100.0 * high
            )?;
        }
        Ok(())
    }
}

/// A record's group, or the record by itself.
fn group(record: &Record, at: usize) -> String {
    record.group.clone().unwrap_or_else(|| format!("record {at}"))
}

fn is_question(record: &Record) -> bool {
    record.plain_text().is_none()
}

/// For each record, the sum of the log-probabilities of its trained tokens, and their number.
fn likelihoods(base: &Pretrained, model: &Mistral, records: &[Record]) -> Result<Vec<Part>, CostError> {
    let data = base.dataset(records)?;
    let samples: Vec<_> = data.samples().iter().collect();
    let found = foehn_score::log_probs(model, &samples, ROWS)?;
    let sum = |values: &[f32]| (values.iter().map(|value| f64::from(*value)).sum(), values.len() as f64);
    let mut found = found.iter();
    let of = |at: usize| {
        let parts = found.by_ref().take(data.of_record(at).len()).map(|values| sum(values));
        parts.fold((0.0, 0.0), |all: Part, part: Part| (all.0 + part.0, all.1 + part.1))
    };
    Ok((0..records.len()).map(of).collect())
}

/// The greedy answers to the first questions.
fn answers(base: &Pretrained, model: &Mistral, records: &[Record]) -> Result<Vec<String>, CostError> {
    let config = GenerateConfig { max_new_tokens: 64, exact: true, ..GenerateConfig::default() };
    let mut prompts = Vec::new();
    for record in records.iter().filter(|record| is_question(record)).take(ANSWERED) {
        let before = record.messages.split_last().map_or(&[][..], |(_, before)| before);
        let conversation = foehn_record::Conversation::from(record).with_messages(before);
        prompts.push(base.template.prompt(&base.tokenizer, conversation).map_err(foehn_generate::Error::from)?);
    }
    let answers = generate(model, &base.tokenizer, &prompts, &config)?;
    Ok(answers.into_iter().map(|answer| answer.text).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loss has to be sure, and more than a fiftieth of what the adapter gained.
    #[test]
    fn a_small_loss_or_an_unsure_one_is_none() {
        let cost = |low: f64, high: f64| Cost {
            counts: [1, 1],
            likelihood: [-4.0, -3.0, -3.0],
            difference: Interval { estimate: (low + high) / 2.0, low, high },
            flips: None,
        };
        assert_eq!(cost(-0.3, -0.1).gain(), 1.0);
        assert!(cost(-0.3, -0.1).is_significant());
        assert!(!cost(-0.3, 0.1).is_significant());
        assert!(!cost(-0.015, -0.01).is_significant());
        assert!(!cost(0.1, 0.2).is_significant());
        // An adapter that gained nothing has nothing to lose but what is below the base.
        assert!(Cost { likelihood: [-3.0, -4.0, -4.1], ..cost(-0.2, -0.01) }.is_significant());
    }
}
