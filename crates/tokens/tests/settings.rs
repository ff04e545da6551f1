//! The settings of published tokenizers are accepted, and give the same ids as the `tokenizers` package.

mod common;

use common::{fixture, golden};
use foehn_tokens::Tokenizer;
use serde_json::Value;

#[test]
fn the_settings_of_published_tokenizers() {
    let text = std::fs::read_to_string(golden().join("tokenizer_settings.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let texts: Vec<&str> = golden["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let settings = golden["settings"].as_object().unwrap();
    assert!(settings.len() >= 18 && texts.len() >= 24);
    for (name, setting) in settings {
        let base = fixture(setting["base"].as_str().unwrap()).join("tokenizer.json");
        let mut file: Value = serde_json::from_str(&std::fs::read_to_string(base).unwrap()).unwrap();
        for field in ["normalizer", "pre_tokenizer", "post_processor", "decoder"] {
            file[field] = setting[field].clone();
        }
        for (field, value) in setting["model"].as_object().unwrap() {
            file["model"][field] = value.clone();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, file.to_string()).unwrap();
        let tokenizer = Tokenizer::open(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (text, ids) in texts.iter().zip(setting["ids"].as_array().unwrap()) {
            let expected: Vec<u32> = serde_json::from_value(ids.clone()).unwrap();
            assert_eq!(tokenizer.encode_text(text).unwrap(), expected, "{name}: {text:?}");
        }
    }
}
