//! Reads the committed inputs of the fuzz targets with a stable compiler: no panic, and every place in order.

use std::path::Path;

#[path = "../fuzz/fuzz_targets/common.rs"]
mod common;

use foehn_corpus::Registry;

/// The inputs of a target, with their names.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("readable").path();
            (path.display().to_string(), std::fs::read(&path).expect("readable"))
        })
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 2, "{target}");
    inputs
}

#[test]
fn no_input_is_a_panic() {
    for (target, names) in [
        ("lines", &["x.jsonl"][..]),
        ("array", &["x.json"]),
        ("table", &["x.csv"]),
        ("parquet", &["x.parquet"]),
        ("packed", &["x.jsonl.gz", "x.csv.zst"]),
        ("clean", &["x.jsonl"]),
    ] {
        for (_, bytes) in inputs(target) {
            names.iter().for_each(|name| common::check(name, &bytes));
            // Truncated anywhere, the file still causes no panic.
            for part in 1..8 {
                names.iter().for_each(|name| common::check(name, &bytes[..bytes.len() * part / 8]));
            }
        }
    }
}

#[test]
fn a_pipeline_or_an_error_that_names_the_file() {
    for (name, bytes) in inputs("pipeline") {
        let text = String::from_utf8(bytes).expect("text");
        let result = Registry::default().parse(&text, Path::new("/nowhere/pipeline.toml"));
        let is_sound = name.ends_with("default") || name.ends_with("settings");
        assert_eq!(result.is_ok(), is_sound, "{name}: {result:?}");
        assert!(result.err().is_none_or(|error| error.to_string().contains("/nowhere/")), "{name}");
    }
}
