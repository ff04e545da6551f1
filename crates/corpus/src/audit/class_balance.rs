//! Counts the records of each class.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Audit, Section, Tally};
use foehn_record::Record;

/// Counts the records of each class, and of each class for each value of another key.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassBalance {
    /// The metadata key whose text is the class.
    pub class: String,
    /// A second metadata key that divides the set. A class may be balanced as a whole but rare within a task.
    pub within: Option<String>,
}

impl Default for ClassBalance {
    /// `label` within `task`.
    fn default() -> Self {
        Self { class: "label".to_owned(), within: Some("task".to_owned()) }
    }
}

/// The result of [`ClassBalance`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassBalanceReport {
    /// The key whose text is the class.
    pub class: String,
    /// The key that divides the set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// The number of records without a class.
    pub without_class: u64,
    /// The entropy of the classes divided by that of equally many equal classes, in `[0, 1]`; 1 if there is at most one
    /// class.
    pub evenness: f64,
    /// The classes, sorted by name.
    pub classes: Vec<ClassCount>,
}

/// The records of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassCount {
    /// The class.
    pub class: String,
    /// The number of its records.
    pub records: u64,
    /// Their share of all records that have a class.
    pub share: f64,
    /// The number of its records for each text of the key `within`. The empty text stands for records without the key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub within: BTreeMap<String, u64>,
}

impl Audit for ClassBalance {
    fn name(&self) -> &'static str {
        "class-balance"
    }

    fn tally(&self) -> Box<dyn Tally> {
        Box::new(Counts { audit: self.clone(), without_class: 0, classes: BTreeMap::new() })
    }
}

struct Counts {
    audit: ClassBalance,
    without_class: u64,
    classes: BTreeMap<String, (u64, BTreeMap<String, u64>)>,
}

impl Tally for Counts {
    fn add(&mut self, record: &Record) {
        let Some(class) = record.text(&self.audit.class) else {
            self.without_class += 1;
            return;
        };
        let (records, within) = self.classes.entry(class.to_owned()).or_default();
        *records += 1;
        if let Some(key) = &self.audit.within {
            *within.entry(record.text(key).unwrap_or_default().to_owned()).or_default() += 1;
        }
    }

    fn section(self: Box<Self>) -> Section {
        let total: u64 = self.classes.values().map(|(records, _)| records).sum();
        let share = |records: u64| records as f64 / total as f64;
        let entropy: f64 = self.classes.values().map(|(records, _)| -share(*records) * share(*records).ln()).sum();
        let evenness = if self.classes.len() < 2 { 1.0 } else { entropy / (self.classes.len() as f64).ln() };
        let count = |(class, (records, within))| ClassCount { class, records, share: share(records), within };
        Section::ClassBalance(ClassBalanceReport {
            class: self.audit.class,
            within: self.audit.within,
            without_class: self.without_class,
            evenness,
            classes: self.classes.into_iter().map(count).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(task: &str, label: Option<&str>) -> Record {
        let keys = [("task", Some(task)), ("label", label)];
        let metadata = keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.into()))).collect();
        Record { metadata, ..Record::new(Vec::new()) }
    }

    fn report(records: &[Record]) -> ClassBalanceReport {
        let mut tally = ClassBalance::default().tally();
        records.iter().for_each(|record| tally.add(record));
        match tally.section() {
            Section::ClassBalance(report) => report,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn classes_are_counted_within_tasks() {
        let found = report(&[
            record("describe", Some("Visual")),
            record("describe", Some("Visual")),
            record("explain", Some("Visual")),
            record("explain", Some("Auditory")),
            record("explain", None),
        ]);
        assert_eq!(found.without_class, 1);
        let classes: Vec<_> = found.classes.iter().map(|c| (c.class.as_str(), c.records, c.share)).collect();
        assert_eq!(classes, [("Auditory", 1, 0.25), ("Visual", 3, 0.75)]);
        assert_eq!(found.classes[1].within, [("describe".to_owned(), 2), ("explain".to_owned(), 1)].into());
        // -(1/4 log2 1/4 + 3/4 log2 3/4), of 1 bit.
        assert!((found.evenness - 0.811_278_124_459_132_9).abs() < 1e-12);
    }

    #[test]
    fn equal_classes_are_even_and_none_is_no_fault() {
        assert!((report(&[record("x", Some("a")), record("x", Some("b"))]).evenness - 1.0).abs() < 1e-12);
        assert_eq!(report(&[]).evenness, 1.0);
        assert_eq!(report(&[]).classes, []);
    }
}
