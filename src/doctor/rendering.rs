//! Whether the base's template makes samples from the records that teach what they say.

use foehn_corpus::Record;
use foehn_files::printable;
use foehn_tokens::Error;

use super::case::{Case, Measured, Probes, spread};
use super::{Check, Finding, Severity, chain, count};

/// The largest number of records that are rendered.
const RENDERED: usize = 2000;

/// The mean probability of the stop token at the end of an answer, below which it was probably never trained.
const UNTRAINED: f64 = 0.05;

/// The records that are rendered, and what they are.
fn rendered(case: &Case<'_>) -> (Vec<Record>, String) {
    match &case.training {
        Some(records) => {
            let list: Vec<Record> = spread(&records.list, RENDERED).cloned().collect();
            let text =
                format!("{} of {}, as the base's template renders them", count(list.len(), "record"), records.origin);
            (list, text)
        }
        None => (Probes::general(), "three general questions, as the base's template renders them".into()),
    }
}

/// The records with an error of one kind: the number, and the first one with its record.
fn faulty(case: &Case<'_>, records: &[Record], is_kind: impl Fn(&Error) -> bool) -> Option<(usize, String)> {
    let context = case.base.model.config().max_position_embeddings;
    let (template, tokenizer) = (&case.base.template, &case.base.tokenizer);
    let mut first = None;
    let mut number = 0;
    for (index, record) in records.iter().enumerate() {
        let checked = template
            .sample(tokenizer, &record.messages)
            .and_then(|sample| sample.check(tokenizer, &record.messages, context));
        let Err(error) = checked else { continue };
        if is_kind(&error) {
            number += 1;
            let name = record.id.clone().unwrap_or_else(|| (index + 1).to_string());
            first.get_or_insert_with(|| format!("record {}: {}", printable(name), chain(&error)));
        }
    }
    first.map(|first| (number, first))
}

/// Renders the records, and looks for the stop token in the loss mask. With the adapter, also looks how probable it is.
pub(super) fn stop_token(case: &Case<'_>) -> Finding {
    let (records, looked_at) = rendered(case);
    let finding = |severity, found: String| Finding::new(Check::StopToken, severity, looked_at.clone(), found);
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
        (records.len(), "mend the template: an assistant's turn ends in the token that generation stops on");
    if let Some((number, first)) = faulty(case, &records, is_untrained) {
        return finding(Severity::Fault, format!("{number} of {all} train no stop token; {first}")).advising(advice);
    }
    if let Some((number, first)) = faulty(case, &records, |error| !matches!(error, Error::DoubledBos)) {
        return finding(Severity::Warning, format!("{number} of {all} cannot be trained on; {first}"))
            .advising("clean the data for this model, or leave these records out");
    }
    let Some((with, without)) = case.measured.as_ref().ok().filter(|_| case.probes.are_data).and_then(stops) else {
        return finding(Severity::Sound, format!("the stop token is in the loss mask of all {all}"));
    };
    let found = format!(
        "the stop token is in the loss mask of all {all}; where answers end, its mean probability is {with:.3} (base: {without:.3})"
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
    let (records, looked_at) = rendered(case);
    let finding = |severity, found: String| Finding::new(Check::DoubledBos, severity, looked_at.clone(), found);
    let all = records.len();
    if let Some((number, first)) = faulty(case, &records, |error| matches!(error, Error::DoubledBos)) {
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
