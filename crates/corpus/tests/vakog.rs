//! The VAKOG data, from the raw file to the clean one: which records are kept, byte for byte, and which pass rejects
//! the others.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::Bench;
use foehn_corpus::{
    CleanConfig, CleanReport, Lexicon, NearDuplicates, OffTarget, Pipeline, Record, Rejection, clean, clean_with,
    read_clean,
};
use serde::Deserialize;

/// The records that are rejected by another pass than the one after which their fault is named, with that pass.
///
/// - `dirt-0041` continues as the JSON of further messages. That is not a role marker, and the request in it is not a
///   sentence. But it ends in the middle of a string, so it is truncated.
const SEEN_BY_OTHERS: [(&str, &str); 1] = [("dirt-0041", "truncated")];

/// A line of `expected_rejects.json`. For a line that is not JSON there is no id.
#[derive(Deserialize)]
struct Expected {
    line: u64,
    id: Option<String>,
    fault: String,
}

fn vakog(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/vakog").join(name)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn pipeline() -> Pipeline {
    Pipeline::load(&vakog("clean.toml")).expect("a pipeline file")
}

/// Cleans the raw file into `clean.jsonl`.
fn cleaned(bench: &Bench) -> CleanReport {
    let lexicon = Lexicon::load(&vakog("lexicon.json")).expect("a sound lexicon");
    let pipeline = pipeline().with(OffTarget::new(lexicon));
    clean(&[vakog("vakog_raw.jsonl")], &bench.path("clean.jsonl"), &bench.path("report.json"), &pipeline)
        .expect("the raw file can be read")
}

#[test]
fn the_clean_file_is_the_committed_one() {
    let bench = Bench::new();
    let report = cleaned(&bench);
    assert_eq!((report.read, report.kept, report.rejected), (5276, 5084, 192));
    let (found, committed) = (bench.read("clean.jsonl"), read(&vakog("vakog_clean.jsonl")));
    // Compares line by line: a difference between two files of 400 kB would be hard to find.
    for (at, (found, committed)) in found.lines().zip(committed.lines()).enumerate() {
        assert_eq!(found, committed, "line {}", at + 1);
    }
    assert!(found == committed, "{} bytes, {} committed", found.len(), committed.len());
}

#[test]
fn the_rejects_are_the_expected_ones() {
    let expected: Vec<Expected> =
        serde_json::from_str(&read(&vakog("expected_rejects.json"))).expect("a list of rejects");
    let report = cleaned(&Bench::new());
    let lines = |rejections: &[Rejection]| rejections.iter().map(|found| found.place.line).collect::<Vec<_>>();
    assert_eq!(lines(&report.rejections), expected.iter().map(|expected| expected.line).collect::<Vec<_>>());

    let mut others = Vec::new();
    for (found, expected) in report.rejections.iter().zip(&expected) {
        if let Some(id) = &expected.id {
            assert_eq!(&found.id, id, "line {}", expected.line);
        }
        if found.pass != expected.fault {
            others.push((found.id.as_str(), found.pass.as_str()));
        }
    }
    assert_eq!(others, SEEN_BY_OTHERS);
}

/// The set has many records that differ in only one word. The pass rejects none of those that are kept without it.
#[test]
fn near_duplicates_of_the_set_are_none() {
    let lexicon = Lexicon::load(&vakog("lexicon.json")).expect("a sound lexicon");
    let pipeline = pipeline().with(OffTarget::new(lexicon)).with_set(NearDuplicates::default());
    let report = clean_with(&[vakog("vakog_raw.jsonl")], &pipeline, &CleanConfig::default()).expect("it can be read");
    let near: Vec<_> = report.rejections.iter().filter(|found| found.pass == "near-duplicate").collect();
    assert!(near.is_empty(), "{near:#?}");
}

#[test]
fn every_record_of_the_parts_survives() {
    let bench = Bench::new();
    cleaned(&bench);
    let kept = by_id(read_clean(&bench.path("clean.jsonl")).expect("clean records"));
    let tasks = ["choose", "describe", "explain", "multi", "recognise", "rewrite"];
    let parts = tasks.map(|task| read_clean(&vakog(&format!("parts/{task}.jsonl"))).expect("clean records"));
    let written = by_id(parts.into_iter().flatten().collect());
    assert!(kept.keys().eq(written.keys()));
    for (id, record) in written {
        assert_eq!(straight(kept[&id].clone()), straight(record), "{id}");
    }
}

fn by_id(records: Vec<Record>) -> BTreeMap<String, Record> {
    records.into_iter().map(|record| (record.id.clone().expect("an id"), record)).collect()
}

/// The record with straight quotation marks: where a record's marks were damaged, cleaning restores curly ones.
fn straight(mut record: Record) -> Record {
    for message in &mut record.messages {
        message.content = message.content.replace(['‘', '’'], "'").replace(['“', '”'], "\"");
    }
    record
}
