//! Cleaning clean records changes no byte, and cleaning the same input twice gives the same bytes.

mod common;

use common::Bench;
use foehn_corpus::{Language, Markup, NearDuplicates, Pii, Pipeline, Refusals, Repetition};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Text made of the pieces that the passes look for, complete and partial.
fn dirt() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[ -~]{0,12}",
        3 => prop::sample::select(vec![
            "â€œ", "â€", "\u{9d}", "Ã©", "Ã", "©", "Â", "\u{a0}", "ðŸ˜€", "ÃƒÂ©", "\u{fffd}", "e", "\u{301}", "\u{200b}", "\u{feff}",
            "\u{200d}", "👩", "\r\n", "\r", "\n", "\t", "\0", "\u{1b}[31m", "\u{85}", " ", "'", "“", "”", "ß", "ﬁ",
            "User:", "Q:", "### Instruction", "</s>", "<|im_end|>", "What modality is: 'rain'?", "Visual", "Auditory", ".", ",",
            "É»", "à\u{a0}»", "א", "ً", "क़",
            "<br>", "<p>", "</p>", "&amp;", "&lt;", "&#38;", "`", "a@b.io", "+44 20 7946 0958", "203.0.113.7", "[EMAIL]", "As an AI, I",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    prop::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat())
}

fn record() -> impl Strategy<Value = Value> {
    let turn = (prop::sample::select(vec!["system", "user", "assistant"]), dirt());
    let turns = prop::collection::vec(turn, 0..5);
    let pair = (dirt(), dirt());
    let object = prop_oneof![
        1 => turns.prop_map(|turns| {
            let messages: Vec<Value> = turns.iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
            json!({ "messages": messages })
        }),
        4 => pair.prop_map(|(prompt, completion)| json!({"prompt": prompt, "completion": completion})),
    ];
    (object, prop::option::of(0..9u8), any::<f64>(), prop::option::of("[a-z]{1,3}")).prop_map(
        |(mut object, id, number, group)| {
            object["score"] = json!(number);
            object["task"] = json!("recognise");
            object["id"] = json!(id);
            object["group"] = json!(group);
            object
        },
    )
}

/// The default passes, and all others that need no file.
fn full() -> Pipeline {
    Pipeline::default()
        .with(Markup::default())
        .with(Pii::default())
        .with(Refusals::default())
        .with(Repetition::default())
        .with(Language { allowed: vec!["eng".to_owned()], ..Language::default() })
        .with_set(NearDuplicates { threshold: 0.6, ..NearDuplicates::default() })
}

proptest! {
    #[test]
    fn cleaning_is_idempotent(records in prop::collection::vec(record(), 1..24), is_full: bool) {
        let bench = Bench::new();
        let raw: String = records.iter().map(|record| format!("{record}\n")).collect();
        bench.write("raw.jsonl", raw);
        let pipeline = if is_full { full() } else { Pipeline::default() };

        let first = bench.clean("raw.jsonl", "once.jsonl", &pipeline);
        let report = bench.read("report.json");
        prop_assert_eq!(first.read, records.len() as u64);
        prop_assert_eq!(first.kept + first.rejected, first.read);
        prop_assert_eq!(first.rejections.len() as u64, first.rejected);

        bench.clean("raw.jsonl", "again.jsonl", &pipeline);
        prop_assert_eq!(bench.read("once.jsonl"), bench.read("again.jsonl"));
        prop_assert_eq!(report, bench.read("report.json"));

        if first.kept > 0 {
            let second = bench.clean("once.jsonl", "twice.jsonl", &pipeline);
            prop_assert_eq!(bench.read("once.jsonl"), bench.read("twice.jsonl"));
            prop_assert_eq!(second.rejected, 0);
            prop_assert!(second.passes.iter().all(|pass| pass.changed == 0));
        }
    }
}
