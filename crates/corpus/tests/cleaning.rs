//! Cleaning apart from its passes: input and output formats, threads, kept records, dry runs.

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::num::NonZeroUsize;

use common::Bench;
use flate2::Compression;
use flate2::write::GzEncoder;
use foehn_corpus::{CleanConfig, CleanReport, Error, Pipeline, Record, clean_with, read, read_clean, write_clean};
use serde_json::{Value, json};

/// A line of chat that every pass accepts.
fn sound(number: usize) -> Value {
    json!({
        "id": format!("r{number}"),
        "prompt": format!("Which floor is room number {number} on?"),
        "completion": format!("Room number {number} is on floor {}, past the lift.", number / 100),
        "task": if number.is_multiple_of(2) { "ask" } else { "find" },
    })
}

fn lines(records: impl IntoIterator<Item = Value>) -> Vec<u8> {
    records.into_iter().flat_map(|record| format!("{record}\n").into_bytes()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory does not fail");
    encoder.finish().expect("memory does not fail")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("memory does not fail")
}

fn config(bench: &Bench, out: &str) -> CleanConfig {
    CleanConfig { out: Some(bench.path(out)), ..CleanConfig::default() }
}

fn run(bench: &Bench, inputs: &[&str], config: &CleanConfig) -> foehn_corpus::Result<CleanReport> {
    let inputs: Vec<_> = inputs.iter().map(|name| bench.path(name)).collect();
    clean_with(&inputs, &Pipeline::default(), config)
}

fn records(bench: &Bench, name: &str) -> Vec<Record> {
    read_clean(&bench.path(name)).expect("clean records")
}

#[test]
fn packed_files_read_as_the_plain_ones() {
    let bench = Bench::new();
    let plain = lines((0..300).map(sound));
    let (head, tail) = plain.split_at(plain.len() / 3);
    bench.write("plain.jsonl", &plain);
    let expected = records(&bench, "plain.jsonl");
    // The bytes of a file determine its compression; its name determines its format.
    let skippable = [&b"\x50\x2A\x4D\x18\x03\0\0\0abc"[..], &zstd(&plain)].concat();
    for (name, bytes) in [
        ("a.jsonl.gz", gzip(&plain)),
        ("members.jsonl.gz", [gzip(head), gzip(tail)].concat()),
        ("a.jsonl.zst", zstd(&plain)),
        ("frames.jsonl.zst", [zstd(head), zstd(tail)].concat()),
        ("skippable.jsonl.zst", skippable),
        ("plain-after-all.jsonl.gz", plain.clone()),
        ("packed-after-all.jsonl", gzip(&plain)),
        ("dump.gz", gzip(&plain)),
        ("dump", plain.clone()),
    ] {
        bench.write(name, bytes);
        assert_eq!(records(&bench, name), expected, "{name}");
    }
    let array = format!("[{}]", (0..300).map(|number| sound(number).to_string()).collect::<Vec<_>>().join(","));
    bench.write("array.json.zst", zstd(array.as_bytes()));
    assert_eq!(records(&bench, "array.json.zst"), expected);
    bench.write("table.csv.gz", gzip(b"prompt,completion\nq,a\n"));
    assert_eq!(records(&bench, "table.csv.gz")[0].messages[1].content, "a");
}

#[test]
fn a_packed_file_that_is_cut_off_is_an_error_with_its_place() {
    let bench = Bench::new();
    let plain = lines((0..3000).map(sound));
    for (name, whole, format) in [("a.jsonl.gz", gzip(&plain), "gzip"), ("a.jsonl.zst", zstd(&plain), "Zstandard")] {
        for share in [2, 3, 10] {
            bench.write(name, &whole[..whole.len() * (share - 1) / share]);
            let mut last = 0;
            let mut error = None;
            for line in read(&bench.path(name)).expect("the beginning is whole") {
                match line {
                    Ok(line) => last = line.place.line,
                    Err(found) => error = Some(found),
                }
            }
            match error {
                Some(Error::Compressed { line, format: found, path, .. }) => {
                    assert_eq!((line, found, path), (last, format, bench.path(name)), "{share}");
                    assert!(last < 3000);
                }
                other => panic!("{name}: expected an error, found {other:?}"),
            }
            let result = run(&bench, &[name], &config(&bench, "out.jsonl"));
            assert!(matches!(result, Err(Error::Compressed { .. })), "{result:?}");
            assert!(!bench.path("out.jsonl").exists());
        }
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle..middle + 64].fill(0xFF);
        bench.write(name, damaged);
        assert!(matches!(run(&bench, &[name], &config(&bench, "out.jsonl")), Err(Error::Compressed { .. })));
    }
    bench.write("head.jsonl.gz", &gzip(&plain)[..7]);
    assert!(matches!(read(&bench.path("head.jsonl.gz")), Err(Error::Compressed { line: 0, .. })));
    let parquet =
        std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pairs_zstd.parquet"));
    bench.write("a.parquet.gz", gzip(&parquet.expect("the fixture is there")));
    assert!(matches!(read(&bench.path("a.parquet.gz")), Err(Error::PackedParquet { format: "gzip", .. })));
}

#[test]
fn every_output_holds_the_same_records() {
    let bench = Bench::new();
    let mut raw: Vec<Value> = (0..500).map(sound).collect();
    raw[3]["score"] = json!(1);
    raw[4]["score"] = json!(0.25);
    raw[5]["tags"] = json!(["a", {"b": null}]);
    raw[6]["big"] = json!(i64::MAX);
    raw[7]["group"] = json!("g");
    raw[8]["sure"] = json!(true);
    raw[9] = json!({"messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who is there?"},
        {"role": "assistant", "content": "Nobody.", "weight": 0}, {"role": "user", "content": "Who else?"},
        {"role": "assistant", "content": "Still nobody."},
    ]});
    bench.write("raw.jsonl", lines(raw));
    let report = run(&bench, &["raw.jsonl"], &config(&bench, "out.jsonl")).expect("readable");
    assert_eq!(report.kept, 500);
    let expected = records(&bench, "out.jsonl");
    for name in ["out.jsonl.gz", "out.jsonl.zst"] {
        assert_eq!(run(&bench, &["raw.jsonl"], &config(&bench, name)).expect("readable"), report);
        assert_eq!(records(&bench, name), expected, "{name}");
        let first = std::fs::read(bench.path(name)).expect("written");
        run(&bench, &["raw.jsonl"], &config(&bench, name)).expect("readable");
        assert!(first == std::fs::read(bench.path(name)).expect("written"), "{name}: two runs, other bytes");
    }
    run(&bench, &["raw.jsonl"], &config(&bench, "out.parquet")).expect("readable");
    let mut found = records(&bench, "out.parquet");
    for (record, expected) in found.iter_mut().zip(&expected) {
        // A table has a cell for every column. A list becomes text, and an integer among doubles becomes a double.
        record.metadata.retain(|_, value| !value.is_null());
        if let Some(Value::String(tags)) = record.metadata.get("tags") {
            record.metadata["tags"] = serde_json::from_str(tags).expect("JSON");
        }
        let mut expected = expected.clone();
        if let Some(score) = expected.metadata.get_mut("score") {
            *score = json!(score.as_f64());
        }
        assert_eq!(record, &expected);
    }
    assert_eq!(found.len(), 500);
    for name in ["out.csv", "out", "out.gz"] {
        let result = run(&bench, &["raw.jsonl"], &config(&bench, name));
        assert!(matches!(result, Err(Error::OutputFormat { .. })), "{name}: {result:?}");
    }
}

/// Written records can be read back in every format, and have the same bytes as those that `clean` writes.
#[test]
fn records_are_written_as_they_are() {
    let bench = Bench::new();
    bench.write("raw.jsonl", lines((0..50).map(sound)));
    for name in ["out.jsonl", "out.jsonl.gz", "out.jsonl.zst", "out.parquet"] {
        run(&bench, &["raw.jsonl"], &config(&bench, name)).expect("readable");
        let cleaned = std::fs::read(bench.path(name)).expect("written");
        let all = records(&bench, name);
        write_clean(&bench.path(name), &all).expect("the folder is writable");
        assert_eq!(records(&bench, name), all);
        assert!(std::fs::read(bench.path(name)).expect("written") == cleaned, "{name}");
    }
    assert!(matches!(write_clean(&bench.path("out.csv"), &[]), Err(Error::OutputFormat { .. })));
}

#[test]
fn a_parquet_file_of_many_row_groups_keeps_its_order() {
    let bench = Bench::new();
    let wide = |number: usize| {
        let mut record = sound(number);
        record["note"] = json!("x".repeat(40_000));
        record
    };
    bench.write("raw.jsonl", lines((0..1000).map(wide)));
    run(&bench, &["raw.jsonl"], &config(&bench, "out.parquet")).expect("readable");
    let ids: Vec<_> = records(&bench, "out.parquet").into_iter().filter_map(|record| record.id).collect();
    assert_eq!(ids, (0..1000).map(|number| format!("r{number}")).collect::<Vec<_>>());
    bench.write("none.jsonl", lines([json!({"text": "plain"})]));
    assert_eq!(run(&bench, &["none.jsonl"], &config(&bench, "none.parquet")).expect("readable").kept, 0);
    assert!(matches!(read(&bench.path("none.parquet")).map(|reader| reader.count()), Ok(1) | Err(Error::Empty { .. })));
}

#[test]
fn threads_change_no_byte() {
    let bench = Bench::new();
    let dirty = |number: usize| match number % 7 {
        0 => json!({"prompt": "Who?", "completion": format!("It was number {number} and")}),
        1 => sound(number / 7),
        2 => json!({"prompt": format!("Say {number}. "), "completion": "â€œYesâ€\u{9d}."}),
        3 => json!({"wrong": number}),
        _ => sound(number),
    };
    bench.write("a.jsonl", lines((0..3000).map(dirty)));
    bench.write("b.jsonl.gz", gzip(&lines((2000..5000).map(dirty))));
    let clean = |threads: usize| {
        let config = CleanConfig { threads: NonZeroUsize::new(threads), ..config(&bench, "out.jsonl") };
        let report = run(&bench, &["a.jsonl", "b.jsonl.gz"], &config).expect("readable");
        (bench.read("out.jsonl"), serde_json::to_string(&report).expect("JSON"), report.to_html())
    };
    let one = clean(1);
    for threads in [2, 3, 8] {
        assert!(clean(threads) == one, "{threads} threads");
    }
}

#[test]
fn rejected_records_can_be_put_back() {
    let bench = Bench::new();
    let cut = json!({"id": "cut", "prompt": "Who is it?", "completion": "It was the man from the"});
    let twice = json!({"id": "twice", "prompt": "What is it?", "completion": "Rain."});
    let nameless = json!({"prompt": " Where is it? ", "completion": "It is over there, under the"});
    bench.write("raw.jsonl", lines([twice.clone(), cut, twice, nameless, json!({"id": "bad"})]));
    let all = run(&bench, &["raw.jsonl"], &config(&bench, "out.jsonl")).expect("readable");
    assert_eq!((all.kept, all.rejected), (1, 4));
    let ids: Vec<&str> = all.rejections.iter().map(|rejection| rejection.id.as_str()).collect();
    for (id, line) in ids.iter().zip([2, 3, 4]) {
        let keep = CleanConfig { keep: BTreeSet::from([(*id).to_owned()]), ..config(&bench, "out.jsonl") };
        let report = run(&bench, &["raw.jsonl"], &keep).expect("readable");
        assert_eq!((report.kept, report.rejected), (2, 3), "{id}");
        let put_back: Vec<u64> = report.put_back.iter().map(|rejection| rejection.place.line).collect();
        assert_eq!(put_back, [line], "{id}");
        assert!(report.rejections.iter().all(|rejection| rejection.place.line != line), "{id}");
        assert!(report.passes.iter().all(|pass| pass.kept <= report.read));
    }
    for id in ["nobody", "bad"] {
        let keep = CleanConfig { keep: BTreeSet::from([id.to_owned()]), ..config(&bench, "none.jsonl") };
        assert!(matches!(run(&bench, &["raw.jsonl"], &keep), Err(Error::Keep { id: found }) if found == id));
        assert!(!bench.path("none.jsonl").exists());
    }
}

#[test]
fn a_dry_run_writes_nothing() {
    let bench = Bench::new();
    bench.write("raw.jsonl", lines((0..20).chain(0..5).map(sound)));
    let dry = run(&bench, &["raw.jsonl"], &CleanConfig::default()).expect("readable");
    let names = |bench: &Bench| std::fs::read_dir(bench.path(".")).expect("a folder").count();
    assert_eq!(names(&bench), 1);
    assert_eq!(run(&bench, &["raw.jsonl"], &config(&bench, "out.jsonl")).expect("readable"), dry);
    assert_eq!((dry.kept, dry.rejected), (20, 5));
}

#[test]
fn files_of_no_use_stop_before_anything_is_written() {
    let bench = Bench::new();
    bench.write("good.jsonl", lines((0..3).map(sound)));
    bench.write("columns.csv", "frage,antwort\na,b\n");
    let inputs = |other: &str| run(&bench, &["good.jsonl", other], &config(&bench, "out.jsonl"));
    assert!(matches!(inputs("absent.jsonl"), Err(Error::Open { .. })));
    assert!(matches!(inputs("."), Err(Error::Folder { .. })));
    assert!(matches!(inputs("columns.csv"), Err(Error::Columns { .. })));
    assert!(!bench.path("out.jsonl").exists());
}

/// A hundred megabytes without a line break, a very large number of brackets, and bytes that are not text, each among
/// valid lines.
#[test]
fn a_record_that_cannot_be_read_leaves_the_others() {
    let bench = Bench::new();
    let mut bytes = lines([sound(1)]);
    bytes.extend_from_slice(b"{\"text\":\"");
    bytes.resize(bytes.len() + (100 << 20), b'x');
    bytes.extend_from_slice(b"\"}\n");
    bytes.extend_from_slice(&lines([sound(2)]));
    bytes.extend(std::iter::repeat_n(b'[', 1 << 20));
    // In a file that is UTF-8 elsewhere.
    bytes.extend_from_slice(b"\n{\"prompt\":\"\xC3\xA9\xC3(\"}\n");
    bytes.extend_from_slice(&lines([sound(3)]));
    for (name, bytes) in [("raw.jsonl", bytes.clone()), ("raw.jsonl.gz", gzip(&bytes))] {
        bench.write(name, bytes);
        let report = run(&bench, &[name], &config(&bench, "out.jsonl")).expect("readable");
        let reasons: Vec<(u64, &str)> =
            report.rejections.iter().map(|rejection| (rejection.place.line, rejection.reason.as_str())).collect();
        assert_eq!(report.kept, 3);
        assert_eq!(reasons[0], (2, "longer than 16777216 bytes"));
        assert_eq!(reasons[1].0, 4);
        assert!(reasons[1].1.starts_with("not JSON: recursion limit exceeded"), "{}", reasons[1].1);
        assert_eq!(reasons[2], (5, "invalid UTF-8 after byte 13"));
        // Only a short part of them is shown.
        assert!(report.to_html().len() < 100_000);
    }
}
