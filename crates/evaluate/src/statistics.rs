//! Statistical tests: is one run better than another on the same items, or could it be chance?

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// McNemar's exact test on paired correct and wrong answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// Items that only the first run has correct.
    pub only_first: u64,
    /// Items that only the second run has correct.
    pub only_second: u64,
    /// The two-sided p-value: the probability of a split at least as uneven if both runs were equally good.
    pub p_value: f64,
}

/// A figure, or a difference of figures, and its 95% confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The value on the items without resampling.
    pub estimate: f64,
    /// The 2.5% quantile of the resampled values.
    pub low: f64,
    /// The 97.5% quantile of the resampled values.
    pub high: f64,
}

impl McNemar {
    /// Tests whether two runs differ: `min(1, 2 · P(X ≤ min(b, c)))`, where `X` is binomial with probability one half
    /// over the `b + c` items that exactly one run has correct.
    ///
    /// Source: McNemar 1947; `binomtest` of SciPy.
    ///
    /// # Panics
    /// When the two differ in length.
    pub fn new(first: &[bool], second: &[bool]) -> Self {
        assert_eq!(first.len(), second.len(), "mcnemar: the runs differ in length");
        let count = |of: (bool, bool)| first.iter().zip(second).filter(|(a, b)| (**a, **b) == of).count() as u64;
        let (only_first, only_second) = (count((true, false)), count((false, true)));
        Self { only_first, only_second, p_value: binomial_two_sided(only_first, only_second) }
    }
}

/// The groups of a list of items. Items of one group were made from one text and are not independent, so the bootstrap
/// and the permutation test take whole groups.
#[derive(Clone, Debug)]
pub struct Clusters {
    members: Vec<Vec<usize>>,
}

/// What an item adds to the numerator and the denominator of a figure.
pub type Part = (f64, f64);

impl Clusters {
    /// The items with the same name are a group. The order of groups is that of their names.
    pub fn new(groups: &[&str]) -> Self {
        let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (item, group) in groups.iter().enumerate() {
            members.entry(group).or_default().push(item);
        }
        Self { members: members.into_values().collect() }
    }

    /// The number of groups.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The percentile bootstrap of a statistic of items: groups are drawn with replacement, `resamples` times, with
    /// ChaCha8 seeded with `seed`. The 95% interval. Source: Efron & Tibshirani 1993, chapter 13; Field & Welsh 2007,
    /// "Bootstrapping clustered data".
    ///
    /// # Panics
    /// When `resamples` is 0.
    pub fn bootstrap(&self, resamples: usize, seed: u64, statistic: impl Fn(&[usize]) -> f64) -> Interval {
        let all: Vec<usize> = self.members.concat();
        let mut items = Vec::with_capacity(all.len());
        self.resampled(resamples, seed, statistic(&all), |drawn| {
            items.clear();
            drawn.iter().for_each(|group| items.extend(&self.members[*group]));
            statistic(&items)
        })
    }

    /// The bootstrap of a figure: the sum of the numerators over the sum of the denominators.
    ///
    /// # Panics
    /// As [`bootstrap`](Self::bootstrap).
    pub fn bootstrap_ratio(&self, parts: &[Part], resamples: usize, seed: u64) -> Interval {
        let sums = self.sums(parts);
        let of =
            |drawn: &mut dyn Iterator<Item = usize>| quotient(drawn.map(|group| sums[group]).fold((0.0, 0.0), add));
        let estimate = of(&mut (0..self.len()));
        self.resampled(resamples, seed, estimate, |drawn| of(&mut drawn.iter().copied()))
    }

    /// The bootstrap of the difference of a figure in two runs over the same items, second minus first.
    ///
    /// # Panics
    /// As [`bootstrap`](Self::bootstrap).
    pub fn bootstrap_difference(&self, first: &[Part], second: &[Part], resamples: usize, seed: u64) -> Interval {
        let (first, second) = (self.sums(first), self.sums(second));
        let of = |drawn: &mut dyn Iterator<Item = usize>| {
            let zero = ((0.0, 0.0), (0.0, 0.0));
            let sums = drawn.fold(zero, |(a, b), group| (add(a, first[group]), add(b, second[group])));
            quotient(sums.1) - quotient(sums.0)
        };
        let estimate = of(&mut (0..self.len()));
        self.resampled(resamples, seed, estimate, |drawn| of(&mut drawn.iter().copied()))
    }

    /// The p-value of the paired permutation test of that difference: the share of the ways to swap the two runs within
    /// groups that give a difference at least as large. `draws` ways are drawn, and the observed one counts as one
    /// more. Source: Good 2005, "Permutation, parametric, and bootstrap tests of hypotheses", chapter 3; Phipson &
    /// Smyth 2010, "Permutation p-values should never be zero".
    pub fn permutation_test(&self, first: &[Part], second: &[Part], draws: usize, seed: u64) -> f64 {
        let (first, second) = (self.sums(first), self.sums(second));
        let difference = |swapped: &mut dyn FnMut(usize) -> bool| {
            let zero = ((0.0, 0.0), (0.0, 0.0));
            let sums = (0..self.len()).fold(zero, |(a, b), group| match swapped(group) {
                false => (add(a, first[group]), add(b, second[group])),
                true => (add(a, second[group]), add(b, first[group])),
            });
            (quotient(sums.1) - quotient(sums.0)).abs()
        };
        let observed = difference(&mut |_| false);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Sums in another order differ in their last digits.
        let reaches = |found: f64| found >= observed - 1e-12 * observed.max(1.0);
        let mut bits = (0u64, 0);
        let as_large = (0..draws).filter(|_| {
            reaches(difference(&mut |_| {
                if bits.1 == 0 {
                    bits = (rng.next_u64(), 64);
                }
                bits = (bits.0 >> 1, bits.1 - 1);
                bits.0 & 1 == 1
            }))
        });
        (as_large.count() + 1) as f64 / (draws + 1) as f64
    }

    fn sums(&self, parts: &[Part]) -> Vec<Part> {
        self.members.iter().map(|items| items.iter().map(|item| parts[*item]).fold((0.0, 0.0), add)).collect()
    }

    fn resampled(&self, resamples: usize, seed: u64, estimate: f64, mut of: impl FnMut(&[usize]) -> f64) -> Interval {
        assert!(resamples > 0, "bootstrap: no resamples");
        if self.is_empty() {
            return Interval { estimate: 0.0, low: 0.0, high: 0.0 };
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut drawn = vec![0; self.len()];
        let mut found: Vec<f64> = (0..resamples)
            .map(|_| {
                drawn.iter_mut().for_each(|group| *group = below(&mut rng, self.members.len()));
                of(&drawn)
            })
            .collect();
        found.sort_unstable_by(f64::total_cmp);
        Interval { estimate, low: quantile(&found, 0.025), high: quantile(&found, 0.975) }
    }
}

fn add(sum: Part, part: Part) -> Part {
    (sum.0 + part.0, sum.1 + part.1)
}

fn quotient((sum, count): Part) -> f64 {
    if count == 0.0 { 0.0 } else { sum / count }
}

/// Holm's adjustment of the p-values of several tests, in the given order. If every test with an adjusted p-value below
/// the level is rejected, the probability of even one false rejection is below the level. Source: Holm 1979, "A simple
/// sequentially rejective multiple test procedure".
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]).then(a.cmp(&b)));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest: f64 = 0.0;
    for (rank, &index) in order.iter().enumerate() {
        let left = (p_values.len() - rank) as f64;
        largest = largest.max(left * p_values[index]).min(1.0);
        adjusted[index] = largest;
    }
    adjusted
}

fn binomial_two_sided(b: u64, c: u64) -> f64 {
    let n = (b + c) as f64;
    let mut log_choose = 0.0;
    let mut tail = 0.0;
    for k in 0..=b.min(c) {
        if k > 0 {
            log_choose += ((n - k as f64 + 1.0) / k as f64).ln();
        }
        tail += (log_choose - n * std::f64::consts::LN_2).exp();
    }
    (2.0 * tail).min(1.0)
}

/// Uniform below `count`; the bias is under `count / 2^64`.
fn below(rng: &mut ChaCha8Rng, count: usize) -> usize {
    ((u128::from(rng.next_u64()) * count as u128) >> 64) as usize
}

/// A quantile of sorted values, interpolated between neighbours as in NumPy.
fn quantile(sorted: &[f64], at: f64) -> f64 {
    let place = at * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The bootstrap of the mean of paired differences.
    fn bootstrapped(groups: &[&str], differences: &[f64], resamples: usize, seed: u64) -> Interval {
        let parts = |values: &[f64]| values.iter().map(|value| (*value, 1.0)).collect::<Vec<Part>>();
        let (first, second) = (parts(&vec![0.0; differences.len()]), parts(differences));
        Clusters::new(groups).bootstrap_difference(&first, &second, resamples, seed)
    }

    /// The expected values of `tests/golden/measures.py`.
    fn fixture(section: &str) -> Vec<serde_json::Value> {
        let text = include_str!("../tests/fixtures/statistics.json");
        let mut all: serde_json::Value = serde_json::from_str(text).unwrap();
        all[section].as_array_mut().map(std::mem::take).unwrap()
    }

    #[test]
    fn mcnemar_is_that_of_statsmodels() {
        for case in fixture("mcnemar") {
            let [b, c] = ["b", "c"].map(|key| case[key].as_u64().unwrap());
            let runs = |first: bool| [vec![first; b as usize], vec![!first; c as usize], vec![true; 4]].concat();
            let found = McNemar::new(&runs(true), &runs(false));
            assert_eq!((found.only_first, found.only_second), (b, c));
            let expected = case["p"].as_f64().unwrap();
            assert!((found.p_value - expected).abs() <= 1e-9 * expected, "{b}, {c}: {}", found.p_value);
        }
    }

    #[test]
    fn holm_is_that_of_statsmodels() {
        for case in fixture("holm") {
            let numbers = |key: &str| -> Vec<f64> {
                case[key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
            };
            for (found, expected) in holm(&numbers("p")).iter().zip(numbers("adjusted")) {
                assert!((found - expected).abs() < 1e-9, "{case}");
            }
        }
    }

    /// With few groups, all ways to swap can be counted.
    #[test]
    fn the_permutation_test_draws_from_all_swaps() {
        let names = ["a", "a", "b", "c", "d", "e", "f", "f"];
        let first = [0.1, 0.0, 0.4, 0.2, 0.9, 0.3, 0.5, 0.6].map(|value| (value, 1.0));
        let second = [0.4, 0.5, 0.3, 0.9, 0.9, 0.8, 0.7, 0.9].map(|value| (value, 1.0));
        let difference = |swap: usize| -> f64 {
            let group = |at: usize| "abcdef".find(names[at]).unwrap();
            let of = |at: usize| second[at].0 - first[at].0;
            (0..8).map(|at| if swap >> group(at) & 1 == 1 { -of(at) } else { of(at) }).sum::<f64>().abs()
        };
        let as_large = (0..64).filter(|swap| difference(*swap) >= difference(0) - 1e-12).count();
        let exact = as_large as f64 / 64.0;
        let found = Clusters::new(&names).permutation_test(&first, &second, 20_000, 3);
        // Four standard errors of 20,000 draws.
        assert!((found - exact).abs() < 4.0 * (exact * (1.0 - exact) / 20_000.0).sqrt(), "{found}, exactly {exact}");
    }

    #[test]
    fn quantiles_are_numpys() {
        // numpy.percentile([3, 1, 4, 1, 5, 9, 2, 6], [2.5, 50, 97.5]).
        let sorted = [1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0];
        for (at, expected) in [(0.025, 1.0), (0.5, 3.5), (0.975, 8.475)] {
            assert!((quantile(&sorted, at) - expected).abs() < 1e-12);
        }
    }

    /// With many independent items, the interval is the normal one: mean ± 1.96 standard errors.
    #[test]
    fn many_independent_items_are_normal() {
        let differences: Vec<f64> = (0..2000).map(|item| f64::from(item % 5 == 0) - f64::from(item % 7 == 0)).collect();
        let names: Vec<String> = (0..2000).map(|item| format!("{item:04}")).collect();
        let groups: Vec<&str> = names.iter().map(String::as_str).collect();
        let found = bootstrapped(&groups, &differences, 10_000, 1);
        let mean = differences.iter().sum::<f64>() / 2000.0;
        let variance = differences.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / 2000.0;
        let half_width = 1.959964 * (variance / 2000.0).sqrt();
        assert!((found.estimate - mean).abs() < 1e-12);
        assert!((found.low - (mean - half_width)).abs() < 0.05 * half_width, "{found:?}");
        assert!((found.high - (mean + half_width)).abs() < 0.05 * half_width, "{found:?}");
    }

    proptest! {
        /// Ten copies of an item in its group add no evidence.
        #[test]
        fn copies_within_a_group_change_nothing(differences in vec(-1i8..=1, 1..20), seed in any::<u64>()) {
            let differences: Vec<f64> = differences.into_iter().map(f64::from).collect();
            let names: Vec<String> = (0..differences.len()).map(|item| item.to_string()).collect();
            let groups: Vec<&str> = names.iter().map(String::as_str).collect();
            let alone = bootstrapped(&groups, &differences, 200, seed);
            let copied = bootstrapped(&groups.repeat(10), &differences.repeat(10), 200, seed);
            for (a, b) in [(alone.estimate, copied.estimate), (alone.low, copied.low), (alone.high, copied.high)] {
                prop_assert!((a - b).abs() < 1e-12);
            }
            prop_assert!(alone.low <= alone.high);
        }

        #[test]
        fn equal_runs_do_not_differ(right in vec(any::<bool>(), 0..40)) {
            prop_assert_eq!(McNemar::new(&right, &right).p_value, 1.0);
            let found = bootstrapped(&vec!["one"; right.len()], &vec![0.0; right.len()], 50, 0);
            prop_assert_eq!(found, Interval { estimate: 0.0, low: 0.0, high: 0.0 });
        }

        #[test]
        fn holm_never_lowers_and_keeps_the_order(p_values in vec(0.0..=1.0, 0..10)) {
            let adjusted = holm(&p_values);
            for (a, (p, b)) in adjusted.iter().zip(p_values.iter().zip(&adjusted)) {
                prop_assert!(a >= p && *b <= 1.0);
            }
            for (i, j) in (0..p_values.len()).flat_map(|i| (0..p_values.len()).map(move |j| (i, j))) {
                prop_assert!(p_values[i] > p_values[j] || adjusted[i] <= adjusted[j]);
            }
        }
    }
}
