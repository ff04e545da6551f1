//! The origin of an adapter.

use serde::{Deserialize, Serialize};

use crate::Error;

/// What an adapter was trained from: the contents of `foehn.json` beside it.
///
/// All hashes are SHA-256 in lower-case hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// The version of Foehn.
    pub foehn: String,
    /// The base model as the user named it: a path, a repository or a short name.
    pub base_name: String,
    /// Hash of the base's weights.
    pub base_sha256: String,
    /// Hash of the tokenizer.
    pub tokenizer_sha256: String,
    /// Hash of the chat template.
    pub template_sha256: String,
    /// Hash of the training data.
    pub data_sha256: String,
    /// How often the training data's records are seen in an epoch: numbers of consecutive records, each with its weight.
    /// Empty if each is seen once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub data_weights: Vec<(usize, f64)>,
    /// Hash of the file with the validation records, if they have one of their own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub validation_sha256: String,
    /// The seed of all randomness.
    pub seed: u64,
    /// The whole recipe.
    pub recipe: serde_json::Value,
    /// Which settings were changed when an interrupted run was resumed, in words. Such a run differs from an
    /// uninterrupted one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
}

impl Manifest {
    /// Compares the hashes that decide whether the adapter belongs to a model. Returns the names of those that could
    /// not be compared because the manifest does not have them. An empty hash among the arguments is not compared.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the first hash that differs.
    pub fn check(
        &self,
        base_sha256: &str,
        tokenizer_sha256: &str,
        template_sha256: &str,
    ) -> Result<Vec<&'static str>, Error> {
        let pairs = [
            ("base", &self.base_sha256, base_sha256),
            ("tokenizer", &self.tokenizer_sha256, tokenizer_sha256),
            ("template", &self.template_sha256, template_sha256),
        ];
        let mut not_checked = Vec::new();
        for (what, expected, found) in pairs {
            match (expected.is_empty(), found.is_empty()) {
                (true, false) => not_checked.push(what),
                (false, false) if expected != found => {
                    return Err(Error::Mismatch { what, expected: expected.clone(), found: found.to_owned() });
                }
                _ => {}
            }
        }
        Ok(not_checked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_hash_is_refused_by_name() {
        let manifest = Manifest { base_sha256: "aa".into(), template_sha256: "cc".into(), ..Manifest::default() };
        assert_eq!(manifest.check("aa", "any", "cc").unwrap(), ["tokenizer"]);
        assert_eq!(manifest.check("aa", "", "").unwrap(), [""; 0]);
        assert_eq!(Manifest::default().check("aa", "bb", "cc").unwrap(), ["base", "tokenizer", "template"]);
        assert!(matches!(manifest.check("ab", "", "cc"), Err(Error::Mismatch { what: "base", .. })));
        assert!(matches!(manifest.check("aa", "", "cd"), Err(Error::Mismatch { what: "template", .. })));
    }
}
