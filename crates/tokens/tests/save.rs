//! A saved folder opens as the tokenizer and the template that were saved.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::gguf::{Value, pieces, write};
use common::{assistant, fixture, golden, pair, user};
use foehn_record::Message;
use foehn_tokens::{ChatTemplate, Error, MistralVersion, Tokenizer};
use serde_json::Value as Json;

fn open(path: impl AsRef<Path>) -> (Tokenizer, ChatTemplate) {
    let tokenizer = Tokenizer::open(&path).unwrap();
    let template = ChatTemplate::open(&path, &tokenizer).unwrap();
    (tokenizer, template)
}

fn json(path: PathBuf) -> Json {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Compares fingerprints, and the ids of the references; `tests/golden.rs` does the same for the originals.
#[test]
fn a_saved_folder_opens_as_what_was_saved() {
    let references = json(golden().join("templates.json"));
    let conversations: std::collections::BTreeMap<String, Vec<Message>> =
        serde_json::from_value(references["conversations"].clone()).unwrap();
    for pair in common::PAIRS.iter() {
        let name = pair.name;
        let folder = tempfile::tempdir().unwrap();
        let saved = folder.path().join("made/on the way");
        pair.tokenizer.save(&pair.template, &saved).unwrap();
        let (tokenizer, template) = open(&saved);
        assert_eq!(tokenizer.fingerprint(), pair.tokenizer.fingerprint(), "{name}");
        assert_eq!(template.fingerprint(), pair.template.fingerprint(), "{name}");
        for row in references[name]["texts"].as_array().unwrap() {
            let text = row["text"].as_str().unwrap();
            let ids = tokenizer.encode_text(text).unwrap();
            assert_eq!(serde_json::json!(ids), row["ids"], "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&ids, true), row["decoded"].as_str().unwrap(), "{name}: {text:?}");
        }
        for (title, expected) in references[name]["conversations"].as_object().unwrap() {
            if expected.is_null() {
                continue;
            }
            let messages = &conversations[title];
            let sample = template.sample(&tokenizer, messages).unwrap();
            assert_eq!(serde_json::json!(sample.input_ids()), expected["ids"], "{name}, {title}");
            let prompt = template.prompt(&tokenizer, &messages[..messages.len() - 1]).unwrap();
            assert_eq!(serde_json::json!(prompt), expected["prompt"], "{name}, {title}");
        }
        // A saved folder can be saved again, with the same bytes, also onto itself.
        let bytes = |folder: &Path| -> Vec<(PathBuf, Vec<u8>)> {
            let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            files.sort();
            files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
        };
        let before = bytes(&saved);
        tokenizer.save(&template, &saved).unwrap();
        assert!(before == bytes(&saved), "{name}");
    }
}

/// The `tokenizers` crate alone reads the file and gives the ids of the references.
#[test]
fn the_reference_implementation_reads_it() {
    let references = json(golden().join("templates.json"));
    for name in ["smollm2", "mini-first", "mini-legacy"] {
        let folder = tempfile::tempdir().unwrap();
        pair(name).tokenizer.save(&pair(name).template, folder.path()).unwrap();
        let mut theirs = tokenizers::Tokenizer::from_file(folder.path().join("tokenizer.json")).unwrap();
        let bos = pair(name).tokenizer.bos_id().filter(|_| pair(name).tokenizer.add_bos());
        let empty = theirs.encode("", true).unwrap();
        assert_eq!(empty.get_ids(), bos.into_iter().collect::<Vec<u32>>(), "{name}");
        theirs.set_encode_special_tokens(true);
        for row in references[name]["texts"].as_array().unwrap() {
            let ids = theirs.encode(row["text"].as_str().unwrap(), false).unwrap().get_ids().to_vec();
            assert_eq!(serde_json::json!(ids), row["ids"], "{name}: {}", row["text"]);
            assert_eq!(theirs.decode(&ids, true).unwrap(), row["decoded"].as_str().unwrap(), "{name}: {}", row["text"]);
        }
    }
}

/// Byte-level, with two stop tokens, a bos to add, a text token that is matched as a whole, and digits in groups of
/// three.
#[test]
fn a_gguf_becomes_a_tokenizer_json() {
    let source = json(fixture("smollm2").join("tokenizer.json"));
    let mut tokens: Vec<(u64, String)> = source["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(text, id)| (id.as_u64().unwrap(), text.clone()))
        .collect();
    tokens.sort_unstable();
    tokens.push((49152, "matched whole".to_owned()));
    let kinds = (0..=49152).map(|id| if id == 49152 { 4 } else { 1 + 2 * i32::from(id < 17) }).collect();
    let merges = source["model"]["merges"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned());
    let (_folder, path) = write(&[
        ("tokenizer.ggml.model", Value::Str("gpt2".to_owned())),
        ("tokenizer.ggml.pre", Value::Str("llama-bpe".to_owned())),
        ("tokenizer.ggml.tokens", Value::Strings(tokens.into_iter().map(|(_, text)| text).collect())),
        ("tokenizer.ggml.token_type", Value::I32s(kinds)),
        ("tokenizer.ggml.merges", Value::Strings(merges.collect())),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
        ("tokenizer.ggml.eot_token_id", Value::U32(0)),
        ("tokenizer.chat_template", Value::Str(pair("smollm2").template.source().to_owned())),
    ]);
    let (tokenizer, template) = open(path);
    let folder = tempfile::tempdir().unwrap();
    tokenizer.save(&template, folder.path()).unwrap();
    let (saved, _) = open(folder.path());
    assert_eq!(saved.fingerprint(), tokenizer.fingerprint());
    assert_eq!((saved.eos_ids(), saved.add_bos()), (&[0, 2][..], true));
    assert!(saved.encode_text("is matched whole 1234").unwrap().contains(&49152));
    assert_eq!(json(folder.path().join("tokenizer_config.json"))["eos_token"], "<|im_end|>");
    let messages = [user("a 1234"), assistant("b")];
    assert_eq!(
        ChatTemplate::open(folder.path(), &saved).unwrap().sample(&saved, &messages).unwrap(),
        template.sample(&tokenizer, &messages).unwrap()
    );
}

#[test]
fn what_cannot_be_said_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let nothing_written = || fs::read_dir(folder.path()).unwrap().next().is_none();

    // V1's [INST] is text, which these tokenizers would take for their control token.
    let mini = &pair("mini-first").tokenizer;
    let template = ChatTemplate::mistral(MistralVersion::V1, mini).unwrap();
    assert_eq!(template.jinja_source(), None);
    let error = mini.save(&template, folder.path()).unwrap_err();
    assert!(matches!(error, Error::Unsaveable { .. }) && error.to_string().contains("mistral-v1"), "{error}");
    assert!(nothing_written());

    let error = mini.save(&pair("v3").template, folder.path()).unwrap_err();
    assert!(matches!(error, Error::WrongTokenizer { .. }), "{error}");
    assert!(nothing_written());

    // A tokenizer.json in the folder is preferred to the tokenizer.model.
    mini.save(&pair("mini-first").template, folder.path()).unwrap();
    let error = pair("v3").tokenizer.save(&pair("v3").template, folder.path()).unwrap_err();
    assert!(matches!(error, Error::SavedDiffers { .. }), "{error}");

    let file = folder.path().join("tokenizer.json");
    let error = mini.save(&pair("mini-first").template, &file).unwrap_err();
    assert!(matches!(error, Error::Write { .. }) && error.to_string().contains("tokenizer.json"), "{error}");
}

/// The file name of a SentencePiece model follows from the given template.
#[test]
fn the_name_of_a_model_tells_its_template() {
    let v3 = &pair("v3").tokenizer;
    let source = "{% for m in messages %}{{ m.content }}{{ '</s>' if m.role == 'assistant' }}{% endfor %}";
    let check = |template: &ChatTemplate, name: &str| {
        let folder = tempfile::tempdir().unwrap();
        v3.save(template, folder.path()).unwrap();
        assert_eq!(fs::read(folder.path().join(name)).unwrap(), fs::read(fixture("tokenizer.model.v3")).unwrap());
        assert_eq!(open(folder.path()).1.fingerprint(), template.fingerprint(), "{name}");
    };
    check(&pair("v3").template, "tokenizer.model.v3");
    check(&ChatTemplate::mistral(MistralVersion::V1, v3).unwrap(), "tokenizer.model.v1");
    check(&ChatTemplate::jinja(source, v3).unwrap(), "tokenizer.model");
}

/// The pieces of a SentencePiece model in a GGUF file, whose model has so many positions.
fn sentencepiece_gguf(more: &[(&str, Value)]) -> (tempfile::TempDir, PathBuf) {
    let pieces = pieces(&fs::read(fixture("tokenizer.model.v3")).unwrap());
    let mut keys = vec![
        ("general.architecture", Value::Str("llama".to_owned())),
        ("llama.context_length", Value::U32(4096)),
        ("tokenizer.ggml.model", Value::Str("llama".to_owned())),
        ("tokenizer.ggml.tokens", Value::Strings(pieces.iter().map(|piece| piece.0.clone()).collect())),
        ("tokenizer.ggml.scores", Value::F32s(pieces.iter().map(|piece| piece.1).collect())),
        ("tokenizer.ggml.token_type", Value::I32s(pieces.iter().map(|piece| piece.2).collect())),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
    ];
    keys.extend(more.iter().cloned());
    write(&keys)
}

/// It becomes a `tokenizer.model`, with what the GGUF says besides.
#[test]
fn a_sentencepiece_gguf_becomes_a_tokenizer_model() {
    let check = |more: &[(&str, Value)], source: Option<&str>| {
        let (_gguf, path) = sentencepiece_gguf(more);
        let tokenizer = Tokenizer::open(path).unwrap();
        let template = match source {
            None => ChatTemplate::mistral(MistralVersion::V3, &tokenizer).unwrap(),
            Some(source) => ChatTemplate::jinja(source, &tokenizer).unwrap(),
        };
        let folder = tempfile::tempdir().unwrap();
        tokenizer.save(&template, folder.path()).unwrap();
        let (saved, saved_template) = open(folder.path());
        assert_eq!(saved.fingerprint(), tokenizer.fingerprint());
        assert_eq!(saved_template.fingerprint(), template.fingerprint());
        let original = pieces(&fs::read(fixture("tokenizer.model.v3")).unwrap());
        assert!(pieces(&fs::read(folder.path().join("tokenizer.model")).unwrap()) == original);
        let config = json(folder.path().join("tokenizer_config.json"));
        assert_eq!((&config["tokenizer_class"], &config["model_max_length"]), (&"LlamaTokenizer".into(), &4096.into()));
        (config, json(folder.path().join("generation_config.json")))
    };
    let (config, generation) = check(&[], None);
    assert_eq!((&config["eos_token"], &config["pad_token"]), (&"</s>".into(), &Json::Null));
    assert_eq!(generation, serde_json::json!({"bos_token_id": 1, "eos_token_id": 2}));
    let more = [
        ("tokenizer.ggml.padding_token_id", Value::U32(10)),
        ("tokenizer.ggml.eot_token_id", Value::U32(9)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
    ];
    let source = "{% for m in messages %}{{ m.content }}{{ '</s>' if m.role == 'assistant' }}{% endfor %}";
    let (config, generation) = check(&more, Some(source));
    assert_eq!(config["add_bos_token"], false);
    assert_eq!(config["pad_token"], pair("v3").tokenizer.token_text(10).unwrap());
    let expected = serde_json::json!({"bos_token_id": 1, "pad_token_id": 10, "eos_token_id": [2, 9]});
    assert_eq!(generation, expected);
}

/// What other programs read of a folder is still there, and only another template replaces the old one.
#[test]
fn a_folder_keeps_its_settings() {
    let source = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "chat_template.jinja"] {
        fs::copy(fixture("smollm2").join(name), source.path().join(name)).unwrap();
    }
    let own = fs::read_to_string(source.path().join("chat_template.jinja")).unwrap();
    let config = serde_json::json!({
        "chat_template": own, "pad_token": "<|endoftext|>", "model_max_length": 8192, "padding_side": "left",
        "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": null, "extra_special_tokens": {"image": "<img>"},
        "added_tokens_decoder": {"0": {"content": "<|endoftext|>", "special": true}}, "tokenizer_class": "GPT2Tokenizer",
    });
    let put = |name: &str, value: &Json| fs::write(source.path().join(name), value.to_string()).unwrap();
    put("tokenizer_config.json", &config);
    put("special_tokens_map.json", &serde_json::json!({"pad_token": "<|endoftext|>"}));
    put("added_tokens.json", &serde_json::json!({"<|im_end|>": 2}));
    put("generation_config.json", &serde_json::json!({"temperature": 0.2, "top_p": 0.9, "eos_token_id": 0}));
    let (tokenizer, template) = open(source.path());
    assert_eq!((tokenizer.padding_id(), tokenizer.eos_ids()), (Some(0), [0, 2].as_slice()));

    let folder = tempfile::tempdir().unwrap();
    tokenizer.save(&template, folder.path()).unwrap();
    let saved = |name: &str| fs::read(folder.path().join(name)).unwrap();
    for name in ["tokenizer.json", "chat_template.jinja", "special_tokens_map.json", "added_tokens.json"] {
        assert!(saved(name) == fs::read(source.path().join(name)).unwrap(), "{name}");
    }
    assert_eq!(json(folder.path().join("tokenizer_config.json")), config);
    let generation = json(folder.path().join("generation_config.json"));
    assert_eq!(generation, serde_json::json!({"temperature": 0.2, "top_p": 0.9, "eos_token_id": [0, 2]}));

    let other = "{% for m in messages %}{{ m.content }}{{ '<|im_end|>' if m.role == 'assistant' }}{% endfor %}";
    let other = ChatTemplate::jinja(other, &tokenizer).unwrap();
    tokenizer.save(&other, folder.path()).unwrap();
    let mut expected = config;
    expected.as_object_mut().unwrap().remove("chat_template");
    assert_eq!(json(folder.path().join("tokenizer_config.json")), expected);
    assert_eq!(open(folder.path()).1.source(), other.source());
}

/// A folder with one of Mistral's own templates opens as it, and transformers finds its Jinja source.
#[test]
fn mistrals_templates_are_saved_as_jinja() {
    let check = |name: &str, version: MistralVersion| {
        let tokenizer = Tokenizer::open(fixture(name)).unwrap();
        let template = ChatTemplate::mistral(version, &tokenizer).unwrap();
        let folder = tempfile::tempdir().unwrap();
        tokenizer.save(&template, folder.path()).unwrap();
        assert_eq!(open(folder.path()).1.fingerprint(), template.fingerprint(), "{name}");
        let jinja = fs::read_to_string(folder.path().join("chat_template.jinja")).unwrap();
        assert_eq!(Some(jinja.as_str()), template.jinja_source(), "{name}");
    };
    check("mini-first", MistralVersion::V3);
    check("mini-legacy", MistralVersion::V3);
    check("mini-tekken", MistralVersion::V7);
    check("mini-tekken", MistralVersion::V13);
    check("tekken-v13", MistralVersion::V13);
    check("tokenizer.model.v7", MistralVersion::V7);
}
