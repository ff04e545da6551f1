//! Pipeline files: the result is a pipeline, or an error that names the file.
#![no_main]

use std::path::Path;

use foehn_corpus::Registry;

libfuzzer_sys::fuzz_target!(|text: &str| {
    // The folder does not exist, so no text can name a file that could be read.
    if let Err(error) = Registry::default().parse(text, Path::new("/nowhere/at/all/pipeline.toml")) {
        assert!(!error.to_string().is_empty());
    }
});
