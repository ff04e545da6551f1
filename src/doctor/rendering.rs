//! Whether the base's template makes samples from the records that teach what they say.

use foehn_corpus::Record;
use foehn_files::printable;
use foehn_tokens::{Error, Sample};

use super::case::{Case, Measured, Probes, spread};
use super::{Check, Finding, Severity, chain};
use crate::Pretrained;
use crate::run_data::Records;

/// The largest number of records that are rendered.
const RENDERED: usize = 1000;

/// The mean probability of the stop token at the end of an answer, below which it was probably never trained.
const UNTRAINED: f64 = 0.05;

/// Records as the base's template renders them.
pub(super) struct Rendering {
    looked_at: String,
    records: Vec<Record>,
    /// The records that cannot be trained on, by name.
    faults: Vec<(String, Error)>,
}

impl Rendering {
    /// Renders records from all over the training data; without data, general questions.
    pub fn new(base: &Pretrained, training: Option<&Records>) -> Self {
        let (records, of) = match training {
            Some(Records { origin, list }) => {
                let records: Vec<Record> = spread(list, RENDERED).cloned().collect();
                let of = format!("{} of {} records of {origin}", records.len(), list.len());
                (records, of)
            }
            None => (Probes::general(), "three general questions".to_owned()),
        };
        let context = base.model.config().max_position_embeddings;
        let all = training.map_or(records.len(), |training| training.list.len());
        let fault = |(index, record): (usize, &Record)| {
            let checked = match record.plain_text() {
                Some(text) => Sample::of_text(&base.tokenizer, text, context).map(|_| ()),
                None => {
                    let sample = base.template.sample(&base.tokenizer, record);
                    sample.and_then(|sample| sample.check(&base.tokenizer, &record.messages, context))
                }
            };
            let number = 1 + index * all / records.len();
            let name = record.id.clone().unwrap_or_else(|| number.to_string());
            Some((printable(name).to_string(), checked.err()?))
        };
        let faults = records.iter().enumerate().filter_map(fault).collect();
        Self { looked_at: format!("{of}, as the base's template renders them"), records, faults }
    }

    /// The number of records with an error of one kind, and the first one in words.
    fn faulty(&self, is_kind: impl Fn(&Error) -> bool) -> Option<(usize, String)> {
        let mut found = self.faults.iter().filter(|(_, error)| is_kind(error));
        let (name, error) = found.next()?;
        Some((1 + found.count(), format!("record {name}: {}", chain(error))))
    }
}

/// Renders the records, and looks for the stop token in the loss mask. With the adapter, also looks how probable it is.
pub(super) fn stop_token(case: &Case<'_>) -> Finding {
    let rendering = &case.rendering;
    let looked_at = rendering.looked_at.as_str();
    let finding = |severity, found: String| Finding::new(Check::StopToken, severity, looked_at, found);
    let is_untrained = |error: &Error| {
        matches!(
            error,
            Error::StopTokenUntrained { .. }
                | Error::EndUntrained { .. }
                | Error::StopsMissing { .. }
                | Error::PromptSupervised
        )
    };
    let (all, advice) =
        (rendering.records.len(), "mend the template: an assistant's turn ends in the token that generation stops on");
    if let Some((number, first)) = rendering.faulty(is_untrained) {
        return finding(Severity::Fault, format!("{number} of {all} train no stop token; {first}")).advising(advice);
    }
    if let Some((number, first)) = rendering.faulty(|error| !matches!(error, Error::DoubledBos)) {
        return finding(Severity::Warning, format!("{number} of {all} cannot be trained on; {first}"))
            .advising("clean the data for this model, or leave these records out");
    }
    let Some((with, without)) = case.measured.as_ref().ok().filter(|_| case.probes.are_data).and_then(stops) else {
        return finding(Severity::Sound, format!("the stop token is in the loss mask of all {all}"));
    };
    let found = format!(
        "the stop token is in the loss mask of all {all}; where answers end, its mean probability is {with:.3} (base: \
         {without:.3})"
    );
    if with < UNTRAINED {
        return finding(Severity::Warning, found)
            .advising("look into the trainer's labels: its mask or its template probably left out the stop token");
    }
    finding(Severity::Sound, found)
}

/// The mean probability of the last trained token of all samples, with and without the adapter.
fn stops(measured: &Measured) -> Option<(f64, f64)> {
    let mean = |all: &[Vec<f32>]| {
        let last: Vec<f64> =
            all.iter().filter_map(|sample| sample.last()).map(|value| f64::from(*value).exp()).collect();
        (!last.is_empty()).then(|| last.iter().sum::<f64>() / last.len() as f64)
    };
    Some((mean(&measured.with)?, mean(&measured.without)?))
}

/// Looks for samples that begin with two BOS, and for records that have the BOS token's text in them.
pub(super) fn doubled_bos(case: &Case<'_>) -> Finding {
    let Rendering { looked_at, records, .. } = &case.rendering;
    let finding = |severity, found: String| Finding::new(Check::DoubledBos, severity, looked_at.as_str(), found);
    let all = records.len();
    if let Some((number, first)) = case.rendering.faulty(|error| matches!(error, Error::DoubledBos)) {
        return finding(Severity::Fault, format!("{number} of {all} begin with two BOS; {first}"))
            .advising("take BOS out of the template, or set add_bos_token to false in tokenizer_config.json");
    }
    let tokenizer = &case.base.tokenizer;
    let Some(bos) = tokenizer.bos_id().and_then(|id| tokenizer.token_text(id)) else {
        return finding(Severity::Sound, "the tokenizer has no BOS".into());
    };
    let begins =
        |record: &&Record| record.messages.first().is_some_and(|message| message.content.trim_start().starts_with(bos));
    let typed = records.iter().filter(begins).count();
    if typed > 0 {
        let bos = printable(bos);
        return finding(
            Severity::Warning,
            format!("{typed} of {all} begin with the text {bos}: other trainers make it a second BOS"),
        )
        .advising("take the template's tokens out of the data: the template adds them");
    }
    finding(Severity::Sound, format!("none of {all} begins with two BOS"))
}
