//! A tokenizer's keys for a GGUF file are read back as that tokenizer, and what they can't say is refused.

mod common;

use std::cmp::Reverse;
use std::fs;
use std::path::Path;

use common::gguf::{pieces, write_keys};
use common::{assistant, fixture, golden, pair, user};
use foehn_tokens::{ChatTemplate, Error, MistralVersion, Tokenizer};
use foehn_weights::{Gguf, GgufValue, Weights};
use serde_json::{Value, json};
use tempfile::TempDir;

fn lines() -> Vec<String> {
    let file = std::fs::File::open(golden().join("lines.json.gz")).unwrap();
    let golden: Value = serde_json::from_reader(flate2::read::GzDecoder::new(file)).unwrap();
    serde_json::from_value(golden["lines"].clone()).unwrap()
}

/// A GGUF file with the keys, for a model of so many rows.
fn written(tokenizer: &Tokenizer, template: &ChatTemplate, rows: usize) -> (TempDir, Weights) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write_keys(&path, &tokenizer.gguf_metadata(template, rows).unwrap());
    let weights = Weights::open(&path).unwrap();
    (folder, weights)
}

fn open(path: impl AsRef<Path>) -> (Tokenizer, ChatTemplate) {
    let tokenizer = Tokenizer::open(&path).unwrap();
    let template = ChatTemplate::open(&path, &tokenizer).unwrap();
    (tokenizer, template)
}

/// What is the same after writing and reading.
#[derive(Debug, PartialEq)]
enum Same {
    /// The tokenizer, by its fingerprint.
    Tokenizer,
    /// The ids of all texts.
    Ids,
    /// The ids of texts that do not begin with a space.
    IdsWithoutSpace,
    /// The ids of conversations.
    Conversations,
}

#[test]
fn keys_are_read_back() {
    let lines = lines();
    let turns = [user("  Hi there"), assistant("Hello."), user("Bye 123")];
    let check_at = |path: &Path, version: Option<MistralVersion>, same: Same| {
        let name = path.display();
        let tokenizer = Tokenizer::open(path).unwrap();
        let template = match version {
            None => ChatTemplate::open(path, &tokenizer).unwrap(),
            Some(version) => ChatTemplate::mistral(version, &tokenizer).unwrap(),
        };
        let (folder, weights) = written(&tokenizer, &template, tokenizer.vocab_size() + 7);
        let tokens = weights.gguf().unwrap().get_strings("tokenizer.ggml.tokens").unwrap().unwrap();
        assert_eq!(tokens.len(), tokenizer.vocab_size() + 7, "{name}");
        let (read, read_template) = open(folder.path());
        assert_eq!(read.fingerprint() == tokenizer.fingerprint(), same == Same::Tokenizer, "{name}");
        assert_eq!(read_template.fingerprint(), template.fingerprint(), "{name}");
        let ends = |tokenizer: &Tokenizer| (tokenizer.bos_id(), tokenizer.eos_ids().to_vec(), tokenizer.vocab_size());
        assert_eq!(ends(&read), ends(&tokenizer), "{name}");
        assert_eq!((read.padding_id(), read.add_bos()), (tokenizer.padding_id(), tokenizer.add_bos()), "{name}");
        for line in &lines {
            let is_same = match same {
                Same::Tokenizer | Same::Ids => true,
                Same::IdsWithoutSpace => !line.starts_with([' ', '▁']),
                Same::Conversations => continue,
            };
            let (made, expected) = (read.encode_text(line).unwrap(), tokenizer.encode_text(line).unwrap());
            assert_eq!(made == expected, is_same, "{name}: {line:?}");
        }
        let prompt = |tokenizer: &Tokenizer, template: &ChatTemplate| template.prompt(tokenizer, &turns).unwrap();
        if same != Same::IdsWithoutSpace {
            assert_eq!(prompt(&read, &read_template), prompt(&tokenizer, &template), "{name}");
        }
        // Keys that were read are written again.
        let again = read.gguf_metadata(&read_template, tokens.len()).unwrap();
        let first = tokenizer.gguf_metadata(&template, tokens.len()).unwrap();
        if same == Same::Tokenizer {
            let sorted = |mut keys: Vec<(String, GgufValue)>| {
                keys.sort_by(|left, right| left.0.cmp(&right.0));
                keys
            };
            assert!(sorted(again) == sorted(first), "{name}");
        }
    };
    let check = |name: &str, version, same| check_at(&fixture(name), version, same);
    check("smollm2", None, Same::Tokenizer);
    for name in ["tokenizer.model.v1", "tokenizer.model.v3", "tokenizer.model.v7"] {
        check(name, None, Same::Tokenizer);
    }
    check("mini-tekken", Some(MistralVersion::V7), Same::Tokenizer);
    check("mini-tekken", Some(MistralVersion::V13), Same::Tokenizer);
    check("tekken-v3", None, Same::Ids);
    check("tekken-v13", None, Same::Ids);
    let (legacy, first) = (with_merges("tokenizer.model.v3", true), with_merges("tokenizer.model.v3", false));
    let oldest = with_merges("tokenizer.model.v1", true);
    check_at(oldest.path(), Some(MistralVersion::V1), Same::Ids);
    check_at(legacy.path(), Some(MistralVersion::V3), Same::Ids);
    check_at(first.path(), Some(MistralVersion::V3), Same::IdsWithoutSpace);
    check_at(first.path(), None, Same::Conversations);
}

/// The values that llama.cpp reads, by hand.
#[test]
fn keys_have_llamas_values() {
    let (tokenizer, template) = open(fixture("smollm2"));
    let (_folder, weights) = written(&tokenizer, &template, 49155);
    let gguf: &Gguf = weights.gguf().unwrap();
    let text = |key: &str| gguf.get_str(key).unwrap();
    let id = |key: &str| gguf.get_u32(&format!("tokenizer.ggml.{key}_token_id")).unwrap();
    assert_eq!((text("tokenizer.ggml.model"), text("tokenizer.ggml.pre")), (Some("gpt2"), Some("smollm")));
    assert_eq!(text("tokenizer.chat_template"), template.jinja_source());
    assert_eq!([id("bos"), id("eos"), id("eot"), id("unknown")], [Some(1), Some(2), None, None]);
    let truth = |key: &str| gguf.get_bool(key).unwrap();
    assert_eq!(truth("tokenizer.ggml.add_bos_token"), Some(false));
    assert_eq!(truth("tokenizer.ggml.add_eos_token"), Some(false));
    let tokens = gguf.get_strings("tokenizer.ggml.tokens").unwrap().unwrap();
    let kinds = gguf.get_i32s("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!(
        (tokens[2], kinds[2], tokens[1000], kinds[1000]),
        ("<|im_end|>", 3, tokenizer.token_text(1000).unwrap(), 1)
    );
    assert_eq!((tokens[49153], kinds[49153], tokens.len(), kinds.len()), ("[PAD49153]", 5, 49155, 49155));
    assert_eq!(gguf.get_strings("tokenizer.ggml.merges").unwrap().unwrap()[0], "Ġ t");

    let (tokenizer, template) = open(fixture("tekken-v3"));
    let (_folder, weights) = written(&tokenizer, &template, 3000);
    let gguf = weights.gguf().unwrap();
    assert_eq!(gguf.get_str("tokenizer.ggml.pre").unwrap(), Some("tekken"));
    assert_eq!(gguf.get_u32("tokenizer.ggml.padding_token_id").unwrap(), Some(11));
    let template = gguf.get_str("tokenizer.chat_template").unwrap().unwrap();
    assert!(template.starts_with("{#- mistral-v3,"), "{template}");
}

/// Two stop tokens, as Llama 3 has them, and a third one.
#[test]
fn further_stop_tokens_have_keys() {
    let changed = |stops: Value| {
        let folder = copied("smollm2");
        fs::write(folder.path().join("generation_config.json"), json!({"eos_token_id": stops}).to_string()).unwrap();
        folder
    };
    let check = |stops: Value, expected: [Option<u32>; 3]| {
        let (tokenizer, template) = open(changed(stops.clone()).path());
        let (folder, weights) = written(&tokenizer, &template, 49152);
        let id = |key: &str| weights.gguf().unwrap().get_u32(&format!("tokenizer.ggml.{key}_token_id")).unwrap();
        assert_eq!(["eos", "eot", "eom"].map(id), expected, "{stops}");
        assert_eq!(open(folder.path()).0.fingerprint(), tokenizer.fingerprint(), "{stops}");
    };
    check(json!([2, 3]), [Some(2), Some(3), None]);
    // llama.cpp knows <|endoftext|> (0) by its text, so the keys are first for the others.
    check(json!([0, 2, 4]), [Some(2), Some(4), Some(0)]);
    let (tokenizer, template) = open(changed(json!([2, 3, 4, 5])).path());
    refused(&tokenizer, &template, 49152, "a GGUF has keys for three stop tokens, \"<file_sep>\" is one more");
}

#[test]
fn what_a_gguf_cannot_say_is_refused() {
    let changed = |source: &Path, change: &dyn Fn(&mut Value)| {
        let folder = copied_from(source);
        let path = folder.path().join("tokenizer.json");
        let mut file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut file);
        fs::write(&path, file.to_string()).unwrap();
        let (tokenizer, template) = open(folder.path());
        (folder, tokenizer, template)
    };
    let check_at = |source: &Path, change: &dyn Fn(&mut Value), expected: &str| {
        let (_folder, tokenizer, template) = changed(source, change);
        refused(&tokenizer, &template, tokenizer.vocab_size(), expected);
    };
    let check = |name: &str, change: &dyn Fn(&mut Value), expected: &str| check_at(&fixture(name), change, expected);
    let split = json!({"type": "Split", "pattern": {"Regex": "\\w+|\\W"}, "behavior": "Isolated", "invert": false});
    check(
        "smollm2",
        &|file| file["pre_tokenizer"]["pretokenizers"][0] = split.clone(),
        "no name for its pre-tokenizer",
    );
    check(
        "smollm2",
        &|file| file["normalizer"] = json!({"type": "NFKC"}),
        "no place for its normalizer {\"type\":\"NFKC\"}",
    );
    check("smollm2", &|file| file["normalizer"] = json!({"type": "NFC"}), "no place for its normalizer");
    check("mini-first", &|file| file["normalizer"] = json!({"type": "NFC"}), "no place for its normalizer");
    check("mini-first", &|file| file["pre_tokenizer"]["split"] = json!(true), "has one inside");
    check("mini-legacy", &|_| {}, "its control token \"[/INST]\" strips white space");
    let word = json!({"id": 49152, "content": "some word", "single_word": true, "lstrip": false, "rstrip": false, "normalized": false, "special": false});
    check(
        "smollm2",
        &|file| file["added_tokens"].as_array_mut().unwrap().push(word.clone()),
        "\"some word\" depends on the characters around it",
    );
    check("mini-first", &|_| {}, "which is no token, so only llama.cpp would form it");
    let fallback = with_merges("tokenizer.model.v1", false);
    check_at(
        fallback.path(),
        &|file| {
            file["model"]["merges"].as_array_mut().unwrap().pop();
        },
        "form a token, and no merge says so",
    );
    check_at(
        fallback.path(),
        &|file| {
            let merges = file["model"]["merges"].as_array_mut().unwrap();
            let joined = |merge: &Value| format!("{}{}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap());
            let at = merges.windows(2).position(|pair| joined(&pair[0]) == joined(&pair[1])).unwrap();
            let moved = merges.remove(at);
            merges.push(moved);
        },
        "stand apart",
    );

    // Qwen's normal form is left out, as by llama.cpp's converter.
    let qwen2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let (_folder, tokenizer, template) = changed(&fixture("smollm2"), &|file| {
        file["normalizer"] = json!({"type": "NFC"});
        let steps = &mut file["pre_tokenizer"]["pretokenizers"];
        steps[0] = json!({"type": "Split", "pattern": {"Regex": qwen2}, "behavior": "Isolated", "invert": false});
        steps[1]["use_regex"] = json!(false);
    });
    let (_gguf, weights) = written(&tokenizer, &template, 49152);
    assert_eq!(weights.gguf().unwrap().get_str("tokenizer.ggml.pre").unwrap(), Some("qwen2"));

    // Rows without text tokens, and text tokens without rows.
    let (tokenizer, template) = open(fixture("smollm2"));
    refused(&tokenizer, &template, 49151, "is behind the last of 49151 rows of the embedding");
    let control = json!({"id": 49152, "content": "<|new|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    let (_folder, tokenizer, template) =
        changed(&fixture("smollm2"), &|file| file["added_tokens"].as_array_mut().unwrap().push(control.clone()));
    let (folder, _) = written(&tokenizer, &template, 49152);
    assert_eq!(open(folder.path()).0.vocab_size(), 49152, "a control token without a row is left out");

    let other = &pair("v3").template;
    let error = tokenizer.gguf_metadata(other, 49153).unwrap_err();
    assert!(matches!(error, Error::WrongTokenizer { .. }), "{error}");
}

#[track_caller]
fn refused(tokenizer: &Tokenizer, template: &ChatTemplate, rows: usize, expected: &str) {
    let error = tokenizer.gguf_metadata(template, rows).unwrap_err();
    assert!(matches!(error, Error::Unsaveable { .. }) && error.to_string().contains(expected), "{error}");
}

/// The pieces of a SentencePiece model as a `tokenizer.json`, as transformers converts it; with the template of mini-first.
fn with_merges(name: &str, legacy: bool) -> TempDir {
    let pieces = pieces(&fs::read(fixture(name)).unwrap());
    let known: std::collections::HashMap<&str, f32> =
        pieces.iter().filter(|(_, _, kind)| *kind == 1).map(|(text, score, _)| (text.as_str(), *score)).collect();
    let mut merges: Vec<(f32, [&str; 2])> = Vec::new();
    for (text, score) in &known {
        let splits = text.char_indices().skip(1).map(|(at, _)| text.split_at(at));
        let splits = splits.filter(|(left, right)| known.contains_key(left) && known.contains_key(right));
        merges.extend(splits.map(|(left, right)| (*score, [left, right])));
    }
    merges.sort_by(|(score, left), (other, right)| {
        let length = |pair: &[&str; 2]| Reverse(pair.map(str::len));
        other.total_cmp(score).then(length(left).cmp(&length(right))).then(left.cmp(right))
    });
    let folder = copied(if legacy { "mini-legacy" } else { "mini-first" });
    let path = folder.path().join("tokenizer.json");
    let mut file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    file["model"]["vocab"] = pieces.iter().zip(0..).map(|((text, ..), id)| (text.clone(), json!(id))).collect();
    file["model"]["merges"] = merges.into_iter().map(|(_, pair)| json!(pair)).collect();
    let control = pieces.iter().zip(0..).filter(|((_, _, kind), _)| matches!(kind, 2 | 3));
    let added = |(text, id): (&str, u32)| json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    file["added_tokens"] = control.map(|((text, ..), id)| added((text, id))).collect();
    fs::write(path, file.to_string()).unwrap();
    folder
}

/// A copy of a folder of `tests/golden/tokenizers`.
fn copied(name: &str) -> TempDir {
    copied_from(&fixture(name))
}

fn copied_from(source: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(source).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    folder
}
