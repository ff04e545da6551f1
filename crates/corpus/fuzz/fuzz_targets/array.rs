//! JSON arrays, or lines where no bracket opens one.
#![no_main]

mod common;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| common::check("x.json", bytes));
