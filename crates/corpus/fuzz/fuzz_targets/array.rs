//! JSON arrays, or lines if the file does not begin with a bracket.
#![no_main]

mod common;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| common::check("x.json", bytes));
