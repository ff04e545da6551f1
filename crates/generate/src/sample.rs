//! Chooses a token from logits: small pure functions, and a sampler that calls them in transformers' order.
//!
//! An excluded token has the logit `-∞`. At least one token always remains.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::SamplingConfig;

/// Chooses the tokens of one sequence: a config and a random stream.
#[derive(Clone, Debug)]
pub struct Sampler {
    config: SamplingConfig,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// The sampler of one sequence of a batch. It draws from ChaCha8 with the config's seed, on the stream
    /// [`SamplingConfig::stream`] + `sequence`. Different streams of a seed never overlap, and neither do the streams
    /// of different seeds.
    pub fn new(config: &SamplingConfig, sequence: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        rng.set_stream(config.stream.wrapping_add(sequence as u64));
        Self { config: config.clone(), rng }
    }

    /// Chooses the next token from finite logits and all tokens before it. Overwrites the logits.
    ///
    /// # Panics
    /// When there are no logits.
    pub fn next(&mut self, logits: &mut [f32], seen: &[u32]) -> u32 {
        let SamplingConfig { temperature, top_k, top_p, min_p, repetition_penalty, .. } = self.config;
        apply_repetition_penalty(logits, seen, repetition_penalty);
        if temperature == 0.0 {
            return argmax(logits);
        }
        apply_temperature(logits, temperature);
        if let Some(top_k) = top_k {
            keep_top_k(logits, top_k);
        }
        if let Some(top_p) = top_p {
            keep_top_p(logits, top_p);
        }
        if let Some(min_p) = min_p {
            keep_min_p(logits, min_p);
        }
        draw(logits, &mut self.rng)
    }
}

/// Divides the positive and multiplies the negative logits of every distinct token of `seen` by `penalty`.
///
/// Source: Keskar et al. 2019, "CTRL", as in transformers' `RepetitionPenaltyLogitsProcessor`. Tokens without a logit
/// are skipped.
pub fn apply_repetition_penalty(logits: &mut [f32], seen: &[u32], penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    let mut distinct = seen.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    for id in distinct {
        if let Some(logit) = logits.get_mut(id as usize) {
            let penalised = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
            *logit = penalised.clamp(f32::MIN, f32::MAX);
        }
    }
}

/// Divides the logits by `temperature`, after shifting them so that the largest is 0. So no temperature causes an
/// overflow.
pub fn apply_temperature(logits: &mut [f32], temperature: f32) {
    let max = largest(logits);
    for logit in logits {
        // With the smallest temperatures, 0/0 would be NaN.
        *logit = if *logit == max { 0.0 } else { (*logit - max) / temperature };
    }
}

/// Excludes all but the `k` largest logits. Among equal logits, lower ids are kept.
pub fn keep_top_k(logits: &mut [f32], k: usize) {
    if k == 0 || k >= logits.len() {
        return;
    }
    let mut order: Vec<Rank> = (0..).zip(&*logits).map(|(id, &logit)| rank(logit, id)).collect();
    let (_, &mut last, _) = order.select_nth_unstable(k - 1);
    keep_up_to(logits, last);
}

/// Keeps the smallest set of most probable tokens whose probabilities reach `p`. Among equal probabilities, lower ids
/// are kept.
///
/// Probabilities are added as integers; the most probable token has 2⁴⁰ (less in vocabularies above four million
/// tokens). So the sum does not depend on the order of additions, and no sorting is needed.
///
/// Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration".
pub fn keep_top_p(logits: &mut [f32], p: f32) {
    if p >= 1.0 {
        return;
    }
    let max = largest(logits);
    let one = (1u64 << (62 - (usize::BITS - logits.len().leading_zeros()).max(22))) as f64;
    let share = |logit: f32| (f64::from(logit - max).exp() * one).round() as u64;
    let possible = |logit: &f32| *logit > f32::NEG_INFINITY;
    let total: u64 = logits.iter().copied().filter(possible).map(share).sum();
    let enough = ((f64::from(p) * total as f64).ceil() as u64).clamp(1, total.max(1));
    // Tokens with a share below this one are never needed: even without all of them, the sum reaches `enough`.
    let least = (total - enough.min(total)) / logits.len().max(1) as u64;
    let floor = (least as f64 / one).ln() as f32 - 1e-3;
    let mut candidates: Vec<(Rank, u64)> = (0..)
        .zip(&*logits)
        .filter(|(_, logit)| possible(logit) && **logit - max >= floor)
        .map(|(id, &logit)| (rank(logit, id), share(logit)))
        .collect();
    if let Some(last) = last_needed(&mut candidates, enough) {
        keep_up_to(logits, last);
    }
}

/// The rank at which the sum of the shares, added in rank order, reaches `enough`; the last rank if it never does.
///
/// Each round partitions only the half that contains this rank, so all rounds together process about twice the number
/// of elements.
fn last_needed(mut left: &mut [(Rank, u64)], mut enough: u64) -> Option<Rank> {
    while left.len() > 1 {
        let middle = left.len() / 2;
        left.select_nth_unstable(middle);
        let (upper, lower) = left.split_at_mut(middle);
        let sum: u64 = upper.iter().map(|(_, share)| share).sum();
        left = if sum >= enough {
            upper
        } else {
            enough -= sum;
            lower
        };
    }
    left.first().map(|(rank, _)| *rank)
}

/// Excludes tokens that are less than `p` times as probable as the most probable one.
///
/// Source: Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling".
pub fn keep_min_p(logits: &mut [f32], p: f32) {
    let (max, least) = (largest(logits), f64::from(p).ln());
    for logit in logits {
        if f64::from(*logit - max) < least {
            *logit = f32::NEG_INFINITY;
        }
    }
}

/// The token with the largest logit; among equal logits, the one with the lowest id.
///
/// # Panics
/// When there are no logits.
pub fn argmax(logits: &[f32]) -> u32 {
    assert!(!logits.is_empty(), "argmax: there is no logit");
    let largest = largest(logits);
    logits.iter().position(|&logit| logit == largest).unwrap_or(0) as u32
}

/// Draws a token from the softmax of the logits.
///
/// # Panics
/// When there are no logits.
pub fn draw(logits: &[f32], rng: &mut impl Rng) -> u32 {
    let max = largest(logits);
    let possible = (0..).zip(logits).filter(|(_, logit)| **logit > f32::NEG_INFINITY);
    let weights: Vec<(u32, f64)> = possible.map(|(id, logit)| (id, f64::from(logit - max).exp())).collect();
    let mut left = unit(rng) * weights.iter().map(|(_, weight)| weight).sum::<f64>();
    for &(id, weight) in &weights {
        left -= weight;
        if left < 0.0 {
            return id;
        }
    }
    // Rounding can leave a small remainder after the last token.
    argmax(logits)
}

fn largest(logits: &[f32]) -> f32 {
    logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// The order of tokens: from probable to improbable, then by id. A smaller rank comes first.
type Rank = u64;

fn rank(logit: f32, id: u32) -> Rank {
    // Integers in the order of `f32::total_cmp`, reversed.
    let bits = logit.to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(!ascending) << 32 | u64::from(id)
}

/// Excludes all tokens whose rank is after the given one.
fn keep_up_to(logits: &mut [f32], last: Rank) {
    for (id, logit) in (0..).zip(logits) {
        if rank(*logit, id) > last {
            *logit = f32::NEG_INFINITY;
        }
    }
}

/// Uniform in `[0, 1)`, from the upper 53 bits of a random word.
fn unit(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn softmax(logits: &[f32]) -> Vec<f64> {
        let max = largest(logits);
        let weights: Vec<f64> = logits.iter().map(|logit| f64::from(logit - max).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / total).collect()
    }

    fn kept(logits: &[f32]) -> Vec<usize> {
        (0..logits.len()).filter(|&id| logits[id] > f32::NEG_INFINITY).collect()
    }

    #[track_caller]
    fn check_kept(logits: &[f32], keep: impl Fn(&mut [f32]), expected: &[usize]) {
        let mut filtered = logits.to_vec();
        keep(&mut filtered);
        assert_eq!(kept(&filtered), expected, "{logits:?}");
    }

    #[test]
    fn penalty_is_that_of_transformers() {
        // RepetitionPenaltyLogitsProcessor(1.2)(ids [0, 1, 1, 3], scores [2, -2, 1, 0, 5]).
        let mut logits = [2.0, -2.0, 1.0, 0.0, 5.0];
        apply_repetition_penalty(&mut logits, &[0, 1, 1, 3, 900], 1.2);
        assert_eq!(logits, [2.0 / 1.2, -2.0 * 1.2, 1.0, 0.0, 5.0]);
    }

    #[test]
    fn filters_keep_what_they_should() {
        // Probabilities 0.5, 0.25, 0.125, 0.125.
        let halves = [0.5f32.ln(), 0.25f32.ln(), 0.125f32.ln(), 0.125f32.ln()];
        check_kept(&halves, |logits| keep_top_k(logits, 2), &[0, 1]);
        check_kept(&halves, |logits| keep_top_k(logits, 3), &[0, 1, 2]);
        check_kept(&halves, |logits| keep_top_k(logits, 9), &[0, 1, 2, 3]);
        check_kept(&halves, |logits| keep_top_p(logits, 0.01), &[0]);
        check_kept(&halves, |logits| keep_top_p(logits, 0.49), &[0]);
        check_kept(&halves, |logits| keep_top_p(logits, 0.6), &[0, 1]);
        check_kept(&halves, |logits| keep_top_p(logits, 0.8), &[0, 1, 2]);
        check_kept(&halves, |logits| keep_top_p(logits, 1.0), &[0, 1, 2, 3]);
        check_kept(&halves, |logits| keep_min_p(logits, 0.3), &[0, 1]);
        check_kept(&halves, |logits| keep_min_p(logits, 0.0), &[0, 1, 2, 3]);
        check_kept(&halves, |logits| keep_min_p(logits, 1.0), &[0]);
        check_kept(&[1.0, 3.0, 3.0, 3.0], |logits| keep_top_k(logits, 2), &[1, 2]);
    }

    #[test]
    fn the_smallest_temperature_is_greedy_and_finite() {
        let mut logits = [1.0, f32::MAX, f32::MIN, f32::MAX];
        apply_temperature(&mut logits, f32::MIN_POSITIVE);
        assert_eq!(logits, [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0]);
    }

    /// Pearson's statistic of 20,000 draws stays under the 0.999 quantile of its distribution (7 degrees: 24.32).
    #[test]
    fn draws_follow_the_softmax() {
        let logits = [0.3, -1.2, 2.0, 0.0, 1.1, -0.4, 0.9, 1.7];
        let temperature = 1.3;
        let config = SamplingConfig { temperature, seed: 20, ..SamplingConfig::default() };
        let mut sampler = Sampler::new(&config, 0);
        let mut counts = [0.0; 8];
        for _ in 0..20_000 {
            counts[sampler.next(&mut logits.clone(), &[]) as usize] += 1.0;
        }
        let expected = softmax(&logits.map(|logit| logit / temperature)).into_iter().map(|p| p * 20_000.0);
        let statistic: f64 =
            counts.iter().zip(expected).map(|(count, mean)| (count - mean) * (count - mean) / mean).sum();
        assert!(statistic < 24.32, "{statistic}");
    }

    #[test]
    fn sequences_draw_from_streams_of_their_own() {
        let config = SamplingConfig { temperature: 1.0, seed: 5, ..SamplingConfig::default() };
        let stream = |config: &SamplingConfig, sequence| {
            let mut sampler = Sampler::new(config, sequence);
            (0..32).map(|_| sampler.next(&mut [0.0; 100], &[])).collect::<Vec<_>>()
        };
        assert_eq!(stream(&config, 3), stream(&SamplingConfig { stream: 3, ..config.clone() }, 0));
        let mut seen = std::collections::HashSet::new();
        for seed in 0..8 {
            for sequence in 0..8 {
                let drawn = stream(&SamplingConfig { seed, ..config.clone() }, sequence);
                assert!(seen.insert(drawn), "seed {seed}, sequence {sequence}");
            }
        }
    }

    /// The tokens that top-p keeps, computed with a full sort of the vocabulary.
    fn sorted_top_p(logits: &[f32], p: f32) -> Vec<usize> {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        // A stable sort: among equal logits, lower ids stay first.
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let probabilities = softmax(logits);
        let total: f64 = order.iter().map(|&id| probabilities[id]).sum();
        let mut above = 0.0;
        let needed = |id: &usize| {
            let needed = above < f64::from(p) * total;
            above += probabilities[*id];
            needed && logits[*id] > f32::NEG_INFINITY
        };
        let mut kept: Vec<usize> = order.into_iter().take_while(needed).collect();
        kept.sort_unstable();
        kept
    }

    proptest! {
        /// Many tokens with few distinct probabilities, some excluded: the limit `p` is reached among equal tokens.
        #[test]
        fn top_p_keeps_what_a_sort_keeps_among_equals(halvings in vec(0u8..5, 1..200), eighths in 1u8..8, out in any::<u64>()) {
            let logit = |(at, halvings): (usize, &u8)| match out >> (at % 64) & 3 {
                0 if at > 0 => f32::NEG_INFINITY,
                _ => -f32::from(*halvings) * std::f32::consts::LN_2,
            };
            let logits: Vec<f32> = halvings.iter().enumerate().map(logit).collect();
            // Between two possible sums: at a sum itself, rounding decides.
            let p = f32::from(eighths) / 8.0 + 1e-5;
            check_kept(&logits, |logits| keep_top_p(logits, p), &sorted_top_p(&logits, p));
        }

        /// Peaked and flat distributions; some are as large as real vocabularies.
        #[test]
        fn top_p_keeps_what_a_sort_keeps(logits in vec(-9f32..9.0, 1..3000), p in 0.001f32..1.0, scale in 0.01f32..9.0) {
            let logits: Vec<f32> = logits.into_iter().map(|logit| logit * scale).collect();
            check_kept(&logits, |logits| keep_top_p(logits, p), &sorted_top_p(&logits, p));
        }

        #[test]
        fn top_k_of_one_is_greedy(logits in vec(-3i8..3, 1..40), seed in any::<u64>()) {
            let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
            let greedy = Sampler::new(&SamplingConfig::default(), 0).next(&mut logits.clone(), &[]);
            let config = SamplingConfig { temperature: 0.7, top_k: Some(1), seed, ..SamplingConfig::default() };
            prop_assert_eq!(Sampler::new(&config, 0).next(&mut logits.clone(), &[]), greedy);
            prop_assert_eq!(logits.iter().position(|logit| *logit == largest(&logits)), Some(greedy as usize));
        }

        #[test]
        fn top_p_keeps_its_mass_and_no_token_more(logits in vec(-9f32..9.0, 1..40), p in 0.01f32..1.0) {
            let mut filtered = logits.clone();
            keep_top_p(&mut filtered, p);
            let probabilities = softmax(&logits);
            let kept = kept(&filtered);
            let mass: f64 = kept.iter().map(|&id| probabilities[id]).sum();
            let least = kept.iter().map(|&id| probabilities[id]).fold(1.0, f64::min);
            prop_assert!(mass >= f64::from(p) - 1e-9);
            prop_assert!(mass - least < f64::from(p) + 1e-9);
            let ruled_out = (0..logits.len()).filter(|id| !kept.contains(id));
            prop_assert!(ruled_out.into_iter().all(|id| probabilities[id] <= least));
        }

        #[test]
        fn min_p_compares_with_the_most_probable(logits in vec(-9f32..9.0, 1..40), p in 0.0f32..=1.0) {
            let mut filtered = logits.clone();
            keep_min_p(&mut filtered, p);
            let probabilities = softmax(&logits);
            let most = probabilities.iter().copied().fold(0.0, f64::max);
            for (id, probability) in probabilities.iter().enumerate() {
                let ratio = probability / most;
                // Exactly at the limit, rounding decides.
                if (ratio - f64::from(p)).abs() > 1e-6 {
                    prop_assert_eq!(filtered[id] > f32::NEG_INFINITY, ratio > f64::from(p));
                }
            }
        }

        #[test]
        fn what_is_ruled_out_is_never_drawn(logits in vec(-9f32..9.0, 1..40), k in 1..40usize, seed in any::<u64>()) {
            let mut filtered = logits.clone();
            keep_top_k(&mut filtered, k);
            prop_assert_eq!(kept(&filtered).len(), k.min(logits.len()));
            let drawn = draw(&filtered, &mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert!(filtered[drawn as usize] > f32::NEG_INFINITY);
        }
    }
}
