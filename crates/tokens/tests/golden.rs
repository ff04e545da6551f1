//! Ids, prompts and masks equal those of transformers and mistral-common (`tests/golden/templates.py`).

mod common;

use std::collections::BTreeMap;

use common::{PAIRS, Pair, assistant, golden, pair, system, user};
use foehn_record::Message;
use foehn_tokens::{Error, MistralVersion, TextStream};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    conversations: BTreeMap<String, Vec<Message>>,
    #[serde(flatten)]
    references: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Reference {
    texts: Vec<Text>,
    conversations: BTreeMap<String, Option<Rendered>>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
    decoded: String,
}

#[derive(Deserialize)]
struct Rendered {
    ids: Vec<u32>,
    prompt: Vec<u32>,
    /// The positions where the mask begins and ends, alternately.
    mask: Vec<(usize, usize)>,
}

fn load() -> (BTreeMap<String, Vec<Message>>, BTreeMap<String, Reference>) {
    let golden: Golden =
        serde_json::from_str(&std::fs::read_to_string(golden().join("templates.json")).unwrap()).unwrap();
    let references = golden.references.into_iter().filter(|(name, _)| name != "versions");
    let parse = |(name, value)| (name, serde_json::from_value(value).unwrap());
    (golden.conversations, references.map(parse).collect())
}

#[test]
fn texts_have_the_ids_of_the_references() {
    let (_, references) = load();
    assert_eq!(references.len(), PAIRS.len());
    for Pair { name, tokenizer, .. } in PAIRS.iter() {
        for Text { text, ids, decoded } in &references[*name].texts {
            assert_eq!(&tokenizer.encode_text(text).unwrap(), ids, "{name}: {text:?}");
            assert_eq!(&tokenizer.decode(ids, true), decoded, "{name}: {text:?}");
            let mut stream = TextStream::new(true);
            let streamed: String = ids.iter().map(|id| stream.push(tokenizer, *id)).collect();
            assert_eq!(streamed + &stream.finish(), *decoded, "{name}: {text:?}");
        }
    }
}

#[test]
fn conversations_have_the_ids_of_the_references() {
    let (conversations, references) = load();
    let mut compared = 0;
    for Pair { name, tokenizer, template } in PAIRS.iter() {
        for (title, messages) in &conversations {
            let sample = template.sample(tokenizer, messages);
            let Some(expected) = &references[*name].conversations[title] else {
                let injects = title.starts_with("injection");
                assert!(injects || matches!(sample, Err(Error::TemplateRender { .. })), "{name}, {title}: {sample:?}");
                continue;
            };
            let sample = sample.unwrap_or_else(|error| panic!("{name}, {title}: {error}"));
            assert_eq!(sample.input_ids(), expected.ids, "{name}, {title}");
            let mut mask = vec![false; expected.ids.len()];
            for (start, end) in &expected.mask {
                mask[*start..*end].fill(true);
            }
            assert_eq!(sample.loss_mask(), mask, "{name}, {title}");
            let prompt = template.prompt(tokenizer, &messages[..messages.len() - 1]).unwrap();
            assert_eq!(prompt, expected.prompt, "{name}, {title}");
            compared += 1;
        }
    }
    assert!(compared > 180, "only {compared} comparisons");
}

/// The ids in `docs` and in mistral-common's own documentation.
#[test]
fn mistrals_templates_by_hand() {
    let messages = [system("SYS"), user("Hi there"), assistant("Hello."), user("Bye"), assistant("See you.")];
    let check = |name: &str, prefix: &[u32], text: &str| {
        let Pair { tokenizer, template, .. } = pair(name);
        let sample = template.sample(tokenizer, &messages).unwrap();
        assert_eq!(&sample.input_ids()[..prefix.len()], prefix, "{name}");
        let pieces: String = sample.input_ids().iter().map(|id| tokenizer.token_text(*id).unwrap()).collect();
        assert_eq!(pieces.replace("<0x0A>", "\n"), text, "{name}");
    };
    check(
        "v1",
        &[1, 733, 16289, 28793, 17121, 28735, 13, 13, 23809, 736, 733, 28748, 16289, 28793, 22557, 28723, 2],
        "<s>▁[INST]▁SYS\n\nHi▁there▁[/INST]▁Hello.</s>▁[INST]▁Bye▁[/INST]▁See▁you.</s>",
    );
    check(
        "v3",
        &[1, 3, 16127, 1504, 4, 23325, 29491, 2, 3, 17889, 29503, 781, 781, 2698, 29474, 4, 4636, 1136, 29491, 2],
        "<s>[INST]▁Hi▁there[/INST]▁Hello.</s>[INST]▁SYS\n\nBye[/INST]▁See▁you.</s>",
    );
    check(
        "v7",
        &[1],
        "<s>[SYSTEM_PROMPT]▁SYS[/SYSTEM_PROMPT][INST]▁Hi▁there[/INST]▁Hello.</s>[INST]▁Bye[/INST]▁See▁you.</s>",
    );
}

#[test]
fn a_template_wants_its_own_tokenizer() {
    let missing = common::with_version("v1", MistralVersion::V3).unwrap_err();
    assert!(matches!(missing, Error::MissingControl { template: "mistral-v3", name: "[INST]" }));
    let missing = common::with_version("v3", MistralVersion::V7).unwrap_err();
    assert!(matches!(missing, Error::MissingControl { template: "mistral-v7", name: "[SYSTEM_PROMPT]" }));

    let messages = [user("a"), assistant("b")];
    let wrong = pair("v3").template.sample(&pair("v1").tokenizer, &messages).unwrap_err();
    assert!(matches!(wrong, Error::WrongTokenizer { .. }), "{wrong}");
    assert_ne!(pair("v3").template.fingerprint(), pair("v7").template.fingerprint());
}
