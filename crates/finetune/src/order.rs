//! The order of the data: a pure function of seed and epoch, so that a resumed run needs no state for it.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::TrainingConfig;

/// A permutation of `0..count` for an epoch (Fisher and Yates).
pub(crate) fn permutation(count: usize, seed: u64, epoch: usize) -> Vec<usize> {
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

/// The epoch and the samples of a step, all counted from 0. The epoch's order is split into batches; the last one may
/// be smaller.
pub(crate) fn batch(count: usize, config: &TrainingConfig, step: usize) -> (usize, Vec<usize>) {
    let batch_size = config.batch_size;
    let per_epoch = count.div_ceil(batch_size);
    let (epoch, index) = (step / per_epoch, step % per_epoch);
    let places = index * batch_size..count.min((index + 1) * batch_size);
    match config.shuffle {
        true => (epoch, permutation(count, config.seed, epoch)[places].to_vec()),
        false => (epoch, places.collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_sees_every_sample_once() {
        for (count, batch_size) in [(1usize, 1usize), (7, 3), (16, 16), (33, 16)] {
            let per_epoch = count.div_ceil(batch_size);
            let config = TrainingConfig { batch_size, seed: 9, ..TrainingConfig::default() };
            let mut orders = Vec::new();
            for epoch in 0..3 {
                let steps = epoch * per_epoch..(epoch + 1) * per_epoch;
                let seen: Vec<usize> = steps.flat_map(|step| batch(count, &config, step).1).collect();
                let mut sorted = seen.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..count).collect::<Vec<_>>());
                orders.push(seen);
            }
            assert!(count < 7 || orders[0] != orders[1]);
            let in_order = TrainingConfig { shuffle: false, ..config };
            let seen = (0..2 * per_epoch).flat_map(|step| batch(count, &in_order, step).1);
            assert!(seen.eq((0..count).chain(0..count)));
        }
        assert_ne!(permutation(50, 1, 0), permutation(50, 2, 0));
    }
}
