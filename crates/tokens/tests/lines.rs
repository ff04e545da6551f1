//! 2,000 lines have the ids of mistral-common, sentencepiece, tokenizers and transformers (`tests/golden/lines.py`).

mod common;

use std::collections::BTreeMap;

use common::gguf::{Value, write};
use common::{fixture, golden, pair};
use foehn_tokens::{TextStream, Tokenizer};
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Golden {
    lines: Vec<String>,
    #[serde(rename = "tekken-v3")]
    ids: Vec<Vec<u32>>,
    /// Per tokenizer, the first digits of the SHA-256 of each line's ids.
    digests: BTreeMap<String, Vec<String>>,
    /// Per tokenizer, the lines that are decoded to another text.
    decoded: BTreeMap<String, BTreeMap<usize, String>>,
    bytes: Vec<(Vec<u32>, String)>,
}

fn load() -> Golden {
    let file = std::fs::File::open(golden().join("lines.json.gz")).unwrap();
    let golden: Golden = serde_json::from_reader(flate2::read::GzDecoder::new(file)).unwrap();
    assert_eq!(golden.lines.len(), 2000);
    golden
}

fn digest(ids: &[u32]) -> String {
    let text: Vec<String> = ids.iter().map(u32::to_string).collect();
    Sha256::digest(text.join(" ")).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn check(golden: &Golden, name: &str, tokenizer: &Tokenizer) {
    let (digests, decoded) = (&golden.digests[name], &golden.decoded[name]);
    assert_eq!(digests.len(), golden.lines.len());
    let mut wrong = Vec::new();
    for (index, line) in golden.lines.iter().enumerate() {
        let ids = tokenizer.encode_text(line).unwrap();
        let text = tokenizer.decode(&ids, true);
        if digest(&ids) != digests[index] || text != *decoded.get(&index).unwrap_or(line) {
            wrong.push(format!("{index} {line:?}: {ids:?}, {text:?}"));
        }
        let mut stream = TextStream::new(true);
        let streamed: String = ids.iter().map(|id| stream.push(tokenizer, *id)).collect();
        assert_eq!(streamed + &stream.finish(), text, "{name}: {line:?}");
    }
    assert!(wrong.is_empty(), "{name}, {} lines:\n{}", wrong.len(), wrong[..wrong.len().min(9)].join("\n"));
}

#[test]
fn lines_have_the_ids_of_the_references() {
    let golden = load();
    for name in ["tekken-v3", "tekken-v13"] {
        check(&golden, name, &Tokenizer::open(fixture(name)).unwrap());
    }
    for name in ["v1", "v3", "v7", "smollm2", "mini-first", "mini-legacy"] {
        check(&golden, name, &pair(name).tokenizer);
    }
}

#[test]
fn tekken_ids_are_decoded_as_by_the_reference() {
    let golden = load();
    let tokenizer = Tokenizer::open(fixture("tekken-v3")).unwrap();
    for (line, ids) in golden.lines.iter().zip(&golden.ids) {
        assert_eq!(&tokenizer.encode_text(line).unwrap(), ids, "{line:?}");
        assert_eq!(&tokenizer.decode(ids, false), line);
    }
    for (ids, text) in &golden.bytes {
        assert_eq!(&tokenizer.decode(ids, true), text, "{ids:?}");
    }
}

/// The same tokens in a GGUF file: with the merges that llama.cpp's converter finds for a rank, the two parts of a token
/// that the ranks before it merge it to.
#[test]
fn a_gguf_of_tekken_has_the_ids_of_the_reference() {
    let tekken = Tokenizer::open(fixture("tekken-v3")).unwrap();
    let tokens: Vec<String> = (0..3000).map(|id| tekken.token_text(id).unwrap().to_owned()).collect();
    let ranks: BTreeMap<&str, usize> = tokens[1000..].iter().map(String::as_str).zip(0..).collect();
    let merges = tokens[1256..].iter().map(|token| parts(token, &ranks).join(" ")).collect();
    let (_folder, path) = write(&[
        ("tokenizer.ggml.model", Value::Str("gpt2".to_owned())),
        ("tokenizer.ggml.pre", Value::Str("tekken".to_owned())),
        ("tokenizer.ggml.token_type", Value::I32s((0..3000).map(|id| if id < 1000 { 3 } else { 1 }).collect())),
        ("tokenizer.ggml.tokens", Value::Strings(tokens.clone())),
        ("tokenizer.ggml.merges", Value::Strings(merges)),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
    ]);
    check(&load(), "tekken-v3", &Tokenizer::open(path).unwrap());
}

fn parts(token: &str, ranks: &BTreeMap<&str, usize>) -> Vec<String> {
    let mut parts: Vec<String> = token.chars().map(String::from).collect();
    loop {
        let rank = |pair: &[String]| ranks.get(pair.concat().as_str()).filter(|rank| **rank < ranks[token]);
        let best = parts.windows(2).enumerate().filter_map(|(at, pair)| Some((*rank(pair)?, at))).min();
        let Some((_, at)) = best else { return parts };
        let right = parts.remove(at + 1);
        parts[at] += &right;
    }
}
