//! Parquet files.
#![no_main]

mod common;

// The decoder panics on some damaged pages, and the reader turns the panic into an error. So in this target, a caught
// panic is not a failure. An uncaught one still ends the run.
libfuzzer_sys::fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |bytes: &[u8]| {
    common::check("x.parquet", bytes);
});
