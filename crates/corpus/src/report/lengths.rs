//! How long, of which language, under which labels.

use std::collections::BTreeMap;

use serde::Serialize;

/// What the records kept are like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Distributions {
    /// The characters of what the user says in a record.
    pub prompt_characters: Lengths,
    /// The characters of what the assistant says in a record.
    pub answer_characters: Lengths,
    /// The answers in a record.
    pub answers: Lengths,
    /// The records of each language, the most frequent first; those too short to tell among them. Of a file, the first 20,000
    /// lines are looked at, and then every sixteenth.
    pub languages: Vec<(String, u64)>,
    /// The records of each label, for every metadata key that has few different short texts.
    pub labels: Vec<LabelCounts>,
}

/// The records of each label of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabelCounts {
    /// The metadata key.
    pub key: String,
    /// The labels with their records, the most frequent first.
    pub counts: Vec<(String, u64)>,
}

/// A distribution of whole numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lengths {
    /// The smallest.
    pub min: usize,
    /// Five percent are no larger than this.
    pub p05: usize,
    /// Half are no larger than this.
    pub median: usize,
    /// Ninety-five percent are no larger than this.
    pub p95: usize,
    /// The largest.
    pub max: usize,
    /// The histogram, from 0 on in steps of one width; the last bin holds all that is larger.
    pub bins: Vec<Bin>,
}

/// A bar of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// The smallest number in it.
    pub from: usize,
    /// The largest number in it.
    pub to: usize,
    /// How many are in it.
    pub count: u64,
}

/// About how many bars a histogram has.
const BARS: usize = 24;

impl Lengths {
    /// The distribution of numbers that are given with their counts.
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
        // A few giants would press all others into one bar.
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

/// The next number of one figure and noughts.
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
        // The nearest rank: the smallest number that so many percent do not exceed.
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
