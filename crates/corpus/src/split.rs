//! Splitting records into training and validation sets that share no group.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::text::hash;
use foehn_record::Record;

/// Splits records into a training and a validation set. The validation set gets about `fraction` of the records.
///
/// No group is in both sets. A record without a group is a group of its own, identified by its text. The choice depends
/// only on the seed and on the names of the groups, not on the order of the records; both sets keep that order. A group
/// is taken if this brings the share so far nearer to the fraction, so the share differs from the fraction by at most
/// half a group.
///
/// # Errors
/// [`Error::Fraction`] if the fraction is not between 0 and 1.
pub fn split(records: Vec<Record>, fraction: f64, seed: u64) -> Result<(Vec<Record>, Vec<Record>)> {
    split_with(records, fraction, seed, |_| String::new())
}

/// As [`split`], but the share of validation records is about the same for each label.
///
/// The label is the text of the metadata key `label`. Groups with the same labels form a stratum, and the strata are
/// split one after the other.
///
/// # Errors
/// As [`split`].
pub fn split_stratified(
    records: Vec<Record>,
    fraction: f64,
    seed: u64,
    label: &str,
) -> Result<(Vec<Record>, Vec<Record>)> {
    split_with(records, fraction, seed, |record| record.text(label).unwrap_or_default().to_owned())
}

fn split_with(
    records: Vec<Record>,
    fraction: f64,
    seed: u64,
    label: impl Fn(&Record) -> String,
) -> Result<(Vec<Record>, Vec<Record>)> {
    let groups = records.iter().map(Group::of).collect();
    split_by(records, groups, fraction, seed, label)
}

/// As [`split`], with a given group for each record.
pub(crate) fn split_by(
    records: Vec<Record>,
    of_records: Vec<Group>,
    fraction: f64,
    seed: u64,
    label: impl Fn(&Record) -> String,
) -> Result<(Vec<Record>, Vec<Record>)> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(Error::Fraction { found: fraction });
    }
    let mut groups: BTreeMap<Group, (Vec<String>, Vec<usize>)> = BTreeMap::new();
    for (index, (record, group)) in records.iter().zip(of_records).enumerate() {
        let (labels, members) = groups.entry(group).or_default();
        labels.push(label(record));
        members.push(index);
    }
    let mut strata: Vec<(Vec<String>, [u64; 2], Vec<usize>)> = groups
        .into_iter()
        .map(|(group, (mut labels, members))| {
            labels.sort_unstable();
            labels.dedup();
            (labels, group.rank(seed), members)
        })
        .collect();
    strata.sort_unstable();

    let mut is_validation = vec![false; records.len()];
    let (mut seen, mut taken) = (0, 0);
    for (_, _, members) in strata {
        seen += members.len();
        let goal = fraction * seen as f64;
        if (goal - (taken + members.len()) as f64).abs() < (goal - taken as f64).abs() {
            taken += members.len();
            for index in members {
                is_validation[index] = true;
            }
        }
    }
    let (validation, training): (Vec<_>, Vec<_>) =
        records.into_iter().zip(is_validation).partition(|(_, is_validation)| *is_validation);
    let records = |side: Vec<(Record, bool)>| side.into_iter().map(|(record, _)| record).collect();
    Ok((records(training), records(validation)))
}

/// The name of a group, or the text that replaces it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    Named(String),
    Alone([u64; 2]),
}

impl Group {
    /// The group of a record. Two records with the same text form a group even without a name, because otherwise one
    /// could leak into the other set.
    pub(crate) fn of(record: &Record) -> Self {
        match &record.group {
            Some(name) => Self::Named(name.clone()),
            None => {
                let contents: Vec<&str> = record.messages.iter().map(|message| message.content.as_str()).collect();
                Self::Alone(hash(&contents))
            }
        }
    }

    /// The position of the group in the order that the seed determines.
    pub(crate) fn rank(&self, seed: u64) -> [u64; 2] {
        let seed = seed.to_string();
        match self {
            Self::Named(name) => hash(&[&seed, "named", name]),
            Self::Alone([high, low]) => hash(&[&seed, "alone", &format!("{high:x} {low:x}")]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use foehn_record::{Message, Role};

    fn record(index: usize, group: Option<u8>, label: u8) -> Record {
        Record {
            id: Some(index.to_string()),
            messages: vec![Message::new(Role::User, format!("question {index}"))],
            tools: Vec::new(),
            rejected: None,
            metadata: [("label".to_owned(), label.into())]
                .into_iter()
                .map(|(key, value): (String, serde_json::Value)| (key, value.to_string().into()))
                .collect(),
            group: group.map(|group| format!("g{group}")),
        }
    }

    fn ids(records: &[Record]) -> BTreeSet<String> {
        records.iter().filter_map(|record| record.id.clone()).collect()
    }

    proptest! {
        #[test]
        fn no_group_is_on_both_sides(
            groups in proptest::collection::vec((proptest::option::of(0u8..20), 0u8..5), 0..120),
            fraction in 0.01..0.99,
            seed: u64,
        ) {
            let records: Vec<_> =
                groups.iter().enumerate().map(|(index, (group, label))| record(index, *group, *label)).collect();
            let (training, validation) =
                split_stratified(records.clone(), fraction, seed, "label").expect("a sound fraction");
            let named = |side: &[Record]| side.iter().filter_map(|r| r.group.clone()).collect::<BTreeSet<_>>();
            prop_assert!(named(&training).is_disjoint(&named(&validation)));
            prop_assert_eq!(training.len() + validation.len(), records.len());
            let mut all = ids(&training);
            all.extend(ids(&validation));
            prop_assert_eq!(all, ids(&records));

            let reversed = records.into_iter().rev().collect();
            let (_, again) = split_stratified(reversed, fraction, seed, "label").expect("a sound fraction");
            prop_assert_eq!(ids(&again), ids(&validation));
        }

        #[test]
        fn the_share_is_near_the_fraction(count in 1usize..200, fraction in 0.01..0.99, seed: u64) {
            let records = (0..count).map(|index| record(index, None, 0)).collect();
            let (_, validation) = split(records, fraction, seed).expect("a sound fraction");
            prop_assert!((validation.len() as f64 - fraction * count as f64).abs() <= 0.5 + 1e-9);
        }
    }

    #[test]
    fn every_label_has_its_share() {
        let records = (0..500).map(|index| record(index, None, (index % 5) as u8)).collect();
        let (_, validation) = split_stratified(records, 0.1, 7, "label").expect("a sound fraction");
        for label in ["0", "1", "2", "3", "4"] {
            let count = validation.iter().filter(|record| record.text("label") == Some(label)).count();
            assert_eq!(count, 10, "{label}");
        }
    }

    #[test]
    fn seeds_differ_and_repeat() {
        let records: Vec<_> = (0..100).map(|index| record(index, None, 0)).collect();
        let validation = |seed| ids(&split(records.clone(), 0.2, seed).expect("a sound fraction").1);
        assert_eq!(validation(1), validation(1));
        assert_ne!(validation(1), validation(2));
    }

    #[test]
    fn no_other_fraction_splits() {
        for fraction in [0.0, 1.0, -0.1, f64::NAN] {
            assert!(matches!(split(Vec::new(), fraction, 0), Err(Error::Fraction { .. })));
        }
    }
}
