//! Near-duplicate records.

mod against;

use serde::Deserialize;

pub use against::NearOthers;

use super::settings::{few, positive, share};
use super::{Finding, Key, SetPass, Sketch};
use crate::meaning::{label, pivots};
use crate::said::{calls_form, tools_form};
use crate::similar::{Part, Unit, combined, hash_bytes, jaccard, minima, record_shingles};
use foehn_record::{Record, Role};

/// Rejects a record that is nearly the same as an earlier record that is kept.
///
/// Two records are near-duplicates if the Jaccard index of their shingles is at least [`threshold`](Self::threshold).
/// Candidates are found by MinHash with banding (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", section
/// 3.4): two records are candidates if all values of at least one band are equal. Then the exact index is computed for
/// each candidate, so no record is rejected by chance. A pair at the threshold becomes a candidate with the probability
/// [`recall`](Self::recall), a more similar pair with a higher one.
///
/// Two records that differ in a number, a symbol or a negation, or in a short answer, have different meanings, however
/// similar they look. Both are kept.
///
/// The pass remembers 8 bytes per band of each record (17 bands by default), and only for candidates 8 bytes per
/// shingle, of at most 65,536 shingles. For records with more shingles the index is an estimate with a standard error
/// below 0.002.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NearDuplicates {
    /// The smallest Jaccard index of near-duplicates, above 0 and at most 1.
    #[serde(deserialize_with = "share")]
    pub threshold: f64,
    /// The part of the conversation that is compared.
    pub part: Part,
    /// The unit of a shingle.
    pub unit: Unit,
    /// The number of units in a shingle.
    #[serde(deserialize_with = "positive")]
    pub size: usize,
    /// The largest number of MinHash values per record, up to 65,536. With more values, bands are longer and there are
    /// fewer candidates to verify.
    #[serde(deserialize_with = "few")]
    pub hashes: usize,
    /// The smallest probability with which a pair at the threshold is found.
    #[serde(deserialize_with = "share")]
    pub recall: f64,
}

impl Default for NearDuplicates {
    /// A threshold of 0.8 over shingles of 5 characters of prompt and answer; 128 values, and a recall of 0.98.
    fn default() -> Self {
        Self { threshold: 0.8, part: Part::Both, unit: Unit::Chars, size: 5, hashes: 128, recall: 0.98 }
    }
}

/// The largest number of earlier records with which a record is compared: those that share the most bands. This limit
/// matters only for a set in which more records are similar without being near-duplicates, such as one question about
/// 10,000 names.
const MAX_COMPARED: usize = 512;

/// The largest number of words of an answer that must be equal as a whole. In a longer answer, one word may differ.
const SHORT_ANSWER: usize = 8;

impl NearDuplicates {
    /// A hash of the parts that must be equal in near-duplicates: tools, calls, numbers, symbols, negations, and short
    /// answers.
    fn pivot(&self, record: &Record) -> u64 {
        let messages = record.messages.iter().filter(|message| self.part.holds(message.role));
        let tools = tools_form(record).map(|tools| hash_bytes(tools.as_bytes(), 6));
        combined(tools.into_iter().chain(messages.flat_map(|message| {
            let is_answer = message.role == Role::Assistant;
            if let Some(calls) = calls_form(message) {
                vec![3, hash_bytes(calls.as_bytes(), 7)]
            } else if is_answer && message.content.split_whitespace().count() <= SHORT_ANSWER {
                vec![2, hash_bytes(label(&message.content).as_bytes(), 5)]
            } else {
                [u64::from(is_answer)].into_iter().chain(pivots(&message.content)).collect()
            }
        })))
    }

    /// The number of bands, and of values per band: the longest bands with which a pair at the threshold is found with
    /// the required probability, `1 - (1 - threshold^rows)^bands ≥ recall`.
    pub fn bands(&self) -> (usize, usize) {
        let threshold = self.threshold.clamp(0.01, 0.999_999);
        let missed = 1.0 - self.recall.clamp(0.01, 0.999_999);
        let hashes = self.hashes.max(1);
        // `ln_1p`, because for long bands the power is lost when it is added to 1.
        let bands = |rows: usize| (missed.ln() / (-threshold.powi(rows as i32)).ln_1p()).ceil().max(1.0);
        let longest = (1..=hashes.min(256)).rev().find(|rows| bands(*rows) * *rows as f64 <= hashes as f64);
        longest.map_or((hashes, 1), |rows| (bands(rows) as usize, rows))
    }

    /// The findings among the sketches after the first `fixed`. The first `fixed` belong to records of other files:
    /// they are always kept. A finding names the index of the similar sketch.
    fn near_pairs(&self, sketches: &[Sketch<'_>], fixed: usize) -> Vec<(usize, usize, f64)> {
        let buckets = Buckets::new(sketches);
        // Each bucket has room for all its sketches, one bucket after the other.
        let (mut kept, mut filled) = (vec![0u32; buckets.total()], vec![0u32; buckets.count()]);
        let mut pairs = Vec::new();
        for (at, sketch) in sketches.iter().enumerate() {
            let near = (at >= fixed).then(|| {
                candidates(buckets.of(at).map(|bucket| {
                    let start = buckets.starts[bucket];
                    &kept[start..start + filled[bucket] as usize]
                }))
            });
            let near = near.into_iter().flatten().find_map(|other| {
                let index = self.index(sketch.evidence, sketches[other as usize].evidence)?;
                Some((other as usize, index))
            });
            match near {
                Some((other, index)) => pairs.push((at, other, index)),
                None => buckets.of(at).for_each(|bucket| {
                    kept[buckets.starts[bucket] + filled[bucket] as usize] = at as u32;
                    filled[bucket] += 1;
                }),
            }
        }
        pairs
    }

    /// The Jaccard index of two records, computed from their evidence, if they are near-duplicates.
    fn index(&self, evidence: &[u64], other: &[u64]) -> Option<f64> {
        let ([pivot, shingles @ ..], [other_pivot, others @ ..]) = (evidence, other) else { return None };
        // The sizes alone give an upper bound of the index.
        let (short, long) = (shingles.len().min(others.len()) as f64, shingles.len().max(others.len()) as f64);
        if pivot != other_pivot || short < self.threshold * long {
            return None;
        }
        Some(jaccard(shingles, others)).filter(|index| *index >= self.threshold)
    }

    /// The shingles of a record, sorted.
    pub(crate) fn shingles(&self, record: &Record) -> Vec<u64> {
        record_shingles(record, self.part, self.unit, self.size)
    }
}

impl SetPass for NearDuplicates {
    fn name(&self) -> &'static str {
        "near-duplicate"
    }

    /// A hash of each band.
    fn sketch(&self, record: &Record) -> Vec<u64> {
        let shingles = self.shingles(record);
        if shingles.is_empty() {
            return Vec::new();
        }
        let (bands, rows) = self.bands();
        let minima = minima(&shingles, bands * rows);
        minima.chunks_exact(rows).map(|band| combined(band.iter().map(|value| u64::from(*value)))).collect()
    }

    fn keys(&self, words: &[u64]) -> Option<Vec<Key>> {
        Some(band_keys(words).map(|hash| Key { hash, seeks: true }).collect())
    }

    fn suspects(&self, sketches: &[Sketch<'_>]) -> Vec<usize> {
        let buckets = Buckets::new(sketches);
        let suspects = sketches.iter().enumerate().filter(|(at, _)| buckets.of(*at).next().is_some());
        suspects.map(|(_, sketch)| sketch.index).collect()
    }

    /// The hash of the parts that must be equal, then the shingles.
    fn evidence(&self, record: &Record) -> Vec<u64> {
        [self.pivot(record)].into_iter().chain(self.shingles(record)).collect()
    }

    fn judge(&self, sketches: &[Sketch<'_>]) -> Vec<Finding> {
        let pairs = self.near_pairs(sketches, 0).into_iter();
        pairs
            .map(|(at, other, index)| Finding {
                index: sketches[at].index,
                others: vec![sketches[other].index],
                reason: format!("nearly the same as another record (Jaccard {index:.2})"),
            })
            .collect()
    }
}

/// The hash of each band with its number.
fn band_keys(words: &[u64]) -> impl Iterator<Item = u64> {
    words.iter().zip(0..).map(|(word, band)| combined([band, *word]))
}

/// The records to compare with, in order of their index: all, or those that share the most bands.
fn candidates<'a>(buckets: impl Iterator<Item = &'a [u32]>) -> Vec<u32> {
    let mut all: Vec<u32> = buckets.flatten().copied().collect();
    all.sort_unstable();
    let mut counted: Vec<(usize, u32)> = all.chunk_by(|a, b| a == b).map(|same| (same.len(), same[0])).collect();
    if counted.len() > MAX_COMPARED {
        counted.sort_unstable_by_key(|(shared, at)| (std::cmp::Reverse(*shared), *at));
        counted.truncate(MAX_COMPARED);
        counted.sort_unstable_by_key(|(_, at)| *at);
    }
    counted.into_iter().map(|(_, at)| at).collect()
}

/// For each sketch and band, the bucket that it shares with others.
struct Buckets {
    bands: usize,
    /// `[sketch][band]`; [`ALONE`] if it shares none.
    buckets: Vec<u32>,
    /// For each bucket, the number of sketches in those before it; then the number of all.
    starts: Vec<usize>,
}

const ALONE: u32 = u32::MAX;

impl Buckets {
    fn new(sketches: &[Sketch<'_>]) -> Self {
        let bands = sketches.iter().map(|sketch| sketch.words.len()).max().unwrap_or(0);
        let mut buckets = vec![ALONE; bands * sketches.len()];
        let mut starts = vec![0];
        let mut total = 0;
        let mut band_of: Vec<(u64, u32)> = Vec::with_capacity(sketches.len());
        for band in 0..bands {
            band_of.clear();
            let words = sketches.iter().zip(0..).filter_map(|(sketch, at)| Some((*sketch.words.get(band)?, at)));
            band_of.extend(words);
            band_of.sort_unstable();
            for bucket in band_of.chunk_by(|a, b| a.0 == b.0).filter(|bucket| bucket.len() > 1) {
                for (_, at) in bucket {
                    buckets[*at as usize * bands + band] = starts.len() as u32 - 1;
                }
                total += bucket.len();
                starts.push(total);
            }
        }
        Self { bands, buckets, starts }
    }

    fn count(&self) -> usize {
        self.starts.len() - 1
    }

    /// The number of sketches in all buckets.
    fn total(&self) -> usize {
        self.starts.last().copied().unwrap_or_default()
    }

    fn of(&self, at: usize) -> impl Iterator<Item = usize> + use<'_> {
        let bands = &self.buckets[at * self.bands..(at + 1) * self.bands];
        bands.iter().filter(|bucket| **bucket != ALONE).map(|bucket| *bucket as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(prompt: &str, answer: &str) -> Record {
        Record::pair(prompt, answer)
    }

    #[track_caller]
    fn check(pass: &NearDuplicates, records: &[Record], expected: &[(usize, usize)]) {
        let sketches: Vec<_> = records.iter().map(|record| pass.sketch(record)).collect();
        let sketch = |(index, words)| Sketch { index, words, evidence: &[] };
        let mut sketches: Vec<_> = sketches.iter().map(Vec::as_slice).enumerate().map(sketch).collect();
        let suspects = pass.suspects(&sketches);
        let evidence: Vec<_> = records.iter().map(|record| pass.evidence(record)).collect();
        for index in suspects {
            sketches[index].evidence = &evidence[index];
        }
        let found: Vec<_> = pass.judge(&sketches).iter().map(|f| (f.index, f.others[0])).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn hashes_have_bounds() {
        for bad in ["hashes = 0", "hashes = 65537", "hashes = 9000000000000000000"] {
            let said = toml::from_str::<NearDuplicates>(bad).unwrap_err().to_string();
            assert!(said.contains("expected 1 to 65536"), "{said}");
        }
        assert_eq!(toml::from_str::<NearDuplicates>("hashes = 65536").unwrap().hashes, 65_536);
    }

    #[test]
    fn the_first_of_the_nearly_same_stays() {
        let answer = "A pale light lies over the harbour, and the masts stand black against it; nothing moves.";
        let records = [
            record("Describe a harbour.", answer),
            record("Describe a harbour.", "Gulls cry, and a chain rattles along the quay."),
            record("Describe a harbour!", &answer.replace("black", "dark")),
            record("Describe a harbour.", &answer.to_uppercase()),
            record("Tell me of the port at night, if you please.", answer),
            record("", ""),
            record("", ""),
        ];
        check(&NearDuplicates::default(), &records, &[(2, 0), (3, 0)]);
        let answers = NearDuplicates { part: Part::Answer, ..NearDuplicates::default() };
        check(&answers, &records, &[(2, 0), (3, 0), (4, 0)]);
        let prompts = NearDuplicates { part: Part::Prompt, ..NearDuplicates::default() };
        check(&prompts, &records, &[(1, 0), (2, 0), (3, 0)]);
        let words = NearDuplicates {
            unit: Unit::Words,
            size: 3,
            threshold: 0.5,
            part: Part::Answer,
            ..NearDuplicates::default()
        };
        check(&words, &records, &[(2, 0), (3, 0), (4, 0)]);
    }

    #[test]
    fn what_differs_in_a_number_a_symbol_a_negation_or_a_short_answer_stays() {
        let prompt = "Please say in a few words what one should know of the long road over the pass in winter";
        let answer = "The road over the pass is open for 3 months, and it is safe to drive with chains (not without).";
        let pass = NearDuplicates::default();
        for other in [
            answer.replace('3', "4"),
            answer.replace("is safe", "is not safe"),
            answer.replace("(not without)", "not (without)"),
            answer.replace(" and ", " + "),
        ] {
            let records = [record(prompt, answer), record(prompt, &other)];
            assert!(jaccard(&pass.shingles(&records[0]), &pass.shingles(&records[1])) >= pass.threshold, "{other}");
            check(&pass, &records, &[]);
        }
        check(&pass, &[record(prompt, "It is steep."), record(prompt, "It is flat.")], &[]);
        check(&pass, &[record(prompt, answer), record(prompt, &answer.replace("drive", "ride"))], &[(1, 0)]);
        check(
            &pass,
            &[record(prompt, "It is steep."), record(&prompt.replace("few", "couple of"), "it is steep")],
            &[(1, 0)],
        );
    }

    #[test]
    fn bands_are_those_of_the_book() {
        // "Mining of Massive Datasets", section 3.4.2: 20 bands of 5 values find a pair at 0.8 with 0.9996.
        assert!((1.0 - (1.0 - 0.8f64.powi(5)).powi(20) - 0.9996).abs() < 1e-4);
        assert_eq!(NearDuplicates::default().bands(), (17, 7));
        assert_eq!(NearDuplicates { threshold: 0.7, ..NearDuplicates::default() }.bands(), (22, 5));
        assert_eq!(NearDuplicates { threshold: 1.0, ..NearDuplicates::default() }.bands(), (1, 128));
    }

    proptest! {
        #[test]
        fn generated_pairs_are_near_unless_a_number_a_sign_or_a_negation_differs(
            words in prop::collection::vec("[a-z]{4,9}", 60..90),
            at in 5usize..50,
            one in 2u32..100,
            more in 1u32..900,
            word in "[a-z]{4,9}",
        ) {
            let answer = |number: String, between: &str| {
                let (left, right) = words.split_at(at);
                format!("It took {number} days, {} {between} {}.", left.join(" "), right.join(" "))
            };
            let prompt = "Please say in a few words what one should know of it";
            let pair = |other: String| [record(prompt, &answer(one.to_string(), "while")), record(prompt, &other)];
            let pass = NearDuplicates { threshold: 0.7, ..NearDuplicates::default() };
            check(&pass, &pair(answer(one.to_string(), &word)), &[(1, 0)]);
            check(&pass, &pair(answer((one + more).to_string(), "while")), &[]);
            for sign in ["not", "never", "+", "without", "≠", "(while)"] {
                check(&pass, &pair(answer(one.to_string(), sign)), &[]);
            }
        }

        #[test]
        fn a_pair_at_the_threshold_is_found_as_often_as_asked(threshold in 0.3..1.0, recall in 0.5..0.999, hashes in 32usize..512) {
            let pass = NearDuplicates { threshold, recall, hashes, ..NearDuplicates::default() };
            let (bands, rows) = pass.bands();
            prop_assert!(bands * rows <= hashes);
            prop_assert!(1.0 - (1.0 - threshold.powi(rows as i32)).powi(bands as i32) >= recall - 1e-6);
        }
    }
}
