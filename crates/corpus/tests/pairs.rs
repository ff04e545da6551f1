//! Pairs of a chosen and a rejected answer: what is wrong with them is found, and nothing else.

mod common;

use std::collections::BTreeMap;

use common::Bench;
use foehn_corpus::{Pipeline, read_clean, split_proven};
use serde_json::{Value, json};

fn pair(question: &str, chosen: &str, rejected: &str) -> Value {
    json!({ "prompt": question, "chosen": chosen, "rejected": rejected })
}

fn file(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

#[test]
fn the_faults_of_pairs_are_found_and_their_answers_repaired() {
    let sound = [
        pair("What is a bell?", "It is a hollow body that rings.", "A bell."),
        // Another worse answer to the same question is another pair; so is a worse answer that runs on or breaks off.
        pair("What is a bell?", "It is a hollow body that rings.", "Ding\nUser: What is a drum?\nAssistant: Boom"),
        pair("What is a drum?", "A vessel with a skin to beat.", "A drum is a vessel and"),
        pair("What is a flute?", "A pipe with holes, to be blown.", "A pipe."),
    ];
    let faults = [
        ("structure", pair("What is a rose?", "A flower.", "a  flower")),
        ("structure", pair("What is a lily?", "A flower with a long stem.", " ")),
        (
            "structure",
            json!({"messages": [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "a", "weight": 0}], "rejected": "b"}),
        ),
        ("runs-on", pair("What is a tulip?", "A flower.\nUser: What is a rose?\nAssistant: A flower too.", "A bulb.")),
        ("control-text", pair("What is an oak?", "A tree with lobed leaves.", "A tree.<|im_end|>\n<|im_start|>user")),
        ("duplicate", sound[0].clone()),
        // One person prefers the first answer, another the second.
        ("conflict", pair("What is an elm?", "A tall tree of avenues, now rare.", "A tree that beetles have ruined.")),
        ("conflict", pair("What is an elm?", "A tree that beetles have ruined.", "A tall tree of avenues, now rare.")),
    ];
    let bench = Bench::new();
    let mut lines = sound.to_vec();
    lines.extend(faults.iter().map(|(_, record)| record.clone()));
    bench.write("raw.jsonl", file(&lines));
    let report = bench.clean("raw.jsonl", "clean.jsonl", &Pipeline::default());
    let mut found: BTreeMap<u64, &str> = BTreeMap::new();
    found.extend(report.rejections.iter().map(|rejection| (rejection.place.line, rejection.pass.as_str())));
    let expected = (sound.len() as u64 + 1..).zip(faults.iter().map(|(pass, _)| *pass)).collect();
    assert_eq!(found, expected, "{:#?}", report.rejections);
    let kept = read_clean(&bench.path("clean.jsonl")).expect("clean");
    assert!(kept.iter().zip(&sound).all(|(kept, sound)| kept.rejected.as_deref() == sound["rejected"].as_str()));

    // The rejected answer is repaired as the others are, and a clean file stays as it is.
    let dirty =
        [pair("What is tea?", "A drink\u{200b}, caf\u{e9} or not.", "\u{feff}Don\u{e2}\u{20ac}\u{2122}t ask\r\n")];
    bench.write("dirty.jsonl", file(&dirty));
    bench.clean("dirty.jsonl", "washed.jsonl", &Pipeline::default());
    let washed = read_clean(&bench.path("washed.jsonl")).expect("clean");
    assert_eq!(washed[0].rejected.as_deref(), Some("Don\u{2019}t ask"));
    bench.clean("washed.jsonl", "again.jsonl", &Pipeline::default());
    assert_eq!(bench.read("washed.jsonl"), bench.read("again.jsonl"));
}

#[test]
fn a_bias_to_long_answers_is_told_and_pairs_of_one_prompt_stay_together() {
    let question = |at: usize| format!("What does the person number {at} of the village do all day?");
    let long = |at: usize| format!("That person, number {at}, keeps {at} bees and sells their honey at the gate.");
    let records: Vec<Value> = (0..40)
        .flat_map(|at| [pair(&question(at), &long(at), "Bees."), pair(&question(at), &long(at), "I do not know.")])
        .collect();
    let bench = Bench::new();
    bench.write("raw.jsonl", file(&records));
    let report = bench.clean("raw.jsonl", "clean.jsonl", &Pipeline::default());
    let pairs = report.distributions.pairs.expect("there are pairs");
    assert_eq!((pairs.pairs, pairs.chosen_longer, pairs.rejected_longer), (80, 80, 0));
    assert!(pairs.bias().is_some_and(|bias| bias.contains("mostly longer")));
    let said = report.to_string();
    assert!(
        said.contains("80 pairs: chosen longer in 100%") && said.lines().all(|line| line.chars().count() <= 100),
        "{said}"
    );
    let kept = read_clean(&bench.path("clean.jsonl")).expect("clean");
    let split = split_proven(kept, 0.2, 1, "task", &foehn_corpus::NearDuplicates::default()).expect("a sound fraction");
    assert!(split.report.is_proven && !split.validation.is_empty() && split.validation.len().is_multiple_of(2));
}
