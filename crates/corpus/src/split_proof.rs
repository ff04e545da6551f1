//! A split without leaks, and its proof.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::Result;
use crate::pass::NearDuplicates;
use crate::similar::{PrefixIndex, jaccard};
use crate::split::{Group, split_by};
use crate::text::{hash, normalised};
use foehn_record::{Record, Role};

/// The result of checking a split for leaks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitReport {
    /// The number of training records.
    pub training: u64,
    /// The number of validation records.
    pub validation: u64,
    /// The number of groups of the training records. A record without a group is not counted.
    pub training_groups: u64,
    /// The number of groups of the validation records.
    pub validation_groups: u64,
    /// The smallest Jaccard index of near-duplicates.
    pub threshold: f64,
    /// The number of pairs of a training and a validation record whose Jaccard index was computed. All other pairs are
    /// below the threshold by the bound of the prefix filter, which is exact: no pair is missed by chance.
    pub compared: u64,
    /// The largest Jaccard index of these pairs; 0 if there are none.
    pub nearest: f64,
    /// Whether there is no leak: the three lists are empty.
    pub is_proven: bool,
    /// Groups with records on both sides.
    pub groups: Vec<Crossing>,
    /// Prompts with records on both sides, ignoring case, spacing and punctuation.
    pub prompts: Vec<Crossing>,
    /// Near-duplicates with one record on each side.
    pub near_duplicates: Vec<Crossing>,
}

/// Two records on different sides of a split that have something in common.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Crossing {
    /// What they have in common: the group's name, the prompt, or the Jaccard index.
    pub what: String,
    /// The training record's id, or its number from 1 (`#1`).
    pub training: String,
    /// The validation record's id, or its number from 1.
    pub validation: String,
}

/// The two sides of a split, with the proof that nothing is on both.
#[derive(Clone, Debug, PartialEq)]
pub struct ProvenSplit {
    /// The training records, in their order.
    pub training: Vec<Record>,
    /// The validation records, in their order.
    pub validation: Vec<Record>,
    /// The proof.
    pub report: SplitReport,
}

/// As [`split_stratified`](crate::split_stratified). Records also stay together if they have the same prompt, or are
/// near-duplicates according to `near` (its part, unit, size and threshold). This is transitive. The proof is computed
/// from the two sides.
///
/// Every pair of near-duplicates is found, with an exact index instead of MinHash. It takes 8 bytes for each shingle of
/// each record.
///
/// # Errors
/// As [`split`](crate::split()).
pub fn split_proven(
    records: Vec<Record>,
    fraction: f64,
    seed: u64,
    label: &str,
    near: &NearDuplicates,
) -> Result<ProvenSplit> {
    let groups = family_names(&records, &families(&records, near));
    let label = |record: &Record| record.text(label).unwrap_or_default().to_owned();
    let (training, validation) = split_by(records, groups, fraction, seed, label)?;
    let report = prove_split(&training, &validation, near);
    Ok(ProvenSplit { training, validation, report })
}

/// Looks for records with the same group, the same prompt, or near-duplicates (according to `near`) on both sides of
/// any split.
pub fn prove_split(training: &[Record], validation: &[Record], near: &NearDuplicates) -> SplitReport {
    let crossing = |what: &str, a: usize, b: usize| Crossing {
        what: what.to_owned(),
        training: name(training, a),
        validation: name(validation, b),
    };
    let shared = |key: fn(&Record) -> Option<String>| {
        let first = |side: &[Record]| {
            let mut first: BTreeMap<String, usize> = BTreeMap::new();
            for (at, record) in side.iter().enumerate() {
                key(record).map(|key| *first.entry(key).or_insert(at));
            }
            first
        };
        let (here, there) = (first(training), first(validation));
        let found = here.iter().filter_map(|(key, a)| Some(crossing(key, *a, *there.get(key)?)));
        (found.collect::<Vec<_>>(), here.len() as u64, there.len() as u64)
    };
    let (groups, training_groups, validation_groups) = shared(|record| record.group.clone());
    let (prompts, ..) = shared(prompt);
    let (mut near_duplicates, mut compared, mut nearest) = (Vec::new(), 0, 0f64);
    let sets: Vec<Vec<u64>> = validation.iter().map(|record| near.shingles(record)).collect();
    let index = PrefixIndex::new(&sets, near.threshold);
    for (a, record) in training.iter().enumerate() {
        let shingles = near.shingles(record);
        for b in index.candidates(&shingles) {
            let found = jaccard(&shingles, &sets[b]);
            compared += 1;
            nearest = nearest.max(found);
            if found >= near.threshold {
                near_duplicates.push(crossing(&format!("{found:.3}"), a, b));
            }
        }
    }
    SplitReport {
        training: training.len() as u64,
        validation: validation.len() as u64,
        training_groups,
        validation_groups,
        threshold: near.threshold,
        compared,
        nearest,
        is_proven: groups.is_empty() && prompts.is_empty() && near_duplicates.is_empty(),
        groups,
        prompts,
        near_duplicates,
    }
}

/// For each record, the name of its family: the smallest of its groups, so that the order of the records does not matter.
pub(crate) fn family_names(records: &[Record], families: &[usize]) -> Vec<Group> {
    let mut names: BTreeMap<usize, Group> = BTreeMap::new();
    for (record, family) in records.iter().zip(families) {
        let group = Group::of(record);
        let name = names.entry(*family).or_insert_with(|| Group::of(record));
        if group < *name {
            *name = group;
        }
    }
    families.iter().filter_map(|family| names.get(family).cloned()).collect()
}

/// For each record, the index of the first record of its family.
pub(crate) fn families(records: &[Record], near: &NearDuplicates) -> Vec<usize> {
    let mut families = Families((0..records.len()).collect());
    let mut first: BTreeMap<[u64; 2], usize> = BTreeMap::new();
    for (at, record) in records.iter().enumerate() {
        let keys = [
            record.group.as_deref().map(|group| hash(&["group", group])),
            prompt(record).map(|prompt| hash(&["prompt", &prompt])),
        ];
        for key in keys.into_iter().flatten() {
            let other = *first.entry(key).or_insert(at);
            families.join(at, other);
        }
    }
    let sets: Vec<Vec<u64>> = records.iter().map(|record| near.shingles(record)).collect();
    let index = PrefixIndex::new(&sets, near.threshold);
    for (at, set) in sets.iter().enumerate() {
        for other in index.candidates(set).into_iter().take_while(|other| *other < at) {
            if families.of(at) != families.of(other) && jaccard(set, &sets[other]) >= near.threshold {
                families.join(at, other);
            }
        }
    }
    (0..records.len()).map(|at| families.of(at)).collect()
}

/// Disjoint sets, each identified by its smallest member.
struct Families(Vec<usize>);

impl Families {
    fn of(&mut self, at: usize) -> usize {
        let mut root = at;
        while self.0[root] != root {
            self.0[root] = self.0[self.0[root]];
            root = self.0[root];
        }
        root
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.of(a), self.of(b));
        self.0[a.max(b)] = a.min(b);
    }
}

/// The user's text before the first answer, in its normal form.
fn prompt(record: &Record) -> Option<String> {
    let before = record.messages.iter().take_while(|message| message.role != Role::Assistant);
    let said: Vec<String> =
        before.filter(|message| message.role == Role::User).map(|message| normalised(&message.content)).collect();
    (!said.is_empty()).then(|| said.join("\n"))
}

fn name(records: &[Record], at: usize) -> String {
    let id = records.get(at).and_then(|record| record.id.clone());
    id.unwrap_or_else(|| format!("#{}", at + 1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::{Part, split};
    use foehn_record::Message;

    fn record(id: usize, group: Option<&str>, prompt: &str, answer: &str) -> Record {
        Record {
            id: Some(format!("r{id}")),
            messages: vec![Message::new(Role::User, prompt), Message::new(Role::Assistant, answer)],
            tools: Vec::new(),
            rejected: None,
            metadata: serde_json::Map::new(),
            group: group.map(str::to_owned),
        }
    }

    #[test]
    fn what_crosses_is_named() {
        let answer = "A pale light lies over the harbour, and the masts stand black against it.";
        let training = [
            record(1, Some("harbour"), "Describe a harbour.", answer),
            record(2, None, "Why is it so?", "Because."),
            record(3, Some("x"), "Name it.", "Nothing of the kind is here."),
        ];
        let validation = [
            record(4, Some("harbour"), "Say it.", "Gulls cry."),
            record(5, None, "why is it SO", "Since it is."),
            record(6, None, "Describe a harbour!", &answer.replace("black", "dark")),
        ];
        let found = prove_split(&training, &validation, &NearDuplicates::default());
        let pairs = |crossings: &[Crossing]| {
            crossings.iter().map(|c| format!("{}: {} {}", c.what, c.training, c.validation)).collect::<Vec<_>>()
        };
        assert_eq!(pairs(&found.groups), ["harbour: r1 r4"]);
        assert_eq!(pairs(&found.prompts), ["describe a harbour: r1 r6", "why is it so: r2 r5"]);
        assert_eq!(found.near_duplicates.len(), 1);
        assert_eq!(
            (found.near_duplicates[0].training.as_str(), found.near_duplicates[0].validation.as_str()),
            ("r1", "r6")
        );
        assert!(!found.is_proven && found.nearest >= 0.8 && found.compared >= 1);
        assert_eq!((found.training_groups, found.validation_groups), (2, 1));
        assert!(prove_split(&training[2..], &validation[..1], &NearDuplicates::default()).is_proven);
    }

    /// Records of few words, so that many are near-duplicates, and some have a common prompt or group.
    fn near_records() -> impl Strategy<Value = Vec<Record>> {
        let text = prop::collection::vec(0usize..7, 4..9);
        let parts = (prop::option::of(0u8..12), 0usize..40, text);
        prop::collection::vec(parts, 0..60).prop_map(|parts| {
            const WORDS: [&str; 7] = ["harbour", "lantern", "kettle", "meadow", "thunder", "cinnamon", "velvet"];
            let build = |(at, (group, prompt, words)): (usize, (Option<u8>, usize, Vec<usize>))| {
                let answer: Vec<&str> = words.into_iter().map(|word| WORDS[word]).collect();
                let group = group.map(|group| format!("g{group}"));
                record(at, group.as_deref(), &format!("Question {prompt}?"), &answer.join(" "))
            };
            parts.into_iter().enumerate().map(build).collect()
        })
    }

    proptest! {
        #[test]
        fn a_proven_split_leaks_nothing(records in near_records(), fraction in 0.05..0.95, seed: u64) {
            let near = NearDuplicates { part: Part::Answer, threshold: 0.6, ..NearDuplicates::default() };
            let found = split_proven(records.clone(), fraction, seed, "label", &near).expect("a sound fraction");
            prop_assert!(found.report.is_proven, "{:?}", found.report);
            prop_assert_eq!(found.training.len() + found.validation.len(), records.len());
            // Compared with a check of every pair without the index.
            for a in &found.training {
                for b in &found.validation {
                    prop_assert!(a.group.is_none() || a.group != b.group);
                    prop_assert!(prompt(a) != prompt(b));
                    prop_assert!(jaccard(&near.shingles(a), &near.shingles(b)) < 0.6);
                }
            }
            let ids = |side: &[Record]| side.iter().filter_map(|r| r.id.clone()).collect::<BTreeSet<_>>();
            let reversed = records.into_iter().rev().collect();
            let again = split_proven(reversed, fraction, seed, "label", &near).expect("a sound fraction");
            prop_assert_eq!(ids(&again.validation), ids(&found.validation));
        }

        #[test]
        fn the_proof_finds_every_pair(records in near_records(), seed: u64) {
            let near = NearDuplicates { part: Part::Answer, threshold: 0.6, ..NearDuplicates::default() };
            let (training, validation) = split(records, 0.4, seed).expect("a sound fraction");
            let found = prove_split(&training, &validation, &near);
            let pairs = training.iter().flat_map(|a| validation.iter().map(move |b| (a, b)));
            let expected = pairs.filter(|(a, b)| jaccard(&near.shingles(a), &near.shingles(b)) >= 0.6).count();
            prop_assert_eq!(found.near_duplicates.len(), expected);
        }
    }
}
