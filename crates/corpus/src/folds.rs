//! Parts of a set that share no group, to train on all of them but one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use foehn_record::Record;

use crate::pass::NearDuplicates;
use crate::split::Group;
use crate::split_proof::{families, family_names};

/// Records in folds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folds {
    /// The fold of each record, from 0.
    pub of_records: Vec<usize>,
    /// The family of each record: the index of its first record. Records of one family stay together, because they have
    /// the same group or the same prompt, or are near-duplicates.
    pub families: Vec<usize>,
}

/// A family of records, and how many of them have each label.
struct Family {
    members: Vec<usize>,
    labels: BTreeMap<usize, usize>,
    rank: [u64; 2],
}

/// Puts records into `count` folds, each label in about equal shares. Records stay together as in
/// [`split_proven`](crate::split_proven).
///
/// `labels` has the number of each record's label. Families are placed one after the other, the largest first, each in
/// the fold that has the fewest records of its labels. The choice depends on the seed and on the names of the groups, and
/// not on the order of the records.
///
/// # Panics
/// When `count` is 0, or there are not as many labels as records.
pub fn folds(records: &[Record], labels: &[usize], count: usize, seed: u64, near: &NearDuplicates) -> Folds {
    assert!(count > 0, "folds: the number of folds is 0");
    assert_eq!(records.len(), labels.len(), "folds: not one label per record");
    let families = families(records, near);
    let names = family_names(records, &families);
    let mut by_name: BTreeMap<&Group, Family> = BTreeMap::new();
    for (at, name) in names.iter().enumerate() {
        let new = || Family { members: Vec::new(), labels: BTreeMap::new(), rank: name.rank(seed) };
        let family = by_name.entry(name).or_insert_with(new);
        family.members.push(at);
        *family.labels.entry(labels[at]).or_default() += 1;
    }
    let mut placed: Vec<Family> = by_name.into_values().collect();
    placed.sort_by_cached_key(|family| {
        let labels: BTreeSet<usize> = family.labels.keys().copied().collect();
        (Reverse(family.members.len()), labels, family.rank)
    });
    let mut of_records = vec![0; records.len()];
    let mut held: Vec<BTreeMap<usize, usize>> = vec![BTreeMap::new(); count];
    let mut sizes = vec![0; count];
    for family in placed {
        let same = |fold: usize| -> usize {
            family.labels.iter().map(|(label, number)| number * held[fold].get(label).unwrap_or(&0)).sum()
        };
        let fold = (0..count).min_by_key(|fold| (same(*fold), sizes[*fold])).unwrap_or(0);
        sizes[fold] += family.members.len();
        for (label, number) in family.labels {
            *held[fold].entry(label).or_default() += number;
        }
        family.members.into_iter().for_each(|at| of_records[at] = fold);
    }
    Folds { of_records, families }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn record(at: usize, group: Option<u8>, prompt: u8) -> Record {
        // Prompts that share no run of five characters.
        let prompt: String =
            (0..12).map(|place| char::from(b'a' + (prompt.wrapping_mul(37) ^ (place * 5)) % 26)).collect();
        Record {
            id: Some(at.to_string()),
            group: group.map(|group| group.to_string()),
            ..Record::pair(prompt, format!("answer {at}"))
        }
    }

    /// A record of a group of its own, that has nothing in common with the others.
    fn apart(at: usize) -> Record {
        let text: String = std::iter::repeat_n(char::from_u32(0x4e00 + at as u32).expect("a character"), 6).collect();
        Record { group: Some(at.to_string()), ..Record::pair(text.clone(), text) }
    }

    proptest! {
        #[test]
        fn nothing_that_belongs_together_is_in_two_folds(
            drawn in prop::collection::vec((prop::option::of(0u8..12), 0u8..60, 0usize..4), 1..80),
            count in 1usize..6,
            seed: u64,
        ) {
            let records: Vec<Record> =
                drawn.iter().enumerate().map(|(at, (group, prompt, _))| record(at, *group, *prompt)).collect();
            let labels: Vec<usize> = drawn.iter().map(|(.., label)| *label).collect();
            let near = NearDuplicates::default();
            let found = folds(&records, &labels, count, seed, &near);
            prop_assert_eq!(found.of_records.len(), records.len());
            prop_assert!(found.of_records.iter().all(|fold| *fold < count));
            for fold in 0..count {
                let part = |is_in: bool| -> Vec<Record> {
                    let all = records.iter().zip(&found.of_records);
                    all.filter(|(_, of)| (**of == fold) == is_in).map(|(record, _)| record.clone()).collect()
                };
                prop_assert!(crate::prove_split(&part(false), &part(true), &near).is_proven);
            }

            // The folds do not depend on the order of the records.
            let order: Vec<usize> = (0..records.len()).rev().collect();
            let turned: Vec<Record> = order.iter().map(|at| records[*at].clone()).collect();
            let turned_labels: Vec<usize> = order.iter().map(|at| labels[*at]).collect();
            let again = folds(&turned, &turned_labels, count, seed, &near);
            for (place, at) in order.iter().enumerate() {
                prop_assert_eq!(again.of_records[place], found.of_records[*at]);
            }
        }

        #[test]
        fn every_label_is_shared_out_evenly(
            counts in prop::collection::vec(1usize..30, 1..5),
            folds_wanted in 2usize..5,
            seed: u64,
        ) {
            let labels: Vec<usize> =
                counts.iter().enumerate().flat_map(|(label, count)| std::iter::repeat_n(label, *count)).collect();
            let records: Vec<Record> = (0..labels.len()).map(apart).collect();
            let found = folds(&records, &labels, folds_wanted, seed, &NearDuplicates::default());
            let mut held: BTreeMap<(usize, usize), usize> = BTreeMap::new();
            for (label, fold) in labels.iter().zip(&found.of_records) {
                *held.entry((*label, *fold)).or_default() += 1;
            }
            for (label, count) in counts.iter().enumerate() {
                for fold in 0..folds_wanted {
                    let here = held.get(&(label, fold)).copied().unwrap_or(0);
                    prop_assert!(here == count / folds_wanted || here == count.div_ceil(folds_wanted));
                }
            }
        }
    }

    #[test]
    fn another_seed_gives_other_folds() {
        let records: Vec<Record> = (0..60).map(apart).collect();
        let of = |seed| folds(&records, &[0; 60], 2, seed, &NearDuplicates::default()).of_records;
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
