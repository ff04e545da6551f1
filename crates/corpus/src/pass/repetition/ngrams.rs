//! The n-grams of a text, for one size after the other.

/// The n-grams of one size as numbers; equal n-grams have equal numbers. N-grams of the next size are pairs of these
/// numbers, so words are compared only once.
pub(super) struct Ngrams<'a> {
    words: &'a [&'a str],
    size: usize,
    /// The rank of the n-gram at each position; smaller than the number of words.
    ranks: Vec<usize>,
    all_differ: bool,
    word_ranks: Vec<usize>,
}

impl<'a> Ngrams<'a> {
    /// The words themselves, as 1-grams.
    pub fn new(words: &'a [&'a str]) -> Self {
        let word_ranks = ranks(words);
        Self { words, size: 1, ranks: word_ranks.clone(), all_differ: false, word_ranks }
    }

    /// Computes the n-grams that are one word longer.
    pub fn grow(&mut self) -> &Self {
        let last = self.word_ranks.get(self.size..).unwrap_or_default();
        self.size += 1;
        if self.all_differ {
            // All longer n-grams are then different too, in the same order.
            self.ranks.truncate(last.len());
        } else {
            self.ranks = ranks(&self.ranks.iter().zip(last).collect::<Vec<_>>());
            self.all_differ = self.ranks.iter().max().is_none_or(|highest| highest + 1 == self.ranks.len());
        }
        self
    }

    /// The most frequent n-gram and its number of occurrences; among equally frequent ones, the one with the most
    /// characters.
    pub fn top(&self) -> Option<(&'a [&'a str], usize)> {
        let mut counts = vec![0; self.words.len()];
        self.ranks.iter().for_each(|&rank| counts[rank] += 1);
        let most = counts.iter().copied().max()?;
        let tied = self.ranks.iter().enumerate().filter(|&(_, &rank)| counts[rank] == most);
        let (at, _) = tied.max_by_key(|&(at, &rank)| (chars(self.at(at)), rank))?;
        Some((self.at(at), most))
    }

    /// The number of characters of the words in repeated n-grams; a word in several of them counts once.
    pub fn repeated_chars(&self) -> usize {
        let mut seen = vec![false; self.words.len()];
        let (mut repeated, mut end) = (0, 0);
        for (at, &rank) in self.ranks.iter().enumerate() {
            if std::mem::replace(&mut seen[rank], true) {
                repeated += chars(&self.words[at.max(end)..at + self.size]);
                end = at + self.size;
            }
        }
        repeated
    }

    fn at(&self, place: usize) -> &'a [&'a str] {
        &self.words[place..place + self.size]
    }
}

/// The number of characters of some words.
pub(super) fn chars(words: &[&str]) -> usize {
    words.iter().map(|word| word.chars().count()).sum()
}

/// The rank of each key among the distinct keys, in sorted order.
fn ranks<K: Ord>(keys: &[K]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..keys.len()).collect();
    places.sort_unstable_by_key(|&place| &keys[place]);
    let mut ranks = vec![0; keys.len()];
    for pair in places.windows(2) {
        ranks[pair[1]] = ranks[pair[0]] + usize::from(keys[pair[0]] != keys[pair[1]]);
    }
    ranks
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// For every size, compares with the definitions.
        #[test]
        fn figures_are_those_of_the_definitions(words in proptest::collection::vec("[ab]{1,2}", 0..40)) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut ngrams = Ngrams::new(&words);
            for size in 2..=10 {
                ngrams.grow();
                let mut counts: BTreeMap<&[&str], usize> = BTreeMap::new();
                words.windows(size).for_each(|ngram| *counts.entry(ngram).or_default() += 1);
                let top = counts.into_iter().max_by_key(|(ngram, count)| (*count, chars(ngram)));
                prop_assert_eq!(ngrams.top(), top);

                let mut seen = BTreeSet::new();
                let again = words.windows(size).enumerate().filter(|(_, ngram)| !seen.insert(*ngram));
                let places: BTreeSet<usize> = again.flat_map(|(at, _)| at..at + size).collect();
                let expected: usize = places.into_iter().map(|at| words[at].chars().count()).sum();
                prop_assert_eq!(ngrams.repeated_chars(), expected);
            }
        }
    }
}
