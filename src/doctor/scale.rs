//! Whether the scale of the adapter is the one that it was trained with.

use foehn_lora::{Adapter, LoraConfig, attach};

use super::behaviour::is_above_zero;
use super::case::{Case, Measured, loss, losses_by_sample};
use super::{Check, Finding, Missing, Severity};

/// Another scale has to lower the loss by this share of the stated scale's loss; or by the smaller share, if that is
/// also a share [`GAINED`] of all that it gains on the base.
const BETTER: f64 = 0.1;
const BETTER_AT_LEAST: f64 = 0.02;
const GAINED: f64 = 0.15;

const ADVICE: &str = "set use_rslora in adapter_config.json as it was in training: the scale is alpha / sqrt(r) with it, \
                      alpha / r without";

/// Compares the scale of `adapter_config.json` with that of the run's recipe. Without a recipe, compares the records'
/// loss at this scale with that at the scale times and divided by √r.
pub(super) fn scale(case: &Case<'_>) -> Finding {
    let looked_at = "the scale in adapter_config.json, beside that of the run's recipe in foehn.json";
    let Ok(adapter) = &case.adapter else {
        return Finding::not_checked(Check::Scale, looked_at, "the adapter has numbers that are not finite");
    };
    let lora = case.manifest.as_ref().and_then(|manifest| manifest.recipe.get("lora"));
    if let Some(recipe) = lora.and_then(|lora| serde_json::from_value::<LoraConfig>(lora.clone()).ok()) {
        return beside_recipe(adapter, &recipe, looked_at);
    }
    let looked_at = format!("the loss of {} at the stated scale, and at it times and divided by √r", case.probed());
    match &case.measured {
        Err(reason) => Finding::not_checked(Check::Scale, looked_at, reason.to_string()),
        Ok(_) if !case.probes.are_data => Finding::missing(Check::Scale, looked_at, Missing::Data),
        Ok(measured) => by_loss(case, adapter, measured, looked_at),
    }
}

fn beside_recipe(adapter: &Adapter, recipe: &LoraConfig, looked_at: &str) -> Finding {
    let scales = adapter.modules.keys().filter_map(|module| {
        let (found, expected) = (adapter.config.scale(module).ok()?, recipe.scale(module).ok()?);
        Some((module, found, expected, adapter.config.rank(module).ok()?))
    });
    let scales: Vec<_> = scales.collect();
    let differs = |(_, found, expected, _): &&(_, f64, f64, _)| (found / expected - 1.0).abs() > 1e-6;
    let Some((module, found, expected, rank)) = scales.iter().find(differs) else {
        let largest = scales.iter().map(|(_, found, ..)| *found).fold(0.0, f64::max);
        return Finding::sound(Check::Scale, looked_at, format!("they are the same: {largest:.3}"));
    };
    let factor = (found / expected).max(expected / found);
    let root = if (factor / (*rank as f64).sqrt() - 1.0).abs() < 1e-3 {
        format!(": off by √r for r = {rank}, as when use_rslora is lost or added")
    } else {
        String::new()
    };
    let found = format!("it is {found:.4} and was {expected:.4} in training ({module}){root}");
    Finding::new(Check::Scale, Severity::Fault, looked_at, found).advising(ADVICE)
}

fn by_loss(case: &Case<'_>, adapter: &Adapter, measured: &Measured, looked_at: String) -> Finding {
    let finding = |severity, found: String| Finding::new(Check::Scale, severity, looked_at.clone(), found);
    let stated = loss(&measured.with);
    // Powers of √r. The outer two are there for an adapter after a few steps: to it, every larger scale is better.
    let scored = |power: f64| {
        let mut model = case.base.model.clone();
        attach(&mut model, &scaled(adapter, power)).ok()?;
        case.scored(&model).ok()
    };
    let powers = [-2.0, -1.0, 1.0, 2.0];
    let found = powers.map(scored);
    let losses: Vec<f64> = found.iter().map(|found| found.as_deref().map_or(f64::INFINITY, loss)).collect();
    let said = format!(
        "it is {stated:.3} at the stated scale, {:.3} at it times √r, {:.3} divided by √r",
        losses[2], losses[1]
    );
    // A better scale is surely another one only if it is also better than all that are farther away.
    let best = losses.iter().copied().fold(stated, f64::min);
    for (near, how) in [(2, "times √r"), (1, "divided by √r")] {
        let Some(log_probs) = &found[near] else { continue };
        let pairs = losses_by_sample(&measured.with).into_iter().zip(losses_by_sample(log_probs));
        let gains: Vec<f64> = pairs.map(|(stated, other)| stated - other).collect();
        let gained = GAINED * (loss(&measured.without) - best);
        let needed = gained.clamp(BETTER_AT_LEAST * stated, BETTER * stated);
        if losses[near] <= best && stated - losses[near] > needed && is_above_zero(case, &gains) {
            return finding(Severity::Warning, format!("{said}: {how} is clearly better")).advising(ADVICE);
        }
    }
    finding(Severity::Sound, said)
}

/// The adapter with each B times a power of the square root of its rank.
fn scaled(adapter: &Adapter, power: f64) -> Adapter {
    let mut scaled = adapter.clone();
    for pair in scaled.modules.values_mut() {
        let factor = (pair.r as f64).sqrt().powf(power) as f32;
        pair.b.iter_mut().for_each(|value| *value *= factor);
    }
    scaled
}
