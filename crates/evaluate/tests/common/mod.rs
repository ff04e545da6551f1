//! A small suite in its own folder.
#![allow(dead_code)] // Each test binary uses its own part.

use std::path::PathBuf;

use foehn_evaluate::{Result, Suite};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

pub const PROBES: &str = r#"{"id": "p1", "sentence": "The lamp glowed amber over the desk.", "modality": "Visual", "kind": "literal", "group": "lamp"}
{"id": "p2", "sentence": "That rings a bell, my friend.", "modality": "Auditory", "kind": "idiom", "group": "bell"}
{"id": "p3", "sentence": "One two three four five six seven eight nine ten eleven twelve thirteen fourteen.", "modality": "Auditory", "kind": "literal", "group": "count"}
"#;

pub const SCENES: &str = r#"{"id": "s1", "scene": "a storm", "group": "storm"}
{"id": "s2", "scene": "an old house", "group": "house"}
"#;

pub const LEXICON: &str = r#"{"Visual": ["amber", "glow", "visual"], "Auditory": ["bell", "hum", "auditory"]}"#;
pub const UNSEEN: &str = r#"{"Visual": ["crimson"], "Auditory": ["clang"]}"#;

pub const SUITE: &str = r#"
name = "small"

[[task]]
name = "recognition"
kind = "choice"
file = "recognition.jsonl"
sha256 = "PROBES_HASH"
labels = ["Visual", "Auditory"]
label = "modality"
prompts = ["What modality is: '{sentence}'?", "Name the modality of '{sentence}'."]
slice = "kind"
max_new_tokens = 12

[[task]]
name = "production"
kind = "describe"
file = "production.jsonl"
sha256 = "SCENES_HASH"
labels = ["Visual", "Auditory"]
prompts = ["Describe {scene} using the {label} modality."]
lexicon = "lexicon.json"
unseen_lexicon = "unseen.json"
max_new_tokens = 20
"#;

/// A folder with a suite, and the hashes that the suite file has.
pub struct Folder {
    folder: TempDir,
}

impl Folder {
    /// The small suite, frozen, after the text of one file was changed.
    pub fn new(change: impl Fn(&str, &str) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (probes, scenes) = (change("recognition.jsonl", PROBES), change("production.jsonl", SCENES));
        let hash = |text: &str| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let suite = SUITE.replace("PROBES_HASH", &hash(&probes)).replace("SCENES_HASH", &hash(&scenes));
        let made = Self { folder };
        made.write("recognition.jsonl", &probes);
        made.write("production.jsonl", &scenes);
        made.write("lexicon.json", &change("lexicon.json", LEXICON));
        made.write("unseen.json", &change("unseen.json", UNSEEN));
        made.write("suite.toml", &change("suite.toml", &suite));
        made
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn open(&self) -> Result<Suite> {
        Suite::open(self.path("suite.toml"))
    }
}

pub fn small() -> Suite {
    Folder::new(|_, text| text.to_owned()).open().unwrap()
}
