//! What the adapter does to log-probabilities.

use foehn_evaluate::clustered_bootstrap;
use foehn_files::printable;
use foehn_lora::merge;
use foehn_mistral::Base;
use foehn_tokens::Sample;

use super::case::{Case, distance, loss, losses_by_sample, score};
use super::{Check, DoctorError, Finding, Missing, Severity};
use crate::{LoadError, Loading, Network};

/// A mean difference of log-probabilities that rounding can make, in nats.
const ROUNDING: f64 = 1e-5;

/// A loss of this share of ln(vocabulary) is no better than a guess.
const GUESS: f64 = 0.9;

/// The smallest rise of the loss that is told, as a share of the base's.
const RISE: f64 = 0.02;

/// The largest distance of a merged checkpoint, in nats a token and as a share of the adapter's own effect. A
/// checkpoint in half precision stays below it.
const MERGED: f64 = 0.05;
const MERGED_SHARE: f64 = 0.25;

/// A distance that rounding to half precision can make by itself, in nats a token.
const HALF_PRECISION: f64 = 0.02;

/// The most memory that merging may take, in bytes.
const MERGING: usize = 8 << 30;

/// Compares log-probabilities with and without the adapter, and looks for matrices B that are zero.
pub(super) fn effect(case: &Case<'_>) -> Finding {
    let looked_at = format!("matrices B, and the log-probabilities of {} with and without the adapter", case.probed());
    let finding = |severity, found: String| Finding::new(Check::Effect, severity, looked_at.clone(), found);
    let advice = "look whether the training saved its adapter, whether its loss fell, and whether its learning rate \
                  was above zero";
    let Ok(adapter) = &case.adapter else {
        return Finding::not_checked(Check::Effect, looked_at, "the adapter has numbers that are not finite");
    };
    if adapter.is_zero() {
        return finding(Severity::Fault, "every B is zero: the adapter changes nothing".into()).advising(advice);
    }
    let measured = match &case.measured {
        Ok(measured) => measured,
        Err(reason) => return Finding::not_checked(Check::Effect, looked_at, reason.to_string()),
    };
    let moved = distance(&measured.with, &measured.without);
    if moved <= ROUNDING {
        let found = "the log-probabilities are the same: the adapter changes nothing";
        return finding(Severity::Fault, found.into()).advising(advice);
    }
    let zero = adapter.modules.values().filter(|pair| pair.b.iter().all(|value| *value == 0.0)).count();
    let found = format!("they differ by {moved:.3} nats a token");
    if zero > 0 {
        let (all, part) = (adapter.modules.len(), "were these modules left out of training?");
        return finding(Severity::Warning, format!("{zero} of {all} B are zero; {found}")).advising(part);
    }
    finding(Severity::Sound, format!("no B is zero; {found}"))
}

/// Looks at the losses of the run, and at the loss of the records with and without the adapter.
pub(super) fn loss_check(case: &Case<'_>) -> Finding {
    let guess = (case.base.model.config().vocab_size as f64).ln();
    let measured = case.measured.as_ref().ok().filter(|_| case.probes.are_data);
    let (mut looked_at, mut found, mut severity) = (Vec::new(), Vec::new(), Severity::Sound);
    if let Some(losses) = &case.losses {
        let part = losses.len().div_ceil(10);
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let (first, last) = (mean(&losses[..part]), mean(&losses[losses.len() - part..]));
        looked_at.push(format!("the {} losses of metrics.jsonl", losses.len()));
        found.push(format!("in training it went from {first:.2} to {last:.2}"));
        if last >= GUESS * guess {
            severity = Severity::Fault;
        } else if losses.len() >= 20 && last >= first && !is_continued(case) {
            severity = Severity::Warning;
        }
    }
    if let Some(measured) = measured {
        let (with, without) = (loss(&measured.with), loss(&measured.without));
        looked_at.push(case.probed());
        found.push(format!("on the records it is {with:.2} a token with the adapter, {without:.2} without"));
        let pairs = losses_by_sample(&measured.with).into_iter().zip(losses_by_sample(&measured.without));
        let rises: Vec<f64> = pairs.map(|(with, without)| with - without).collect();
        if with >= GUESS * guess {
            severity = Severity::Fault;
        } else if with > without * (1.0 + RISE) && is_above_zero(case, &rises) {
            severity = severity.max(Severity::Warning);
            found.push("the adapter makes its data less probable".into());
        }
    }
    if found.is_empty() {
        return match &case.measured {
            Err(reason) => Finding::not_checked(Check::Loss, "the loss", reason.to_string()),
            Ok(_) => Finding::missing(Check::Loss, "the loss of training and of its records", Missing::Data),
        };
    }
    found.push(format!("a guess among all tokens gives {guess:.2}"));
    let finding = Finding::new(Check::Loss, severity, looked_at.join(", and "), found.join("; "));
    match severity {
        Severity::Sound => finding,
        _ => finding.advising("check base, template and data first, then try a smaller learning rate"),
    }
}

/// Whether the run began with a trained adapter, whose loss may have been low already.
fn is_continued(case: &Case<'_>) -> bool {
    let recipe = case.manifest.as_ref().map(|manifest| &manifest.recipe);
    recipe.and_then(|recipe| recipe.get("init_adapter")).is_some_and(|adapter| !adapter.is_null())
}

/// Whether the mean of differences, one a probe, is surely above zero: its 95% interval is, drawn by group.
pub(super) fn is_above_zero(case: &Case<'_>, differences: &[f64]) -> bool {
    let names: Vec<String> = (0..differences.len()).map(|index| format!("alone {index}")).collect();
    let groups = case.probes.records.iter().zip(&names);
    let groups: Vec<&str> = groups.map(|(record, alone)| record.group.as_deref().unwrap_or(alone)).collect();
    groups.len() == differences.len() && clustered_bootstrap(&groups, differences, 2000, 0).low > 0.0
}

/// Compares a merged checkpoint with base and adapter.
pub(super) fn merged(case: &Case<'_>, progress: &mut dyn FnMut(Loading<'_>)) -> Result<Finding, DoctorError> {
    let place = case.inputs.merged.as_ref();
    let what = place.map_or("the adapter merged in memory".into(), |path| printable(path.display()).to_string());
    let texts = case.probes.texts();
    let tokens: usize = texts.iter().map(Sample::supervised).sum();
    let looked_at = format!("the log-probabilities of {tokens} tokens: {what}, beside base and adapter");
    let measured = match &case.measured {
        Ok(measured) => measured,
        Err(reason) => return Ok(Finding::not_checked(Check::Merged, looked_at, reason.to_string())),
    };
    let model = match place {
        Some(path) => {
            // A name that is no path would be fetched.
            let unreadable = |source| Box::new(LoadError::File { path: path.clone(), source });
            std::fs::metadata(path).map_err(unreadable)?;
            let device = case.base.model.device();
            Network::load(&path.display().to_string(), Base::Stored, &device, progress).map_err(Box::new)?.model
        }
        None => {
            let elements = |dims: [usize; 2]| dims[0] * dims[1];
            let all = case.base.model.projections().iter().map(|(_, it)| elements(it.weight().dims())).sum::<usize>();
            if all * size_of::<f32>() > MERGING {
                return Ok(Finding::missing(Check::Merged, looked_at, Missing::Merged));
            }
            let mut model = measured.attached.clone();
            merge(&mut model);
            model
        }
    };
    let fault = |found: String, advice: &str| {
        Ok(Finding::new(Check::Merged, Severity::Fault, looked_at.clone(), found).advising(advice))
    };
    let advice = "merge again from this base and this adapter, and compare before it is used";
    if model.config().vocab_size != case.base.model.config().vocab_size {
        return fault("it has another vocabulary than the base".into(), advice);
    }
    let scored = |model| score(model, &texts);
    let [found, with, without] = match [&model, &measured.attached, &case.base.model].map(scored) {
        [Ok(found), Ok(with), Ok(without)] => [found, with, without],
        [Err(error), ..] | [_, Err(error), _] | [.., Err(error)] => return fault(error.to_string(), advice),
    };
    let (far, effect) = (distance(&found, &with), distance(&without, &with));
    let said = format!("they differ by {far:.5} nats a token; the adapter's own effect is {effect:.3}");
    if far <= (MERGED_SHARE * effect).clamp(10.0 * ROUNDING, MERGED) {
        return Ok(Finding::sound(Check::Merged, looked_at, said));
    }
    if distance(&found, &without) < MERGED_SHARE * effect {
        return fault(format!("it is the base without the adapter: {said}"), advice);
    }
    if far <= HALF_PRECISION {
        let found = format!("{said}: rounding to half precision can do that, with so weak an adapter");
        return Ok(Finding::new(Check::Merged, Severity::Warning, looked_at, found).advising(advice));
    }
    fault(said, advice)
}
