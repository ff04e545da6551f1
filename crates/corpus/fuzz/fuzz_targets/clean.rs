//! Cleaning: every record that is read is counted, the page is complete, and clean records are not changed.
#![no_main]

use foehn_corpus::{CleanConfig, Pipeline, clean_with};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [raw, once, twice] = ["raw.jsonl", "once.jsonl", "twice.jsonl"].map(|name| folder.path().join(name));
    std::fs::write(&raw, bytes).expect("the folder is writable");
    let pipeline = Pipeline::default();
    let to = |out| CleanConfig { out: Some(out), ..CleanConfig::default() };
    let Ok(report) = clean_with(std::slice::from_ref(&raw), &pipeline, &to(once.clone())) else { return };
    assert_eq!(report.kept + report.rejected, report.read);
    assert!(report.to_html().ends_with("</html>\n"));
    if report.kept > 0 {
        let again = clean_with(std::slice::from_ref(&once), &pipeline, &to(twice.clone())).expect("clean records");
        assert_eq!(again.rejected, 0);
        assert_eq!(std::fs::read(once).expect("written"), std::fs::read(twice).expect("written"));
    }
});
