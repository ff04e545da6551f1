//! Two runs over the same items.

use serde::{Deserialize, Serialize};

use crate::metrics::share_of;
use crate::{Error, Evaluation, Interval, McNemar, ProductionItem, RecognitionItem, Result, clustered_bootstrap, holm};

/// Bootstrap resamples of a comparison.
const RESAMPLES: usize = 10_000;

/// The effect of an adapter, and whether it could be chance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Sentences recognised, from the likelihoods.
    pub recognition: Paired,
    /// The same for each label's sentences, in the order of the labels.
    pub per_class: Vec<ClassTest>,
    /// Descriptions that use only words of the requested sense.
    pub production: Paired,
}

/// The share of correct items in two runs over the same items.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// The number of items.
    pub items: usize,
    /// The difference of the shares, second minus first, with its confidence interval from a bootstrap over groups.
    pub difference: Interval,
    /// The exact test.
    pub test: McNemar,
}

/// The test for one of several labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassTest {
    /// The difference of the label's recall, second minus first.
    pub difference: f64,
    /// The exact test.
    pub test: McNemar,
    /// The p-value, adjusted by Holm's method for the number of labels.
    pub p_holm: f64,
}

/// Compares two runs item by item, with `seed` for the bootstrap.
///
/// # Errors
/// [`Error::DifferentItems`].
pub fn compare(first: &Evaluation, second: &Evaluation, seed: u64) -> Result<Comparison> {
    let differ = |what| Error::DifferentItems { first: first.name.clone(), second: second.name.clone(), what };
    let probes = |run: &Evaluation| -> Vec<(String, usize)> {
        run.recognition.items.iter().map(|item| (item.id.clone(), item.truth)).collect()
    };
    let scenes = |run: &Evaluation| -> Vec<(String, usize)> {
        run.production.items.iter().map(|item| (item.id.clone(), item.asked)).collect()
    };
    if probes(first) != probes(second) {
        return Err(differ("the probes"));
    }
    if scenes(first) != scenes(second) {
        return Err(differ("the scenes"));
    }
    let recognised = |run: &Evaluation| run.recognition.items.iter().map(RecognitionItem::is_right).collect::<Vec<_>>();
    let pure = |run: &Evaluation| run.production.items.iter().map(ProductionItem::is_pure).collect::<Vec<_>>();
    let groups: Vec<&str> = first.recognition.items.iter().map(|item| item.group.as_str()).collect();
    let scene_groups: Vec<&str> = first.production.items.iter().map(|item| item.group.as_str()).collect();
    Ok(Comparison {
        recognition: paired(&groups, &recognised(first), &recognised(second), seed),
        per_class: per_class(first, second),
        production: paired(&scene_groups, &pure(first), &pure(second), seed),
    })
}

fn paired(groups: &[&str], first: &[bool], second: &[bool], seed: u64) -> Paired {
    let number = |right: &bool| if *right { 1.0 } else { 0.0 };
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| number(b) - number(a)).collect();
    Paired {
        items: first.len(),
        difference: clustered_bootstrap(groups, &differences, RESAMPLES, seed),
        test: McNemar::new(first, second),
    }
}

fn per_class(first: &Evaluation, second: &Evaluation) -> Vec<ClassTest> {
    let labels = first.recognition.likelihood.classification.per_class.len();
    let of = |run: &Evaluation, label: usize| -> Vec<bool> {
        let items = run.recognition.items.iter().filter(|item| item.truth == label);
        items.map(RecognitionItem::is_right).collect()
    };
    let tests: Vec<(f64, McNemar)> = (0..labels)
        .map(|label| {
            let (first, second) = (of(first, label), of(second, label));
            (share_of(&second, |right| **right) - share_of(&first, |right| **right), McNemar::new(&first, &second))
        })
        .collect();
    let adjusted = holm(&tests.iter().map(|(_, test)| test.p_value).collect::<Vec<_>>());
    let joined = tests.into_iter().zip(adjusted);
    joined.map(|((difference, test), p_holm)| ClassTest { difference, test, p_holm }).collect()
}
