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

    // A SentencePiece tokenizer from a GGUF has no file that could be copied.
    let pieces = pieces(&fs::read(fixture("tokenizer.model.v3")).unwrap());
    let (_gguf, path) = write(&[
        ("tokenizer.ggml.model", Value::Str("llama".to_owned())),
        ("tokenizer.ggml.tokens", Value::Strings(pieces.iter().map(|piece| piece.0.clone()).collect())),
        ("tokenizer.ggml.scores", Value::F32s(pieces.iter().map(|piece| piece.1).collect())),
        ("tokenizer.ggml.token_type", Value::I32s(pieces.iter().map(|piece| piece.2).collect())),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
    ]);
    let tokenizer = Tokenizer::open(path).unwrap();
    let template = ChatTemplate::mistral(MistralVersion::V3, &tokenizer).unwrap();
    let error = tokenizer.save(&template, folder.path()).unwrap_err();
    assert!(matches!(error, Error::Unsaveable { .. }) && error.to_string().contains("model.gguf"), "{error}");
    assert!(nothing_written());

    // Mistral's own templates have no source that could be saved with a tokenizer.json.
    let mini = &pair("mini-first").tokenizer;
    let template = ChatTemplate::mistral(MistralVersion::V1, mini).unwrap();
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
