//! `tekken.json`: control tokens, the choice of the template, saving, and files changed at random.

mod common;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use common::{assert_printable, fixture, user};
use foehn_tokens::{ChatTemplate, Error, MistralVersion, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

static TOKENIZERS: LazyLock<Vec<Tokenizer>> =
    LazyLock::new(|| ["tekken-v3", "tekken-v13"].map(|name| Tokenizer::open(fixture(name)).unwrap()).into());

fn text(name: &str) -> String {
    fs::read_to_string(fixture(name).join("tekken.json")).unwrap()
}

/// A folder with the file after a change.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let mut file: Value = serde_json::from_str(&text(name)).unwrap();
    change(&mut file);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tekken.json"), file.to_string()).unwrap();
    folder
}

fn with_version(name: &str, version: &str) -> TempDir {
    changed(name, |file| file["config"]["version"] = json!(version))
}

fn open(path: impl AsRef<Path>) -> (Tokenizer, ChatTemplate) {
    let tokenizer = Tokenizer::open(&path).unwrap();
    let template = ChatTemplate::open(&path, &tokenizer).unwrap();
    (tokenizer, template)
}

/// The numbers are those of mistral-common's `get_special_token`.
#[test]
fn control_tokens_have_their_numbers() {
    let check = |name: &str, size: usize, expected: &[(&str, u32)]| {
        let tokenizer = Tokenizer::open(fixture(name)).unwrap();
        let ends = (tokenizer.bos_id(), tokenizer.add_bos(), tokenizer.eos_ids(), tokenizer.vocab_size());
        assert_eq!(ends, (Some(1), true, [2].as_slice(), size));
        for (text, id) in expected {
            assert_eq!(tokenizer.control(text), Some(*id), "{text}");
            assert_eq!(tokenizer.decode(&[*id], false), *text);
            assert_eq!(tokenizer.decode(&[*id], true), "");
            assert!(!tokenizer.encode_text(text).unwrap().contains(id), "{text}");
        }
        assert!(tokenizer.is_control(999) && !tokenizer.is_control(1000));
        assert_eq!(tokenizer.token_text(1000 + 32), Some("Ġ"));
        assert_eq!(tokenizer.token_text(size as u32), None);
    };
    let both = [("<unk>", 0), ("<s>", 1), ("</s>", 2), ("[INST]", 3), ("<pad>", 11), ("[SYSTEM_PROMPT]", 17)];
    check("tekken-v3", 3000, &[both.as_slice(), &[("[TOOL_CONTENT]", 19), ("<SPECIAL_20>", 20)]].concat());
    check("tekken-v13", 1556, &[both.as_slice(), &[("[THINK]", 34), ("[/THINK]", 35), ("<SPECIAL_36>", 36)]].concat());
}

#[test]
fn the_version_chooses_the_template_if_there_is_no_other() {
    assert_eq!(open(fixture("tekken-v3")).1.source(), "mistral-v3");
    let seven = with_version("tekken-v13", "v7");
    assert_eq!(open(seven.path()).1.source(), "mistral-v7");
    assert_eq!(open(seven.path().join("tekken.json")).1.source(), "mistral-v7");
    fs::write(seven.path().join("chat_template.jinja"), "{{ messages[0].content }}").unwrap();
    assert_eq!(open(seven.path()).1.source(), "{{ messages[0].content }}");

    let later = with_version("tekken-v13", "v15");
    let tokenizer = Tokenizer::open(later.path()).unwrap();
    let error = ChatTemplate::open(later.path(), &tokenizer).unwrap_err();
    assert!(matches!(error, Error::NoTemplate { .. }), "{error}");
}

/// Where the folder has both, the ids are those of `tokenizer.json`, and the template is that of `tekken.json`'s version.
#[test]
fn it_gives_the_template_for_a_tokenizer_json_beside_it() {
    let (folder, read) =
        (tempfile::tempdir().unwrap(), |name: &str| fs::read(fixture("mini-first").join(name)).unwrap());
    fs::write(folder.path().join("tokenizer.json"), read("tokenizer.json")).unwrap();
    fs::write(folder.path().join("tekken.json"), text("tekken-v3")).unwrap();
    let (tokenizer, template) = open(folder.path());
    assert_eq!(tokenizer.vocab_size(), Tokenizer::open(fixture("mini-first")).unwrap().vocab_size());
    assert_eq!(template.source(), "mistral-v3");
}

#[test]
fn it_is_preferred_to_a_sentencepiece_model() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture("tokenizer.model.v3"), folder.path().join("tokenizer.model.v3")).unwrap();
    fs::write(folder.path().join("tekken.json"), text("tekken-v3")).unwrap();
    let expected = Tokenizer::open(fixture("tekken-v3")).unwrap();
    assert_eq!(Tokenizer::open(folder.path()).unwrap().fingerprint(), expected.fingerprint());
}

#[test]
fn a_saved_folder_opens_as_what_was_saved() {
    let tokenizer = Tokenizer::open(fixture("tekken-v3")).unwrap();
    let mistral = |version| ChatTemplate::mistral(version, &tokenizer).unwrap();
    let jinja = ChatTemplate::jinja("{{ bos_token }}{{ messages[0].content }}", &tokenizer).unwrap();
    for template in [mistral(MistralVersion::V3), mistral(MistralVersion::V7), mistral(MistralVersion::V1), jinja] {
        let folder = tempfile::tempdir().unwrap();
        tokenizer.save(&template, folder.path()).unwrap();
        let (opened, chosen) = open(folder.path());
        assert_eq!(opened.fingerprint(), tokenizer.fingerprint());
        assert_eq!(chosen.source(), template.source());
        let saved = fs::read_to_string(folder.path().join("tekken.json")).unwrap();
        match template.source() {
            "mistral-v7" | "mistral-v1" => {
                let [ours, theirs] = [&saved, &text("tekken-v3")].map(|text| {
                    let mut file: Value = serde_json::from_str(text).unwrap();
                    (file["config"]["version"].take(), file)
                });
                assert_eq!(ours.0, template.source().trim_start_matches("mistral-"));
                assert_eq!(ours.1, theirs.1);
            }
            _ => assert_eq!(saved, text("tekken-v3")),
        }
        tokenizer.save(&template, folder.path()).unwrap();
    }
}

#[test]
fn the_fingerprint_is_that_of_what_determines_ids() {
    let of = |folder: &Path| Tokenizer::open(folder).unwrap().fingerprint().to_owned();
    let own = of(&fixture("tekken-v13"));
    for same in [with_version("tekken-v13", "v11"), changed("tekken-v13", |file| file["image"] = json!({}))] {
        assert_eq!(of(same.path()), own);
    }
    for other in [
        changed("tekken-v13", |file| file["config"]["pattern"] = json!(r"\p{L}+|\s+(?!\S)|\s+")),
        changed("tekken-v13", |file| file["config"]["default_vocab_size"] = json!(1555)),
        changed("tekken-v13", |file| file["config"]["default_num_special_tokens"] = json!(999)),
        changed("tekken-v13", |file| file["special_tokens"][35]["token_str"] = json!("[/THINKS]")),
        changed("tekken-v13", |file| file["vocab"][555]["token_bytes"] = json!("AAAA")),
    ] {
        assert_ne!(of(other.path()), own);
    }
}

/// tiktoken merges a long piece in time proportional to its length, and so does this.
#[test]
fn a_long_piece_is_merged() {
    let tokenizer = Tokenizer::open(fixture("tekken-v3")).unwrap();
    for long in ["a".repeat(1 << 20), "é".repeat(1 << 18), " ".repeat(1 << 20), "=".repeat(1 << 20)] {
        assert_eq!(tokenizer.decode(&tokenizer.encode_text(&long).unwrap(), true), long);
    }
}

#[test]
fn a_name_that_steers_the_terminal_is_escaped() {
    let steering = changed("tekken-v13", |file| file["config"]["version"] = json!(common::STEERING));
    let error = Tokenizer::open(steering.path()).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    let twice = changed("tekken-v13", |file| {
        file["special_tokens"][5]["token_str"] = json!(common::STEERING);
        file["special_tokens"][6]["token_str"] = json!(common::STEERING);
    });
    assert_printable(&Tokenizer::open(twice.path()).unwrap_err().to_string());
}

/// What may come of any file: an error that names it, or a tokenizer that gives every text back.
fn check(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tekken.json"), bytes).unwrap();
    let tokenizer = match Tokenizer::open(folder.path()) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return assert!(error.to_string().contains("tekken.json"), "{error}"),
    };
    for text in ["", "Hello  world\r\n\t é日本 👩‍👩‍👧 [INST] </s>", "\u{0}\u{10ffff}"] {
        let Ok(ids) = tokenizer.encode_text(text) else { continue };
        assert_eq!(tokenizer.decode(&ids, false), text);
        assert!(ids.iter().all(|id| !tokenizer.is_control(*id)));
    }
    if let Ok(template) = ChatTemplate::open(folder.path(), &tokenizer) {
        drop(template.prompt(&tokenizer, &[user("Hi")]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_text_comes_back(written in common::text()) {
        for tokenizer in TOKENIZERS.iter() {
            let ids = tokenizer.encode_text(&written).unwrap();
            prop_assert_eq!(tokenizer.decode(&ids, true), written.as_str());
            prop_assert!(ids.iter().all(|id| (1000..tokenizer.vocab_size() as u32).contains(id)));
        }
    }

    #[test]
    fn bytes_changed_at_random_make_an_error_or_a_tokenizer(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..4),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = text("tekken-v13").into_bytes();
        for (at, byte, kind) in changes {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                // A digit or a letter, so that the file often stays JSON.
                _ => bytes[at] = b"0123456789ABCabc=+/\"[]{},:"[usize::from(byte) % 26],
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        check(&bytes);
    }

    #[test]
    fn values_changed_at_random_make_an_error_or_a_tokenizer(
        place in prop_oneof![
            3 => proptest::sample::select(vec![
                "/config/pattern", "/config/default_vocab_size", "/config/default_num_special_tokens", "/config/version",
                "/vocab", "/special_tokens", "/config",
            ]).prop_map(str::to_owned),
            3 => (0..564_usize, "rank|token_bytes|token_str").prop_map(|(at, field)| format!("/vocab/{at}/{field}")),
            2 => (0..36_usize, "rank|token_str|is_control").prop_map(|(at, field)| format!("/special_tokens/{at}/{field}")),
        ],
        value in prop_oneof![
            Just(Value::Null), any::<bool>().prop_map(Value::from), any::<i64>().prop_map(Value::from),
            (0..2000_u32).prop_map(Value::from), any::<String>().prop_map(Value::from),
            "[A-Za-z0-9+/]{4,8}".prop_map(Value::from), "v[0-9]{1,2}".prop_map(Value::from),
            "[a-z.*+?|()\\\\\\[\\]]{1,8}".prop_map(Value::from), Just(json!([])), Just(json!({})),
        ],
    ) {
        let mut file: Value = serde_json::from_str(&text("tekken-v13")).unwrap();
        *file.pointer_mut(&place).unwrap() = value;
        check(file.to_string().as_bytes());
    }
}
