//! A temporary folder for cleaning.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::PathBuf;

use foehn_corpus::{CleanReport, Pipeline, clean};

pub struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("the folder is writable");
        path
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("the file is there, and UTF-8")
    }

    /// Cleans one file of the folder into another.
    pub fn clean(&self, from: &str, to: &str, pipeline: &Pipeline) -> CleanReport {
        clean(&[self.path(from)], &self.path(to), &self.path("report.json"), pipeline).expect("the input can be read")
    }
}

/// ESC, CR, BEL, a right-to-left override, and CSI as one character.
pub const STEERING: &str = "a\u{1b}[2J\r\u{7}\u{202e}\u{9b}b";

/// The message holds all of [`STEERING`], escaped.
#[track_caller]
pub fn assert_printable(message: &str) {
    assert!(!message.chars().any(|c| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}')), "{message:?}");
    assert!(message.contains(r"a\u{1b}[2J\r\u{7}\u{202e}\u{9b}b"), "{message:?}");
}
