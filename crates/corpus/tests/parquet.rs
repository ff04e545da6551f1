//! Parquet files written by pyarrow (`fixtures/make_parquet.py`), complete and damaged.

mod common;

use std::path::{Path, PathBuf};

use common::Bench;
use foehn_corpus::{Error, ReadConfig, read, read_clean, read_with};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(&format!("{name}.parquet"))).expect("the fixture is there")
}

/// The number of rows before the error, and the error.
fn damaged(bench: &Bench, name: &str, bytes: &[u8]) -> (u64, Option<Error>) {
    let path = bench.write(name, bytes);
    let reader = match read(&path) {
        Ok(reader) => reader,
        Err(error) => return (0, Some(error)),
    };
    let mut rows = 0;
    for line in reader {
        match line {
            Ok(line) => {
                rows += 1;
                assert_eq!(line.place.line, rows);
            }
            Err(error) => return (rows, Some(error)),
        }
    }
    (rows, None)
}

#[test]
fn rows_read_as_the_same_rows_in_json_do() {
    for (name, count) in [("chat_snappy", 40), ("pairs_zstd", 60)] {
        let expected = read_clean(&fixture(&format!("{name}.jsonl"))).expect("readable");
        let found = read_clean(&fixture(&format!("{name}.parquet"))).expect("readable");
        assert_eq!(found.len(), count);
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn every_compression_gives_the_same_rows() {
    let expected = read_clean(&fixture("pairs_zstd.jsonl")).expect("readable");
    for name in ["pairs_brotli", "pairs_lz4"] {
        assert_eq!(read_clean(&fixture(&format!("{name}.parquet"))).expect("readable"), expected, "{name}");
    }
}

/// The two older forms of LZ4, from `data/` of apache/parquet-testing (Apache-2.0), with the rows that its readme names.
#[test]
fn the_older_lz4_is_read_too() {
    let config = ReadConfig { map: "text={c1} {c0} {v11}".parse().expect("a sound map"), ..ReadConfig::default() };
    for name in ["hadoop_lz4", "plain_lz4"] {
        let lines = read_with(&fixture(&format!("{name}.parquet")), &config).expect("known columns");
        let text = |line: foehn_corpus::Result<foehn_corpus::Line>| {
            line.expect("readable").record.expect("a record").messages[0].content.clone()
        };
        let expected = ["abc 1593604800 42.0", "def 1593604800 7.7", "abc 1593604801 42.125", "def 1593604801 7.7"];
        assert_eq!(lines.map(text).collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn the_first_bytes_tell_the_format_too() {
    let bench = Bench::new();
    assert!(matches!(damaged(&bench, "no-extension", &bytes("pairs_zstd")), (60, None)));
}

#[test]
fn what_is_no_whole_file_is_an_error_that_names_it() {
    let bench = Bench::new();
    let whole = bytes("chat_snappy");
    let garbage: Vec<u8> = (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let cases: [&[u8]; 7] =
        [&whole[..4], &whole[..11], &whole[..whole.len() / 2], &whole[..whole.len() - 1], &whole[1..], b"{}", &garbage];
    for case in cases {
        match damaged(&bench, "x.parquet", case) {
            (0, Some(error @ Error::Parquet { row: 0, .. })) => assert!(error.to_string().contains("x.parquet")),
            other => panic!("expected an error at the door, found {other:?} for {} bytes", case.len()),
        }
    }
    assert!(matches!(damaged(&bench, "x.parquet", b""), (0, Some(Error::Empty { .. }))));
}

#[test]
fn a_row_that_cannot_be_decoded_ends_the_file_at_its_place() {
    let bench = Bench::new();
    let mut broken = bytes("chat_snappy");
    let middle = broken.len() / 2;
    broken[4..middle].fill(0xFF);
    match damaged(&bench, "x.parquet", &broken) {
        (rows, Some(Error::Parquet { row, .. })) => assert_eq!(rows, row),
        other => panic!("expected a decoding error, found {other:?}"),
    }
}

#[test]
fn no_flipped_byte_is_a_panic() {
    let bench = Bench::new();
    // The step sizes have no common factor with the width of a field, so every kind of byte is tested in seconds.
    for (name, step) in [("chat_snappy", 11), ("pairs_zstd", 3)] {
        let whole = bytes(name);
        for at in (0..whole.len()).step_by(step) {
            let mut flipped = whole.clone();
            flipped[at] ^= [0xFF, 0x01, 0x80][at % 3];
            match damaged(&bench, "x.parquet", &flipped) {
                (_, None | Some(Error::Columns { .. } | Error::Empty { .. })) => {}
                (rows, Some(Error::Parquet { row, .. })) => assert_eq!(rows, row, "{name}, byte {at}"),
                (_, Some(other)) => panic!("{name}, byte {at}: {other:?}"),
            }
        }
    }
}
