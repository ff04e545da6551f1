//! Near-duplicates of records in other files.

use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::NearDuplicates;
use crate::error::Result;
use crate::pass::{Finding, Key, SetPass, Sketch};
use crate::read::read;
use crate::similar::HashedMap;
use foehn_record::Record;

/// As [`NearDuplicates`], and also rejects a record that is nearly the same as a record of given other files, such as a
/// validation set, or data that the model was trained on before.
///
/// For each record of those files it holds 8 bytes per band and 8 bytes per shingle. Records that cannot be read are
/// skipped.
pub struct NearOthers {
    near: NearDuplicates,
    others: Vec<Other>,
    /// The keys of their bands.
    bands: HashedMap<()>,
    /// The hash of the other files' records; it stands for them in the pipeline's hash.
    sha256: String,
}

/// A record of another file.
struct Other {
    /// The file and line of the record.
    name: String,
    sketch: Vec<u64>,
    evidence: Vec<u64>,
}

impl NearOthers {
    /// Reads the files, in any format that [`read`] supports.
    ///
    /// # Errors
    /// Those of [`read`] and of its iterator.
    pub fn new(near: NearDuplicates, files: &[PathBuf]) -> Result<Self> {
        let mut others = Vec::new();
        let mut hasher = Sha256::new();
        for file in files {
            for line in read(file)? {
                let line = line?;
                let Ok(record) = line.record else { continue };
                let other = Other::new(&near, file, line.place.line, &record);
                hasher.update(format!("{other:?}\n"));
                others.push(other);
            }
        }
        let sha256 = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let bands = others.iter().flat_map(|other| super::band_keys(&other.sketch)).map(|hash| (hash, ())).collect();
        Ok(Self { near, others, bands, sha256 })
    }

    /// The sketches of the other files' records, then those of the set.
    fn all<'a>(&'a self, sketches: &[Sketch<'a>]) -> Vec<Sketch<'a>> {
        let others = self.others.iter().enumerate();
        let others = others.map(|(index, other)| Sketch { index, words: &other.sketch, evidence: &other.evidence });
        others.chain(sketches.iter().copied()).collect()
    }
}

impl Other {
    fn new(near: &NearDuplicates, file: &Path, line: u64, record: &Record) -> Self {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        // The reason shows the name between backquotes, so it must not have any itself.
        let name = format!("`{}`, line {line}", name.replace('`', "'"));
        Self { name, sketch: near.sketch(record), evidence: near.evidence(record) }
    }
}

impl SetPass for NearOthers {
    fn name(&self) -> &'static str {
        self.near.name()
    }

    fn sketch(&self, record: &Record) -> Vec<u64> {
        self.near.sketch(record)
    }

    /// A band of a record of the other files counts as two entries, because those records are not among the sketches.
    fn keys(&self, words: &[u64]) -> Option<Vec<Key>> {
        let count = |hash: &u64| 1 + usize::from(self.bands.contains_key(hash));
        let entries = super::band_keys(words).flat_map(|hash| std::iter::repeat_n(hash, count(&hash)));
        Some(entries.map(|hash| Key { hash, seeks: true }).collect())
    }

    fn suspects(&self, sketches: &[Sketch<'_>]) -> Vec<usize> {
        let all = self.all(sketches);
        let buckets = super::Buckets::new(&all);
        let suspects = (self.others.len()..all.len()).filter(|at| buckets.of(*at).next().is_some());
        suspects.map(|at| all[at].index).collect()
    }

    fn evidence(&self, record: &Record) -> Vec<u64> {
        self.near.evidence(record)
    }

    fn judge(&self, sketches: &[Sketch<'_>]) -> Vec<Finding> {
        let all = self.all(sketches);
        let finding = |(at, other, index): (usize, usize, f64)| {
            let (what, others) = match self.others.get(other) {
                Some(other) => (format!("a record of {}", other.name), Vec::new()),
                None => ("another record".to_owned(), vec![all[other].index]),
            };
            let reason = format!("nearly the same as {what} (Jaccard {index:.2})");
            Finding { index: all[at].index, others, reason }
        };
        self.near.near_pairs(&all, self.others.len()).into_iter().map(finding).collect()
    }
}

impl fmt::Debug for NearOthers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NearOthers").field("near", &self.near).field("against", &self.sha256).finish()
    }
}

impl fmt::Debug for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.sketch).entries(&self.evidence).finish()
    }
}

#[cfg(test)]
mod tests {
    fn line(answer: &str) -> String {
        format!("{{\"prompt\": \"Describe the harbour at night, please.\", \"completion\": \"{answer}\"}}\n")
    }

    #[test]
    fn what_another_file_holds_is_rejected_with_its_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let [other, raw] = ["other.jsonl", "raw.jsonl"].map(|name| folder.path().join(name));
        let answer = "A pale light lies over the harbour, and 4 masts stand black against it; nothing moves.";
        let apart = "Gulls cry, chains rattle along the quay, and somewhere a winch complains of the cold.";
        std::fs::write(&other, format!("no JSON\n{}", line(answer))).expect("writable");
        let near = [line(&answer.replace("black", "dark")), line(&answer.replace('4', "5")), line(apart)].concat();
        std::fs::write(&raw, format!("{near}{}", line(&apart.replace("cold", "wind")))).expect("writable");
        let list = "[[pass]]\nname = 'near-duplicate'\nagainst = ['other.jsonl']\n";
        let pipeline = |text: &str| crate::Registry::default().parse(text, &folder.path().join("p.toml"));
        let strict = pipeline(list).expect("a sound list");
        let report = crate::clean_with(std::slice::from_ref(&raw), &strict, &crate::CleanConfig::default());
        let found: Vec<_> = report.expect("it can be read").rejections;
        let found: Vec<_> =
            found.iter().map(|found| (found.place.line, found.reason.as_str(), found.others.len())).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].0 == 1 && found[0].2 == 0, "{found:?}");
        assert!(
            found[0].1.starts_with("nearly the same as a record of `other.jsonl`, line 2 (Jaccard 0."),
            "{found:?}"
        );
        assert!(found[1].0 == 4 && found[1].1.starts_with("nearly the same as another record") && found[1].2 == 1);

        // The hash of the pipeline depends on the contents of the other files, not on their paths.
        let again = pipeline(list).expect("a sound list").hash();
        assert_eq!(again, strict.hash());
        std::fs::write(&other, line(apart)).expect("writable");
        assert_ne!(pipeline(list).expect("a sound list").hash(), again);
        let error =
            pipeline("[[pass]]\nname = 'near-duplicate'\nagainst = ['none.jsonl']\n").expect_err("no such file");
        assert!(error.to_string().contains("none.jsonl"), "{error}");
        assert!(pipeline("[[pass]]\nname = 'near-duplicate'\nagainst = 7\n").is_err());
        assert!(pipeline("[[pass]]\nname = 'near-duplicate'\nagainst = []\nthresold = 1\n").is_err());
    }
}
