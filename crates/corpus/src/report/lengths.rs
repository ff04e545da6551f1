//! Statistics of the kept records: lengths, languages, labels.

use std::collections::BTreeMap;

use serde::Serialize;

/// The distributions of the kept records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Distributions {
    /// The number of characters of the user's messages per record.
    pub prompt_characters: Lengths,
    /// The number of characters of the assistant's messages per record.
    pub answer_characters: Lengths,
    /// The number of answers per record.
    pub answers: Lengths,
    /// The number of records in each language, the most frequent first. Texts that are too short to tell are one of the
    /// entries. For each file, the first 20,000 lines are examined, and then every sixteenth.
    pub languages: Vec<(String, u64)>,
    /// The number of records with each label, for every metadata key with few different short texts.
    pub labels: Vec<LabelCounts>,
    /// The lengths of the answers of pairs, if there are pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs: Option<PairLengths>,
}

/// How the lengths of chosen and rejected answers compare. If the chosen answers are mostly longer, training on the pairs
/// teaches a model to write long answers rather than good ones (Park et al. 2024, "Disentangling length from quality in
/// direct preference optimization").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PairLengths {
    /// The number of pairs.
    pub pairs: u64,
    /// The number of pairs whose chosen answer is longer.
    pub chosen_longer: u64,
    /// The number of pairs whose rejected answer is longer.
    pub rejected_longer: u64,
    /// The characters of all chosen answers.
    pub chosen_characters: u64,
    /// The characters of all rejected answers.
    pub rejected_characters: u64,
}

/// Chosen answers that are the longer ones, or the shorter ones, in a larger share of the pairs are told as a bias.
const BIAS: f64 = 0.65;

impl PairLengths {
    /// Adds or subtracts a pair with these numbers of characters.
    pub(crate) fn change(&mut self, [chosen, rejected]: [usize; 2], change: fn(u64, u64) -> u64) {
        let values = [1, u64::from(chosen > rejected), u64::from(rejected > chosen), chosen as u64, rejected as u64];
        let Self { pairs, chosen_longer, rejected_longer, chosen_characters, rejected_characters } = self;
        let sums = [pairs, chosen_longer, rejected_longer, chosen_characters, rejected_characters];
        for (sum, value) in sums.into_iter().zip(values) {
            *sum = change(*sum, value);
        }
    }

    /// The numbers, in words.
    pub fn said(&self) -> String {
        let Self { pairs, chosen_longer, rejected_longer, chosen_characters, rejected_characters } = self;
        let share = |count: &u64| 100.0 * *count as f64 / *pairs as f64;
        let mean = |characters: &u64| *characters as f64 / *pairs as f64;
        format!(
            "{pairs} pairs: chosen longer in {:.0}%, rejected longer in {:.0}% ({:.0} and {:.0} characters on average)",
            share(chosen_longer),
            share(rejected_longer),
            mean(chosen_characters),
            mean(rejected_characters)
        )
    }

    /// What is wrong with the lengths.
    pub fn bias(&self) -> Option<&'static str> {
        let is_most = |count: u64| count as f64 > BIAS * self.pairs as f64;
        if is_most(self.chosen_longer) {
            return Some(
                "the chosen answers are mostly longer: a model may learn to write long answers, not good ones",
            );
        }
        is_most(self.rejected_longer)
            .then_some("the chosen answers are mostly shorter: a model may learn to write short answers, not good ones")
    }
}

/// The number of records with each label of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabelCounts {
    /// The metadata key.
    pub key: String,
    /// The labels with their numbers of records, the most frequent first.
    pub counts: Vec<(String, u64)>,
}

/// A distribution of integers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lengths {
    /// The smallest.
    pub min: usize,
    /// The 5th percentile.
    pub p05: usize,
    /// The median.
    pub median: usize,
    /// The 95th percentile.
    pub p95: usize,
    /// The largest.
    pub max: usize,
    /// The histogram, with bins of equal width from 0 on; the last bin has all larger values.
    pub bins: Vec<Bin>,
}

/// A bin of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// The smallest value of the bin.
    pub from: usize,
    /// The largest value of the bin.
    pub to: usize,
    /// The number of values in it.
    pub count: u64,
}

/// About how many bins a histogram has.
const BARS: usize = 24;

impl Lengths {
    /// The distribution of values that are given with their counts.
    pub(crate) fn of(counts: &BTreeMap<usize, u64>) -> Self {
        let (Some((&min, _)), Some((&max, _))) = (counts.first_key_value(), counts.last_key_value()) else {
            return Self::default();
        };
        let total: u64 = counts.values().sum();
        let quantile = |percent: u64| {
            let mut below = 0;
            let found = counts.iter().find(|(_, count)| {
                below += **count;
                below * 100 >= total * percent
            });
            found.map_or(max, |(value, _)| *value)
        };
        // A few very large values would put all others into one bin.
        let width = nice((quantile(99) + 1).div_ceil(BARS));
        let last = quantile(99) / width;
        let mut bins: Vec<Bin> =
            (0..=last).map(|at| Bin { from: at * width, to: (at + 1) * width - 1, count: 0 }).collect();
        for (value, count) in counts {
            bins[(value / width).min(last)].count += count;
        }
        if let Some(bin) = bins.last_mut() {
            bin.to = bin.to.max(max);
        }
        Self { min, p05: quantile(5), median: quantile(50), p95: quantile(95), max, bins }
    }
}

/// The next number with one digit followed by zeros.
fn nice(width: usize) -> usize {
    let mut power = 1;
    loop {
        if let Some(nice) = [1, 2, 3, 4, 5, 6, 8].map(|step| step * power).into_iter().find(|nice| *nice >= width) {
            return nice;
        }
        power *= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_numbers() {
        let numbers: Vec<usize> = (1..=200).map(|number| number * number % 397).collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        let mut counts = BTreeMap::new();
        numbers.iter().for_each(|number| *counts.entry(*number).or_default() += 1);
        let lengths = Lengths::of(&counts);
        // The nearest rank: the smallest value such that this percentage of all values is no larger.
        for (percent, found) in [(5, lengths.p05), (50, lengths.median), (95, lengths.p95)] {
            assert_eq!(found, sorted[percent * 200 / 100 - 1], "{percent}");
        }
        assert_eq!((lengths.min, lengths.max), (sorted[0], sorted[199]));
        assert_eq!(lengths.bins.iter().map(|bin| bin.count).sum::<u64>(), 200);
        for bin in &lengths.bins {
            let within = numbers.iter().filter(|number| (bin.from..=bin.to).contains(number)).count();
            assert_eq!(bin.count, within as u64, "{bin:?}");
        }
        assert_eq!(Lengths::of(&BTreeMap::new()), Lengths::default());
    }

    #[test]
    fn a_giant_does_not_press_the_others_into_one_bar() {
        let counts: BTreeMap<usize, u64> = (0..500).map(|number| (number, 2)).chain([(1_000_000, 1)]).collect();
        let lengths = Lengths::of(&counts);
        assert!(lengths.bins.len() > 15, "{lengths:?}");
        assert_eq!(lengths.bins.last().map(|bin| bin.to), Some(1_000_000));
    }

    #[test]
    fn steps_are_round() {
        for (width, expected) in [(0, 1), (1, 1), (3, 3), (7, 8), (11, 20), (501, 600)] {
            assert_eq!(nice(width), expected);
        }
    }
}
