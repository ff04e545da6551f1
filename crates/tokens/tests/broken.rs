//! Damaged files give errors that name the file and the place. They never cause a panic.

mod common;

use std::path::Path;

use common::{STEERING, assert_printable, fixture, golden};
use foehn_tokens::{ChatTemplate, Error, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A copy of the mini tokenizer, with its files changed.
fn changed(tokenizer: impl Fn(&mut Value), config: impl Fn(&mut Value)) -> Result<Tokenizer, Error> {
    let folder = tempfile::tempdir().unwrap();
    let copy = |name: &str, change: &dyn Fn(&mut Value)| {
        let text = std::fs::read_to_string(fixture("mini-first").join(name)).unwrap();
        let mut value: Value = serde_json::from_str(&text).unwrap();
        change(&mut value);
        std::fs::write(folder.path().join(name), value.to_string()).unwrap();
    };
    copy("tokenizer.json", &tokenizer);
    copy("tokenizer_config.json", &config);
    Tokenizer::open(folder.path())
}

#[test]
fn a_tokenizer_json_that_contradicts_itself() {
    let check = |change: &dyn Fn(&mut Value), message: &str| {
        let error = changed(change, |_| {}).unwrap_err().to_string();
        assert!(error.contains(message), "{error:?} does not say {message:?}");
        assert!(error.contains("tokenizer.json"), "{error}");
    };
    check(
        &|json| json["model"]["type"] = json!("Unigram"),
        "model.type is Unigram, which is not supported (supported: BPE)",
    );
    check(&|json| json["model"]["byte_fallback"] = json!(false), "model.byte_fallback is false");
    check(&|json| json["model"]["dropout"] = json!(0.1), "model.dropout is 0.1");
    check(&|json| json["model"]["end_of_word_suffix"] = json!("</w>"), "model.end_of_word_suffix is </w>");
    check(&|json| json["decoder"] = json!({"type": "WordPiece"}), "decoder: unknown variant `WordPiece`");
    check(&|json| json["model"]["merges"][0] = json!("abc"), "model.merges[0]: \"abc\" is not two tokens");
    check(&|json| json["model"]["merges"][0] = json!("☃ ☂"), "model.merges: ");
    check(&|json| json["model"]["vocab"]["zzz"] = json!(4_000_000_000_u32), "its id 4000000000 is beyond");
    check(&|json| json["model"]["vocab"]["zzz"] = json!(3), "its id 3 is also that of");
    check(&|json| json["added_tokens"][3]["id"] = json!(7), "\"[INST]\" has another id in model.vocab than its 7");
    check(&|json| _ = json["model"]["vocab"].as_object_mut().unwrap().remove("<0x41>"), "for byte 65");
    check(&|json| json["pre_tokenizer"] = json!({"type": "Nonsense"}), "pre_tokenizer: ");
    check(&|json| json["normalizer"] = json!({"type": "Nonsense"}), "normalizer: ");
    check(&|json| json["model"]["vocab"] = json!([]), "tokenizer.json:1:");
}

#[test]
fn a_tokenizer_config_that_contradicts_it() {
    let check = |change: &dyn Fn(&mut Value), message: &str| {
        let error = changed(|_| {}, change).unwrap_err().to_string();
        assert!(error.contains(message), "{error:?} does not say {message:?}");
    };
    check(&|config| config["eos_token"] = json!("<|im_end|>"), "eos_token: \"<|im_end|>\" of tokenizer_config.json");
    check(&|config| config["eos_token"] = json!(2), "tokenizer_config.json:1:");
}

/// The stop token is a control token, even if the file declares it an ordinary one. So no text can produce it.
#[test]
fn the_stop_token_is_always_a_control_token() {
    let tokenizer = changed(|json| json["added_tokens"][2]["special"] = json!(false), |_| {}).unwrap();
    assert_eq!((tokenizer.eos_ids(), tokenizer.is_control(2)), (&[2][..], true));
    assert!(!tokenizer.encode_text("a</s>b").unwrap().contains(&2));
    // `<s` and `>` are pieces, so that merges could form `<s>` too.
    let merge = |json: &mut Value| json["model"]["merges"].as_array_mut().unwrap().insert(0, json!("< s>"));
    let with_s = changed(
        |json| {
            json["model"]["vocab"]["s>"] = json!(50_000);
            json["model"]["merges"].as_array_mut().unwrap().insert(0, json!("s >"));
            merge(json);
        },
        |_| {},
    );
    let ids = with_s.unwrap().encode_text("<s>").unwrap();
    assert!(ids.contains(&50_000) && !ids.contains(&1), "{ids:?}");
}

#[test]
fn files_that_are_not_there_or_not_what_they_seem() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, content: Option<&[u8]>, message: &str| {
        let path = folder.path().join(name);
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let error = Tokenizer::open(&path).unwrap_err().to_string();
        assert!(error.contains(message), "{error:?} does not say {message:?}");
        assert!(error.contains(&path.display().to_string()) || message.contains("GGUF"), "{error}");
    };
    check("", None, "holds no tokenizer");
    check("absent.json", None, "cannot read");
    check("absent.model", None, "cannot read");
    check("notes.txt", Some(b"hello"), "holds no tokenizer");
    check("a.json", Some(b"{\n  \"model\": nonsense"), "a.json:2:");
    check("b.json", Some(b"{}"), "b.json:1:2: not the JSON");
    check("a.gguf", Some(b"no"), "the GGUF file cannot be read");
    check("a.model", Some(b""), "model_type is not BPE");
    check("b.model", Some(b"\x0a\x05ab"), "byte 2: the file ends within a field");
    check("c.model", Some(b"\x0b"), "byte 1: an unknown wire type");
    check("d.model", Some(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "an integer of more than ten bytes");
    check("e.model", Some(b"\x0a\x02\x18\x09"), "a piece has an unknown type");
    check("f.model", Some(b"\x0a\x03\x0a\x01\xff"), "byte 4: a piece is not UTF-8");
    check("g.model", Some(b"\x12\x02\x18\x02\x1a\x02\x20\x00"), "pieces: the model has none");
    check("h.model", Some(b"\x12\x02\x18\x02"), "remove_extra_whitespaces is true");
    check("i.model", Some(b"\x12\x02\x18\x02\x1a\x05\x12\x01x\x20\x00"), "precompiled_charsmap is present");
}

/// A file above the size limit is not read into memory. The message has its size and the limit.
#[test]
fn files_of_a_size_that_no_tokenizer_has() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, open: &dyn Fn(&Path) -> Result<(), Error>| {
        let path = folder.path().join(name);
        std::fs::File::create(&path).unwrap().set_len(300_000_000).unwrap();
        let error = open(&path).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("300000000") && source.contains("268435456"), "{source}");
    };
    let tokenizer = &common::pair("mini-first").tokenizer;
    check("tokenizer.json", &|path| Tokenizer::open(path).map(drop));
    check("tokenizer.model", &|path| Tokenizer::open(path).map(drop));
    check("chat_template.jinja", &|path| ChatTemplate::open(path, tokenizer).map(drop));
}

#[test]
fn a_model_without_a_template_says_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("mini-first/tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    assert_eq!((tokenizer.bos_id(), tokenizer.add_bos(), tokenizer.eos_ids()), (Some(1), true, &[][..]));
    let error = ChatTemplate::open(folder.path(), &tokenizer).unwrap_err();
    assert!(matches!(error, Error::NoTemplate { .. }), "{error}");

    std::fs::copy(golden().join("tokenizers/tokenizer.model.v3"), folder.path().join("tokenizer.model")).unwrap();
    let plain = Tokenizer::open(folder.path().join("tokenizer.model")).unwrap();
    assert!(matches!(ChatTemplate::open(folder.path().join("tokenizer.model"), &plain), Err(Error::NoTemplate { .. })));
}

/// If a folder has several SentencePiece models, the one with the highest version is used.
#[test]
fn a_folder_of_versions() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tokenizer.model.v1", "tokenizer.model.v7", "tokenizer.model.v3"] {
        std::fs::copy(fixture(name), folder.path().join(name)).unwrap();
    }
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    assert_eq!(tokenizer.fingerprint(), common::pair("v7").tokenizer.fingerprint());
    assert_eq!(ChatTemplate::open(folder.path(), &tokenizer).unwrap().source(), "mistral-v7");
}

fn load_damaged(bytes: &[u8], folder: &Path) {
    let path = folder.join("tokenizer.model");
    std::fs::write(&path, bytes).unwrap();
    if let Ok(tokenizer) = Tokenizer::open(&path) {
        tokenizer.decode(&tokenizer.encode_text("still [INST] standing").unwrap(), false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_model_never_panics(cut in 0.0..1.0_f64, flips in proptest::collection::vec((0.0..1.0_f64, any::<u8>()), 0..4)) {
        let folder = tempfile::tempdir().unwrap();
        let whole = std::fs::read(fixture("tokenizer.model.v1")).unwrap();
        let place = |share: f64| (share * whole.len() as f64) as usize;
        load_damaged(&whole[..place(cut)], folder.path());
        let mut flipped = whole.clone();
        for (at, byte) in flips {
            flipped[place(at)] = byte;
        }
        load_damaged(&flipped, folder.path());
    }
}

#[test]
fn a_key_or_a_value_cannot_steer_a_terminal() {
    let check = |change: &dyn Fn(&mut Value)| assert_printable(&changed(change, |_| {}).unwrap_err().to_string());
    check(&|json| json["model"]["type"] = json!(STEERING));
    check(&|json| json["decoder"] = json!({"type": STEERING}));
    check(&|json| json["pre_tokenizer"] = json!({"type": STEERING}));
    check(&|json| json["normalizer"] = json!({"type": "Lowercase", STEERING: 1}));
}
