//! The order of the data: a pure function of seed and epoch, so that a resumed run needs no state for it.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A permutation of `0..count` for an epoch (Fisher and Yates).
pub(crate) fn permutation(count: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64 + 1);
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        // The bias of the multiplication is below count / 2^64.
        let chosen = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, chosen as usize);
    }
    order
}

/// The samples of a step (from 0): the epoch's order cut into batches, the last of which may be smaller.
pub(crate) fn batch(count: usize, batch_size: usize, seed: u64, step: usize) -> (usize, Vec<usize>) {
    let per_epoch = count.div_ceil(batch_size);
    let (epoch, index) = (step / per_epoch, step % per_epoch);
    let order = permutation(count, seed, epoch);
    let start = index * batch_size;
    (epoch, order[start..count.min(start + batch_size)].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_sees_every_sample_once() {
        for (count, batch_size) in [(1usize, 1usize), (7, 3), (16, 16), (33, 16)] {
            let per_epoch = count.div_ceil(batch_size);
            let mut orders = Vec::new();
            for epoch in 0..3 {
                let steps = epoch * per_epoch..(epoch + 1) * per_epoch;
                let seen: Vec<usize> = steps.flat_map(|step| batch(count, batch_size, 9, step).1).collect();
                let mut sorted = seen.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..count).collect::<Vec<_>>());
                orders.push(seen);
            }
            assert!(count < 7 || orders[0] != orders[1]);
        }
        assert_ne!(permutation(50, 1, 0), permutation(50, 2, 0));
    }
}
