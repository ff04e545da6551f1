//! Properties for every file, whatever its bytes: no panic, places in ascending order, and at most one error, at the
//! end.

use std::path::Path;

use foehn_corpus::read;

/// Reads the bytes as a file of this name.
#[allow(dead_code, reason = "not every target reads a file")]
pub fn check(name: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("the folder is writable");
    check_file(&path);
}

fn check_file(path: &Path) {
    let Ok(reader) = read(path) else { return };
    let (mut last, mut ended) = (0, false);
    for line in reader {
        assert!(!ended, "a line after an error");
        match line {
            Ok(line) => {
                assert!(line.place.line > last, "line {} after {last}", line.place.line);
                last = line.place.line;
                if let Err(unreadable) = line.record {
                    assert!(!unreadable.id.is_empty() && !unreadable.fault.to_string().is_empty());
                    assert!(unreadable.excerpt.chars().count() <= foehn_corpus::EXCERPT);
                }
            }
            Err(error) => {
                assert!(error.to_string().contains(&path.display().to_string()));
                ended = true;
            }
        }
    }
}
