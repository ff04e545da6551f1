//! The mark of a clean file says which pipeline made it, and becomes invalid when the file changes.

mod common;

use common::Bench;
use foehn_corpus::{Error, Length, Pipeline, RunsOn, clean_with, is_clean, mark_path};

const LINE: &str = "{\"prompt\": \"Why does the bell ring?\", \"completion\": \"The wind moves it.\"}\n";

#[test]
fn a_clean_file_names_its_pipeline() {
    let bench = Bench::new();
    let raw = bench.write("raw.jsonl", LINE);
    let pipeline = Pipeline::default();
    for out in ["clean.jsonl", "clean.jsonl.gz", "clean.jsonl.zst", "clean.parquet"] {
        let report = bench.clean("raw.jsonl", out, &pipeline);
        assert_eq!(is_clean(&bench.path(out)).expect("readable"), Some(pipeline.hash()), "{out}");
        assert_eq!(report.pipeline, pipeline.hash());
    }
    assert_eq!(is_clean(&raw).expect("readable"), None);
    assert_ne!(Pipeline::default().with(RunsOn).hash(), pipeline.hash());
    assert_ne!(Pipeline::new().hash(), pipeline.hash());
    assert!(matches!(is_clean(&bench.path("none.jsonl")), Err(Error::Open { .. })));
}

#[test]
fn a_changed_file_is_not_known_to_be_clean() {
    let bench = Bench::new();
    bench.write("raw.jsonl", LINE);
    bench.clean("raw.jsonl", "clean.jsonl", &Pipeline::default());
    let clean = bench.path("clean.jsonl");
    let text = bench.read("clean.jsonl");
    bench.write("clean.jsonl", text.replace("wind", "Wind"));
    assert_eq!(is_clean(&clean).expect("readable"), None);
    bench.write("clean.jsonl", &text);
    assert!(is_clean(&clean).expect("readable").is_some());
    for damaged in [&b""[..], b"{}", b"\xff\xfe", b"[1, 2]"] {
        std::fs::write(mark_path(&clean), damaged).expect("the folder is writable");
        assert_eq!(is_clean(&clean).expect("readable"), None);
    }
}

#[test]
fn a_file_of_no_records_has_no_mark() {
    let bench = Bench::new();
    bench.write("raw.jsonl", LINE);
    bench.clean("raw.jsonl", "clean.jsonl", &Pipeline::default());
    bench.write("raw.jsonl", LINE.replace("The wind moves it.", " "));
    let report = bench.clean("raw.jsonl", "clean.jsonl", &Pipeline::default());
    assert_eq!((report.kept, report.rejected), (0, 1));
    assert!(!mark_path(&bench.path("clean.jsonl")).exists());
    assert_eq!(is_clean(&bench.path("clean.jsonl")).expect("readable"), None);
    assert_eq!(bench.read("clean.jsonl"), "");
    let said = report.require_kept().expect_err("nothing is kept").to_string();
    assert_eq!(said, "all 1 records are rejected, so nothing is left to use: 1 by `structure`: message N is empty");
}

#[test]
fn limits_on_tokens_need_a_counter() {
    let bench = Bench::new();
    let raw = bench.write("raw.jsonl", LINE);
    let file = bench.write("pipeline.toml", "[[pass]]\nname = 'length'\nmax_tokens = 5\n");
    let pipeline = Pipeline::load(&file).expect("a sound pipeline");
    assert!(pipeline.needs_counter());
    match clean_with(std::slice::from_ref(&raw), &pipeline, &Default::default()) {
        Err(Error::NoTokenCounter { pass }) => assert_eq!(pass, "length"),
        other => panic!("expected an error that names the pass, found {other:?}"),
    }
    let words = |text: &str| text.split(' ').count();
    let other =
        Pipeline::load(&file).expect("a sound pipeline").counting(("characters", |text: &str| text.chars().count()));
    let pipeline = pipeline.counting(("words", words));
    assert_ne!(pipeline.hash(), other.hash(), "another tokenizer keeps other records");
    assert!(!pipeline.needs_counter());
    let report = clean_with(&[raw], &pipeline, &Default::default()).expect("somebody counts");
    assert_eq!(report.rejections[0].reason, "the record has 9 tokens, expected at most 5");
    assert!(!Pipeline::new().with(Length::default()).needs_counter());
}
