//! Similarity of texts: shingles, the Jaccard index of two sets of them, MinHash, and an exact index of similar sets.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Serialize};

use crate::text::normalised;
use foehn_record::{Record, Role};

/// The unit of a shingle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Characters of the normalised text, including spaces. For short texts, and for scripts without spaces.
    #[default]
    Chars,
    /// Words of the normalised text. There are fewer of them, so this is faster on long texts.
    Words,
}

/// The part of a conversation that is examined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The messages of the user and of tools.
    Prompt,
    /// The assistant's messages.
    Answer,
    /// The messages of both. System messages are not compared: different records have the same one.
    #[default]
    Both,
}

impl Part {
    /// Whether messages with this role belong to the part.
    pub fn holds(self, role: Role) -> bool {
        match role {
            Role::System => false,
            Role::User | Role::Tool => self != Self::Answer,
            Role::Assistant => self != Self::Prompt,
        }
    }
}

/// The largest number of shingles of a set: 512 KiB. A larger set is represented by its smallest hashes, so that the
/// Jaccard index is an estimate with a standard error below 0.002 (bottom-k; Broder 1997).
pub(crate) const MAX_SHINGLES: usize = 1 << 16;

/// A map whose keys are already hashes.
pub(crate) type HashedMap<V> = HashMap<u64, V, BuildHasherDefault<Hashed>>;

/// A hasher for keys that are already hashes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash_bytes(bytes, self.0);
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

/// The sorted shingles of a part of a record. Those of the user's texts are distinct from those of the
/// assistant's, of its reasoning, and of tools.
pub(crate) fn record_shingles(record: &Record, part: Part, unit: Unit, size: usize) -> Vec<u64> {
    let mut found = Vec::new();
    for message in record.messages.iter().filter(|message| part.holds(message.role)) {
        let seed = match message.role {
            Role::User => 1,
            Role::Tool => 3,
            Role::Assistant | Role::System => 2,
        };
        push_shingles(&message.content, unit, size, seed, &mut found);
        if let Some(reasoning) = &message.reasoning_content {
            push_shingles(reasoning, unit, size, 4, &mut found);
        }
    }
    as_set(found)
}

/// The sorted shingles of a text.
pub(crate) fn text_shingles(text: &str, unit: Unit, size: usize) -> Vec<u64> {
    let mut found = Vec::new();
    push_shingles(text, unit, size, 0, &mut found);
    as_set(found)
}

/// The Jaccard index of two sorted sets, in `[0, 1]`; 0 for two empty sets.
pub(crate) fn jaccard(left: &[u64], right: &[u64]) -> f64 {
    let limit = if left.len().max(right.len()) < MAX_SHINGLES { usize::MAX } else { MAX_SHINGLES };
    let (mut a, mut b, mut common, mut union) = (0, 0, 0usize, 0usize);
    while let (Some(x), Some(y)) = (left.get(a), right.get(b))
        && union < limit
    {
        a += usize::from(x <= y);
        b += usize::from(y <= x);
        common += usize::from(x == y);
        union += 1;
    }
    union = (union + left.len() - a + right.len() - b).min(limit);
    if union == 0 { 0.0 } else { common as f64 / union as f64 }
}

/// The smallest values of `count` permutations of the hashes (Broder 1997). Each permutation is a multiplication and an
/// addition modulo 2^32.
pub(crate) fn minima(hashes: &[u64], count: usize) -> Vec<u32> {
    const LANES: usize = 16;
    let mut minima = Vec::with_capacity(count.next_multiple_of(LANES));
    for block in 0..count.div_ceil(LANES) {
        let random: [u64; LANES] = std::array::from_fn(|lane| mixed((block * LANES + lane) as u64 + 1));
        let factors = random.map(|word| word as u32 | 1);
        let terms = random.map(|word| (word >> 32) as u32);
        let mut least = [u32::MAX; LANES];
        for hash in hashes {
            let word = (hash >> 32) as u32;
            for lane in 0..LANES {
                least[lane] = least[lane].min(word.wrapping_mul(factors[lane]).wrapping_add(terms[lane]));
            }
        }
        minima.extend(least);
    }
    minima.truncate(count);
    minima
}

/// A hash of a list of hashes; it depends on their order.
pub(crate) fn combined(words: impl IntoIterator<Item = u64>) -> u64 {
    mixed(words.into_iter().fold(0, |state, word| (state ^ word).wrapping_mul(FACTOR).rotate_left(29)))
}

/// A hash of bytes.
pub(crate) fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let step = |state: u64, word: u64| (state ^ word).wrapping_mul(FACTOR).rotate_left(29);
    let state = chunks.iter().fold(seed ^ bytes.len() as u64, |state, chunk| step(state, u64::from_le_bytes(*chunk)));
    mixed(step(state, rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))))
}

/// An index of sets. For a given set it returns every indexed set with a Jaccard index of at least a threshold, and
/// some others.
///
/// If a set has `n` members, a set that is near it shares at least `⌈threshold·n⌉` of them. So it has at least one of
/// any `n - ⌈threshold·n⌉ + 1` members; the rarest ones are indexed (the prefix filter; Chaudhuri, Ganti and Kaushik
/// 2006).
#[derive(Debug)]
pub(crate) struct PrefixIndex {
    sets: HashedMap<Vec<u32>>,
}

impl PrefixIndex {
    pub(crate) fn new(sets: &[Vec<u64>], threshold: f64) -> Self {
        let mut counts: HashedMap<u32> = HashedMap::default();
        for hash in sets.iter().flatten() {
            *counts.entry(*hash).or_default() += 1;
        }
        let mut index: HashedMap<Vec<u32>> = HashedMap::default();
        for (at, set) in sets.iter().enumerate() {
            let mut rarest: Vec<(u32, u64)> = set.iter().map(|hash| (counts[hash], *hash)).collect();
            rarest.sort_unstable();
            // A rounding error must not make the prefix shorter.
            let shared = (threshold * set.len() as f64 - 1e-9).ceil().max(1.0) as usize;
            for (_, hash) in rarest.into_iter().take((set.len() + 1).saturating_sub(shared)) {
                index.entry(hash).or_default().push(at as u32);
            }
        }
        Self { sets: index }
    }

    /// The indices of the sets that may be near, in ascending order.
    pub(crate) fn candidates(&self, set: &[u64]) -> Vec<usize> {
        let mut found: Vec<usize> =
            set.iter().filter_map(|hash| self.sets.get(hash)).flatten().map(|at| *at as usize).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

fn push_shingles(text: &str, unit: Unit, size: usize, seed: u64, found: &mut Vec<u64>) {
    let (text, size) = (normalised(text), size.max(1));
    let starts: Vec<usize> = match unit {
        Unit::Chars => text.char_indices().map(|(at, _)| at).chain([text.len()]).collect(),
        // A shingle of words ends after a space or at the end of the text.
        Unit::Words if text.is_empty() => Vec::new(),
        Unit::Words => {
            let gaps = text.bytes().enumerate().filter(|(_, byte)| *byte == b' ').map(|(at, _)| at + 1);
            std::iter::once(0).chain(gaps).chain([text.len() + 1]).collect()
        }
    };
    let bytes = text.as_bytes();
    let end = |at: usize| if unit == Unit::Words { at - 1 } else { at };
    if starts.len() <= size {
        if !text.is_empty() {
            found.push(hash_bytes(bytes, seed));
        }
        return;
    }
    found.extend(starts.windows(size + 1).map(|run| hash_bytes(&bytes[run[0]..end(run[size])], seed)));
}

fn as_set(mut hashes: Vec<u64>) -> Vec<u64> {
    hashes.sort_unstable();
    hashes.dedup();
    hashes.truncate(MAX_SHINGLES);
    hashes
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014), applied to a number and its position in the generator's
/// sequence.
fn mixed(word: u64) -> u64 {
    let word = word.wrapping_mul(FACTOR);
    let word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shingles_are_runs_of_the_normal_form() {
        let count = |text: &str, unit, size| text_shingles(text, unit, size).len();
        for (text, unit, size, expected) in [
            ("abcdef", Unit::Chars, 5, 2),
            ("ABC", Unit::Chars, 5, 1),
            ("", Unit::Chars, 5, 0),
            ("naïve é", Unit::Chars, 3, 5),
            ("the cat sat on the cat sat", Unit::Words, 3, 4),
            ("one two", Unit::Words, 3, 1),
            ("one two", Unit::Words, 1, 2),
            ("", Unit::Words, 2, 0),
        ] {
            assert_eq!(count(text, unit, size), expected, "{text}");
        }
        assert_eq!(text_shingles("The cat, sat!", Unit::Words, 2), text_shingles("the cat sat", Unit::Words, 2));
        assert_eq!(text_shingles("a b c", Unit::Words, 2)[..].len(), 2);
    }

    #[test]
    fn equal_minima_are_as_frequent_as_the_jaccard_index() {
        // With 4096 permutations, the standard error is below 0.008.
        for (shared, own) in [(80u64, 10), (50, 25), (20, 40), (400, 50)] {
            let set = |from: u64| as_set((0..shared).chain(from..from + own).map(|n| combined([n, 7])).collect());
            let (left, right) = (set(10_000), set(20_000));
            let exact = shared as f64 / (shared + 2 * own) as f64;
            assert!((jaccard(&left, &right) - exact).abs() < 1e-12);
            let equal = minima(&left, 4096).iter().zip(minima(&right, 4096)).filter(|(a, b)| **a == *b).count();
            assert!((equal as f64 / 4096.0 - exact).abs() < 0.03, "{equal} of 4096, expected {exact}");
        }
    }

    proptest! {
        #[test]
        fn the_jaccard_index_is_that_of_sets(
            left in prop::collection::btree_set(0u64..40, 0..30),
            right in prop::collection::btree_set(0u64..40, 0..30),
        ) {
            let union = left.union(&right).count();
            let expected = if union == 0 { 0.0 } else { left.intersection(&right).count() as f64 / union as f64 };
            let list = |set: &BTreeSet<u64>| set.iter().copied().collect::<Vec<_>>();
            prop_assert_eq!(jaccard(&list(&left), &list(&right)), expected);
        }

        #[test]
        fn the_index_misses_no_pair(
            sets in prop::collection::vec(prop::collection::btree_set(0u64..24, 1..20), 1..20),
            threshold in 0.1..1.0,
        ) {
            let sets: Vec<Vec<u64>> = sets.into_iter().map(|set| set.into_iter().collect()).collect();
            let index = PrefixIndex::new(&sets, threshold);
            for query in &sets {
                let found = index.candidates(query);
                for (at, set) in sets.iter().enumerate() {
                    prop_assert!(jaccard(query, set) < threshold || found.contains(&at));
                }
            }
        }
    }
}
