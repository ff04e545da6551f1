//! The order of the data: a pure function of seed and epoch, so that a resumed run needs no state for it.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::checkpoint::MAX_STEPS;
use crate::{Error, TrainingConfig};

/// A larger weight is a mistake.
const MAX_WEIGHT: f64 = 1000.0;
/// Tells the order of the shares from the order of the epochs.
const SHARES: u64 = 0x6A09_E667_F3BC_C908;

/// Consecutive examples of a training set with one weight: how often each of them is seen in an epoch, in the mean.
///
/// With the weight `w`, every epoch has each example `⌊w⌋` times, and a share of them once more. The shares are
/// consecutive stretches of one order of the examples, which depends on the seed; it begins anew after its last example.
/// The first `e` epochs take `round((w − ⌊w⌋) · examples · e)` examples from it. So no share has an example twice, and
/// the numbers of times that two examples were seen differ by at most 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Part {
    /// The number of examples.
    pub examples: usize,
    /// The weight.
    pub weight: f64,
}

impl Part {
    /// Refuses what is no weight.
    ///
    /// # Errors
    /// [`Error::Setting`] if it is not above 0 and at most 1000.
    pub fn check(weight: f64) -> Result<(), Error> {
        if weight > 0.0 && weight <= MAX_WEIGHT {
            return Ok(());
        }
        let expected = "above 0 and at most 1000";
        Err(Error::Setting { field: "data.weight", found: weight.to_string(), expected })
    }

    fn whole(&self) -> usize {
        self.weight as usize
    }

    /// The number of examples in the shares of the first `epochs` epochs.
    fn shared(&self, epochs: usize) -> usize {
        (self.weight.fract() * self.examples as f64 * epochs as f64).round() as usize
    }

    /// The number of examples that an epoch has of this part.
    fn len(&self, epoch: usize) -> usize {
        self.whole() * self.examples + self.shared(epoch + 1) - self.shared(epoch)
    }

    /// The share of an epoch, in the order of the data.
    fn share(&self, seed: u64, epoch: usize) -> Vec<usize> {
        let stretch = self.shared(epoch)..self.shared(epoch + 1);
        if stretch.is_empty() {
            return Vec::new();
        }
        let order = permutation(self.examples, seed, 0);
        let mut share: Vec<usize> = stretch.map(|place| order[place % self.examples]).collect();
        share.sort_unstable();
        share
    }
}

/// A permutation of `0..count` for an epoch (Fisher and Yates).
fn permutation(count: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64 + 1);
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        // The bias of this multiplication is below count / 2^64.
        let chosen = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, chosen as usize);
    }
    order
}

/// The number of examples of an epoch.
fn examples(parts: &[Part], epoch: usize) -> usize {
    parts.iter().map(|part| part.len(epoch)).sum()
}

/// The number of steps of each epoch, if all epochs have the same number.
fn steps_of_each(parts: &[Part], config: &TrainingConfig) -> Option<usize> {
    let is_whole = parts.iter().all(|part| part.weight.fract() == 0.0);
    is_whole.then(|| examples(parts, 0).div_ceil(config.batch_size))
}

/// The number of steps of a run. A number above [`MAX_STEPS`] need not be exact.
pub(crate) fn total_steps(parts: &[Part], config: &TrainingConfig) -> usize {
    let limit = if config.max_steps == 0 { usize::MAX } else { config.max_steps };
    if let Some(each) = steps_of_each(parts, config) {
        return each.saturating_mul(config.epochs).min(limit);
    }
    let mut total = 0;
    for epoch in 0..config.epochs {
        total += examples(parts, epoch).div_ceil(config.batch_size);
        if total >= limit || total > MAX_STEPS {
            break;
        }
    }
    total.min(limit)
}

/// The epoch and the examples of a step, all counted from 0. The epoch's examples are split into batches; the last one
/// may be smaller. Without `shuffle`, they keep the order of the data, one pass of each part after the other.
///
/// # Panics
/// If no epoch has an example.
pub(crate) fn batch(parts: &[Part], config: &TrainingConfig, step: usize) -> (usize, Vec<usize>) {
    let (epoch, index) = place(parts, config, step);
    let mut all = Vec::with_capacity(examples(parts, epoch));
    let mut first = 0;
    for (number, part) in (1u64..).zip(parts) {
        let seed = config.seed ^ SHARES.wrapping_mul(number);
        let passes = (0..part.whole()).flat_map(|_| 0..part.examples);
        all.extend(passes.chain(part.share(seed, epoch)).map(|example| first + example));
        first += part.examples;
    }
    let count = all.len();
    let places = index * config.batch_size..count.min((index + 1) * config.batch_size);
    let batch = match config.shuffle {
        true => permutation(count, config.seed, epoch)[places].iter().map(|place| all[*place]).collect(),
        false => all[places].to_vec(),
    };
    (epoch, batch)
}

/// The epoch of a step, and its index in the epoch.
fn place(parts: &[Part], config: &TrainingConfig, step: usize) -> (usize, usize) {
    if let Some(each) = steps_of_each(parts, config) {
        return (step / each, step % each);
    }
    assert!(parts.iter().any(|part| part.examples > 0), "order: no epoch has an example");
    let mut left = step;
    for epoch in 0.. {
        let steps = examples(parts, epoch).div_ceil(config.batch_size);
        if left < steps {
            return (epoch, left);
        }
        left -= steps;
    }
    unreachable!("a weight is above 0, so examples come")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uniform(examples: usize) -> Vec<Part> {
        vec![Part { examples, weight: 1.0 }]
    }

    #[test]
    fn every_epoch_sees_every_sample_once() {
        for (count, batch_size) in [(1usize, 1usize), (7, 3), (16, 16), (33, 16)] {
            let per_epoch = count.div_ceil(batch_size);
            let config = TrainingConfig { batch_size, seed: 9, ..TrainingConfig::default() };
            let mut orders = Vec::new();
            for epoch in 0..3 {
                let steps = epoch * per_epoch..(epoch + 1) * per_epoch;
                let seen: Vec<usize> = steps.flat_map(|step| batch(&uniform(count), &config, step).1).collect();
                let mut sorted = seen.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..count).collect::<Vec<_>>());
                orders.push(seen);
            }
            assert!(count < 7 || orders[0] != orders[1]);
            let in_order = TrainingConfig { shuffle: false, ..config };
            let seen = (0..2 * per_epoch).flat_map(|step| batch(&uniform(count), &in_order, step).1);
            assert!(seen.eq((0..count).chain(0..count)));
        }
        assert_ne!(permutation(50, 1, 0), permutation(50, 2, 0));
    }

    #[test]
    fn weights_repeat_and_take_another_share_each_epoch() {
        let parts = [Part { examples: 3, weight: 2.0 }, Part { examples: 4, weight: 0.5 }];
        let config = TrainingConfig { batch_size: 8, shuffle: false, ..TrainingConfig::default() };
        let epochs: Vec<Vec<usize>> = (0..4).map(|step| batch(&parts, &config, step).1).collect();
        assert!(epochs.iter().all(|epoch| epoch[..6] == [0, 1, 2, 0, 1, 2] && epoch.len() == 8), "{epochs:?}");
        let [first, second] = [&epochs[0][6..], &epochs[1][6..]];
        let mut both = [first, second].concat();
        both.sort_unstable();
        assert_eq!(both, [3, 4, 5, 6]);
        assert_eq!((first, second), (&epochs[2][6..], &epochs[3][6..]));
        assert!(Part::check(0.0).is_err() && Part::check(f64::NAN).is_err() && Part::check(0.1).is_ok());
    }

    proptest! {
        /// In any number of epochs, every example is seen its weight times an epoch, to the nearest whole number.
        #[test]
        fn an_example_is_seen_its_weight_times_an_epoch(
            parts in prop::collection::vec((1usize..12, 1u32..350), 1..4),
            epochs in 1usize..25,
            batch_size in 1usize..9,
            seed: u64,
            shuffle: bool,
        ) {
            let part = |(examples, hundredths): (usize, u32)| Part { examples, weight: f64::from(hundredths) / 100.0 };
            let parts: Vec<Part> = parts.into_iter().map(part).collect();
            let config = TrainingConfig { batch_size, seed, shuffle, epochs, ..TrainingConfig::default() };
            let mut seen = vec![0usize; parts.iter().map(|part| part.examples).sum()];
            let mut last = 0;
            for step in 0..total_steps(&parts, &config) {
                let (epoch, found) = batch(&parts, &config, step);
                prop_assert!(!found.is_empty() && found.len() <= batch_size && (last..epochs).contains(&epoch));
                last = epoch;
                found.into_iter().for_each(|example| seen[example] += 1);
            }
            let mut counts = seen.as_slice();
            for part in &parts {
                let (own, others) = counts.split_at(part.examples);
                counts = others;
                let expected = part.weight * epochs as f64;
                prop_assert!(own.iter().all(|count| (*count as f64 - expected).abs() < 1.5), "{own:?} {expected}");
                // Together, they are seen exactly so often, but for one half.
                let all = own.iter().sum::<usize>() as f64;
                prop_assert!((all - expected * part.examples as f64).abs() <= 0.5 + 1e-6, "{all} {expected}");
                prop_assert!(own.iter().max().unwrap() - own.iter().min().unwrap() <= 1);
            }
        }
    }
}
