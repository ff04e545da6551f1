//! A tokenizer from a GGUF file equals the one from which the file was converted.

mod common;

use std::path::PathBuf;

use common::gguf::{Piece, Value, pieces, write};
use common::{assistant, fixture, pair, user};
use foehn_tokens::{ChatTemplate, Error, Tokenizer};
use tempfile::TempDir;

type Metadata = Vec<(&'static str, Value)>;

/// SmolLM2's tokenizer.json, converted as in llama.cpp.
fn byte_level() -> Metadata {
    let text = std::fs::read_to_string(fixture("smollm2").join("tokenizer.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let vocab = json["model"]["vocab"].as_object().unwrap();
    let mut tokens: Vec<(u64, String)> = vocab.iter().map(|(text, id)| (id.as_u64().unwrap(), text.clone())).collect();
    tokens.sort_unstable();
    let control = json["added_tokens"].as_array().unwrap().len();
    let kinds = (0..tokens.len()).map(|id| if id < control { 3 } else { 1 }).collect();
    let merges = json["model"]["merges"].as_array().unwrap();
    let template = std::fs::read_to_string(fixture("smollm2").join("chat_template.jinja")).unwrap();
    vec![
        ("tokenizer.ggml.model", Value::Str("gpt2".to_owned())),
        ("tokenizer.ggml.pre", Value::Str("smollm".to_owned())),
        ("tokenizer.ggml.tokens", Value::Strings(tokens.into_iter().map(|(_, text)| text).collect())),
        ("tokenizer.ggml.token_type", Value::I32s(kinds)),
        (
            "tokenizer.ggml.merges",
            Value::Strings(merges.iter().map(|line| line.as_str().unwrap().to_owned()).collect()),
        ),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
        ("tokenizer.chat_template", Value::Str(template)),
    ]
}

/// One of Mistral's SentencePiece models, converted as in llama.cpp.
fn sentencepiece(name: &str) -> Metadata {
    llama(&pieces(&std::fs::read(fixture(name)).unwrap()))
}

#[test]
fn it_is_the_tokenizer_that_was_converted() {
    let check = |name: &str, metadata: Vec<(&str, Value)>| {
        let (_folder, path) = write(&metadata);
        let tokenizer = Tokenizer::open(&path).unwrap();
        assert_eq!(tokenizer.fingerprint(), pair(name).tokenizer.fingerprint(), "{name}");
        let text = "It's 1234 o'clock — naïve </s> <|im_end|> 👋🏽";
        assert_eq!(tokenizer.encode_text(text).unwrap(), pair(name).tokenizer.encode_text(text).unwrap(), "{name}");
    };
    check("smollm2", byte_level());
    check("v1", sentencepiece("tokenizer.model.v1"));
    check("v3", sentencepiece("tokenizer.model.v3"));
    check("v7", sentencepiece("tokenizer.model.v7"));
}

#[test]
fn it_brings_its_template() {
    let (folder, path) = write(&byte_level());
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let template = ChatTemplate::open(&path, &tokenizer).unwrap();
    assert_eq!(template.fingerprint(), pair("smollm2").template.fingerprint());
    let messages = [user("a"), assistant("b")];
    let ours = template.sample(&tokenizer, &messages).unwrap();
    assert_eq!(ours, pair("smollm2").template.sample(&pair("smollm2").tokenizer, &messages).unwrap());

    let (_folder, path) = write(&sentencepiece("tokenizer.model.v3"));
    let tokenizer = Tokenizer::open(&path).unwrap();
    let error = ChatTemplate::open(&path, &tokenizer).unwrap_err();
    assert!(matches!(error, Error::NoTemplate { .. }), "{error}");
}

/// Merges of SentencePiece may form an unused piece, but the result never has one.
#[test]
fn unused_pieces_are_taken_apart_again() {
    let mut pieces: Vec<Piece> =
        vec![("<unk>".to_owned(), 0.0, 2), ("<s>".to_owned(), 0.0, 3), ("</s>".to_owned(), 0.0, 3)];
    pieces.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6)));
    let more = [("ab", -1.0, 5), ("abc", -2.0, 1), ("▁", -3.0, 1), ("a", -4.0, 1), ("b", -5.0, 1), ("c", -6.0, 1)];
    pieces.extend(more.map(|(text, score, kind)| (text.to_owned(), score, kind)));
    let (_folder, path) = write(&llama(&pieces));
    let tokenizer = Tokenizer::open(&path).unwrap();
    let texts = |text: &str| -> Vec<String> {
        tokenizer.encode_text(text).unwrap().iter().map(|id| tokenizer.token_text(*id).unwrap().to_owned()).collect()
    };
    assert_eq!(texts("abc"), ["▁", "abc"]);
    assert_eq!(texts("abab"), ["▁", "a", "b", "a", "b"]);
    assert_eq!(texts("dab"), ["▁", "<0x64>", "a", "b"]);
}

#[test]
fn a_contradiction_is_named() {
    let check = |change: &dyn Fn(&mut Metadata), message: &str| {
        let mut metadata = byte_level();
        change(&mut metadata);
        let (_folder, path): (TempDir, PathBuf) = write(&metadata);
        let error = Tokenizer::open(&path).unwrap_err().to_string();
        assert!(error.contains(message), "{error:?} does not say {message:?}");
        assert!(error.contains("model.gguf") || message.contains("GGUF"), "{error}");
    };
    let set = |key: &'static str, value: fn() -> Value| {
        move |metadata: &mut Metadata| {
            metadata.retain(|(other, _)| *other != key);
            metadata.push((key, value()));
        }
    };
    check(&set("tokenizer.ggml.model", || Value::Str("bert".to_owned())), "tokenizer.ggml.model is bert");
    check(&set("tokenizer.ggml.model", || Value::U32(1)), "the GGUF file cannot be read");
    check(
        &set("tokenizer.ggml.pre", || Value::Str("dbrx".to_owned())),
        "tokenizer.ggml.pre is dbrx, which is not supported",
    );
    check(&set("tokenizer.ggml.token_type", || Value::I32s(vec![1])), "1 types for 49152 tokens");
    check(&set("tokenizer.ggml.token_type", || Value::I32s(vec![7; 49152])), "7 is no token type");
    check(&set("tokenizer.ggml.eos_token_id", || Value::U32(49152)), "eos_token_id: there is no token 49152");
    check(
        &set("tokenizer.ggml.merges", || Value::Strings(vec!["Ġt".to_owned()])),
        "merges[0]: \"Ġt\" is not two tokens",
    );
    check(&set("tokenizer.ggml.merges", || Value::Strings(vec!["Ġ ☃".to_owned()])), "model.merges: ");
    check(&|metadata| metadata.retain(|(key, _)| *key != "tokenizer.ggml.merges"), "merges: the key is missing");
    check(&|metadata| metadata.retain(|(key, _)| *key != "tokenizer.ggml.model"), "holds no tokenizer");
}

fn llama(pieces: &[Piece]) -> Metadata {
    vec![
        ("tokenizer.ggml.model", Value::Str("llama".to_owned())),
        ("tokenizer.ggml.tokens", Value::Strings(pieces.iter().map(|piece| piece.0.clone()).collect())),
        ("tokenizer.ggml.scores", Value::F32s(pieces.iter().map(|piece| piece.1).collect())),
        ("tokenizer.ggml.token_type", Value::I32s(pieces.iter().map(|piece| piece.2).collect())),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
    ]
}
