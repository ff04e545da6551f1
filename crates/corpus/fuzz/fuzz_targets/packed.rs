//! Compressed files, recognised by their first bytes.
#![no_main]

mod common;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    common::check("x.jsonl.gz", bytes);
    common::check("x.csv.zst", bytes);
});
