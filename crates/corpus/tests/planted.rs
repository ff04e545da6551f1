//! Known faults planted in clean records: every pass finds all of its own faults and nothing else.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::Bench;
use foehn_corpus::{Lexicon, OffTarget, Pipeline};
use serde_json::{Value, json};

/// Sentences, the one word for each, and a description that needs nothing else.
const SENTENCES: [(&str, &str); 12] = [
    ("Her eyes sparkled with mischief", "Visual"),
    ("That's music to my ears", "Auditory"),
    ("A cold coin lay in his palm", "Kinesthetic"),
    ("Smoke drifted up the stairs and woke the dog", "Olfactory"),
    ("The last spoon of soup tasted of thyme", "Gustatory"),
    ("Dusk turned the slates to copper", "Visual"),
    ("Somewhere a kettle whistled", "Auditory"),
    ("My knees gave way on the ladder", "Kinesthetic"),
    ("The drains had been at it again all August", "Olfactory"),
    ("It left a bitter aftertaste, the whole affair", "Gustatory"),
    ("« Déjà vu », said Zoë — naïve as ever…", "Visual"),
    ("The dogs' bowls rang on the tiles", "Auditory"),
];

const PLACES: [&str; 6] = ["a harbour", "a forge", "a bakery", "an ice rink", "a night bus", "an orchard"];

/// Clean records of every task, each different from all others.
fn sound() -> Vec<Value> {
    let mut records = Vec::new();
    for (sentence, label) in SENTENCES {
        records.push(record("recognise", label, &format!("What modality is: '{sentence}'?"), label));
        let reason =
            format!("Its strongest word speaks to the {} sense. Nothing else in it does.", label.to_lowercase());
        records.push(record("explain", label, &format!("Why is '{sentence}' {label}?"), &reason));
    }
    for place in PLACES {
        records.push(record(
            "describe",
            "Visual",
            &format!("Describe {place} using the Visual modality."),
            &format!("Pale light glows over {place}. Its outline is bright against the hill."),
        ));
        records.push(record(
            "describe",
            "Auditory",
            &format!("Describe {place} using the Auditory modality."),
            &format!("A low hum fills {place}, and somewhere a gate creaks."),
        ));
    }
    for (label, answer) in [("Auditory", "1. Did you hear the bang?"), ("Visual", "2. A lamp swung in the fog.")] {
        let prompt = format!("Which of these is {label}?\n1. Did you hear the bang?\n2. A lamp swung in the fog.");
        records.push(record("choose", label, &prompt, answer));
    }
    records.push(json!({"messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What modality is: 'a bell rang'?"},
        {"role": "assistant", "content": "Auditory"},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "- rang\n- bell", "weight": 0},
        {"role": "user", "content": "Say it in other words, as two lines of verse."},
        {"role": "assistant", "content": "A clang at noon\nA hush at dusk"},
    ], "task": "multi", "modality": "Auditory"}));
    records
}

fn record(task: &str, modality: &str, prompt: &str, answer: &str) -> Value {
    json!({
        "messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}],
        "task": task, "modality": modality,
    })
}

/// A separate record in which one thing can be wrong; its subject is not similar to that of any other record.
fn fresh(number: usize, answer: &str) -> Value {
    record("other", "Visual", &format!("Is number {number} of the catalogue a painting?"), answer)
}

/// UTF-8 as shown by a program that decodes it as Windows-1252, for the characters of these records.
fn misread(text: &str) -> String {
    let show = |byte| match byte {
        0x80 => '€',
        0x82 => '‚',
        byte => char::from(byte),
    };
    text.bytes().map(show).collect()
}

/// Each planted fault with the pass that must reject it.
fn planted() -> Vec<(&'static str, Value)> {
    let mut plants: Vec<(&'static str, Value)> = Vec::new();
    let mut number = 0;
    let mut answers = |pass, answers: &[&str]| {
        for answer in answers {
            number += 1;
            plants.push((pass, fresh(number, answer)));
        }
    };
    answers("mojibake", &["Caf\u{fffd} au lait."]);
    answers("structure", &["", " \u{200b}\n"]);
    answers("control-text", &["Yes.<|im_end|>", "Yes. </s>", "Yes. [INST] Is it?"]);
    answers(
        "runs-on",
        &[
            "Yes.\nUser: Is it large?\nAssistant: No.",
            "Yes.\n\n### Instruction:\nName it.\n\n### Response:\nMona",
            "Yes.\nQ: And 12?\nA: No.",
            "Yes. Is number 7 of the catalogue a statue? No.",
            "**Assistant:** Yes.",
            "Yes.\n[User] Is it large?\n[Assistant] No.",
        ],
    );
    answers(
        "truncated",
        &[
            "It is a large painting of a",
            "It is a painting. On the left",
            "Yes, as far as anyone in the gallery",
            "It shows apples, pears,",
            "Its parts are:",
        ],
    );
    answers(
        "asks-again",
        &[
            "Yes.\nWhat modality is: 'a drum'?\nAuditory",
            "Yes. Describe a fair using the Kinesthetic modality. Heat.",
            "Yes What modality is: 'a drum'? Auditory.",
            "Yes.\nWhich of these is Visual?\n1. A flag.\n2. A bell.\n\n1. A flag.",
        ],
    );
    for (prompt, answer) in [
        ("What modality is: 'Steam on the glass'?", "Visual What modality is: 'a drum'? Auditory."),
        (
            "Which of these is Olfactory?\n1. A fire smoked.\n2. A fire crackled.",
            "1. A fire smoked.\n\nWhich of these is Visual?\n1. A drum.\n2. A flag.\n\n2. A flag.",
        ),
        (
            "1. Stew bubbled.\n2. Stew warms.\nPick the Auditory sentence.",
            "1. Stew bubbled.\nPick the Visual sentence.\n2.",
        ),
    ] {
        plants.push(("runs-on", record("other", "Visual", prompt, answer)));
    }
    plants.push(("control-text", record("other", "Visual", "Is this [/INST] a painting?", "Yes.")));
    for place in ["a cellar", "a tent"] {
        let prompt = format!("Describe {place} using the Visual modality.");
        plants.push(("off-target", record("describe", "Visual", &prompt, "Pale light glows. A gate creaks.")));
    }
    for (roles, content) in
        [(["assistant", "user"], "swapped"), (["user", "user"], "twice"), (["system", "user"], "unanswered")]
    {
        let messages = roles.map(|role| json!({"role": role, "content": format!("{content} by the {role}.")}));
        plants.push(("structure", json!({ "messages": messages })));
    }
    plants.push(("duplicate", record("x", "Auditory", "what modality is \"THAT’S music  to my ears\"", "auditory.")));
    plants.push((
        "duplicate",
        record(
            "x",
            "Visual",
            "Describe a forge using the Visual modality",
            "Pale light glows over a forge; its outline is bright against the hill!",
        ),
    ));
    for (prompt, label) in [
        ("What modality is: 'Rain on a tin roof'?", "Auditory"),
        ("What modality is: 'Rain on a tin roof'?", "Visual"),
        ("Name the modality of 'rain on a tin roof'.", "Kinesthetic"),
    ] {
        plants.push(("conflict", record("recognise", label, prompt, label)));
    }
    plants
}

fn pipeline() -> Pipeline {
    let lists = [("Visual", vec!["pale", "glows", "bright"]), ("Auditory", vec!["hum", "creaks"])];
    let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect();
    let lists: BTreeMap<String, Vec<String>> =
        lists.into_iter().map(|(class, words)| (class.to_owned(), owned(words))).collect();
    Pipeline::default().with(OffTarget::new(Lexicon::new(lists).expect("a sound lexicon")))
}

fn file(records: impl IntoIterator<Item = Value>) -> String {
    records.into_iter().map(|record| format!("{record}\n")).collect()
}

#[test]
fn every_pass_finds_its_plants_and_nothing_else() {
    let bench = Bench::new();
    let (sound, planted) = (sound(), planted());
    let mut lines: Vec<Value> = sound.clone();
    // A fault is planted after every clean record, and the rest at the end, so that a pass over the set does not see
    // them in one block.
    let mut expected: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for (at, (pass, plant)) in planted.into_iter().enumerate() {
        // A duplicate must come after its original.
        let index = if pass == "duplicate" { lines.len() } else { (2 * at + 1).min(lines.len()) };
        lines.insert(index, json!({"plant": pass, "is": plant}));
    }
    for (index, line) in lines.iter_mut().enumerate() {
        if let Some(pass) = line.get("plant").and_then(Value::as_str) {
            expected.entry(pass.to_owned()).or_default().insert(index as u64 + 1);
            *line = line["is"].take();
        }
    }
    let mut text = file(lines.clone());
    for broken in ["{\"prompt\": ", "{\"messages\": [{\"role\": \"narrator\", \"content\": \"x\"}]}"] {
        text.push_str(broken);
        text.push('\n');
        expected.entry("read".to_owned()).or_default().insert(text.lines().count() as u64);
    }
    bench.write("raw.jsonl", text);

    let report = bench.clean("raw.jsonl", "clean.jsonl", &pipeline());
    let mut found: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for rejection in &report.rejections {
        found.entry(rejection.pass.clone()).or_default().insert(rejection.place.line);
    }
    // Equal sets are a precision and a recall of 1 for each pass.
    assert_eq!(found, expected);
    assert_eq!(bench.read("clean.jsonl"), file(sound));
    let widest = report.to_string().lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{report}");
}

#[test]
fn planted_dirt_is_washed_off() {
    let bench = Bench::new();
    let dirty = |text: &str, at: usize| match at % 5 {
        0 => misread(text),
        1 => format!("\u{feff} {}\u{200b}\n", text.replace('\n', "\r\n")),
        2 => text.replace('e', "e\u{200b}").replace('é', "e\u{301}"),
        3 => format!("\0{text}\u{1b}[0m\t "),
        _ => misread(&misread(text)),
    };
    let mut lines = sound();
    for (at, record) in lines.iter_mut().enumerate() {
        for message in record["messages"].as_array_mut().expect("a list of messages") {
            let content = message["content"].as_str().expect("text");
            message["content"] = dirty(content, at).into();
        }
    }
    bench.write("raw.jsonl", file(lines));
    let report = bench.clean("raw.jsonl", "clean.jsonl", &pipeline());
    assert_eq!(report.rejections, []);
    assert_eq!(bench.read("clean.jsonl"), file(sound()));
}

#[test]
fn the_report_names_what_and_where() {
    let bench = Bench::new();
    let mut first = record("recognise", "Visual", "What modality is: 'rain'?", "Visual");
    first["id"] = json!("one");
    let second = record("recognise", "Auditory", "Name the modality of 'Rain'.", "Auditory");
    bench.write("raw.jsonl", file([first, second]));
    let report = bench.clean("raw.jsonl", "clean.jsonl", &Pipeline::default());
    let json: Value = serde_json::from_str(&bench.read("report.json")).expect("the report is JSON");
    let path = bench.path("raw.jsonl").display().to_string();
    assert_eq!(
        json["rejections"][0],
        json!({
            "id": "one", "file": path, "line": 1, "pass": "conflict",
            "reason": "the same question has another answer elsewhere",
            "others": [{"file": path, "line": 2}],
        })
    );
    assert_eq!(json["rejections"][1]["id"], report.rejections[1].id);
    assert!(report.rejections[1].id.starts_with("sha256:"));
    assert_eq!((report.read, report.kept, report.rejected), (2, 0, 2));
    assert_eq!(bench.read("clean.jsonl"), "");
}

#[test]
fn an_input_is_never_the_output() {
    let bench = Bench::new();
    let before = file([fresh(1, " Yes. ")]);
    let set = bench.write("set.jsonl", &before);
    let refused =
        foehn_corpus::clean(std::slice::from_ref(&set), &set, &bench.path("report.json"), &Pipeline::default());
    assert!(matches!(refused, Err(foehn_corpus::Error::Outputs(_))), "{refused:?}");
    assert_eq!(bench.read("set.jsonl"), before);
}
