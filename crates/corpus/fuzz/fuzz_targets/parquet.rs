//! Parquet files.
#![no_main]

mod common;

// The decoder panics in damaged pages, and the reader makes an error of it: here alone, a panic that is caught is no fault.
// One that is not caught still ends the run.
libfuzzer_sys::fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |bytes: &[u8]| {
    common::check("x.parquet", bytes);
});
