//! Valid suites, invalid suites, and training data that contains probes.

mod common;

use std::path::Path;

use common::{Folder, small};
use foehn_corpus::{Message, Record, Role, read_clean};
use foehn_evaluate::{Error, Item, Shared, Suite, check_disjoint, contains, goes_on};

fn vakog() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets/vakog"))
}

/// The error of opening the suite after a change to one file.
fn refused(file: &str, from: &str, to: &str) -> Error {
    let change = |name: &str, text: &str| if name == file { text.replace(from, to) } else { text.to_owned() };
    Folder::new(change).open().unwrap_err()
}

#[test]
fn the_suite_of_vakog_is_balanced() {
    let suite = Suite::open(vakog().join("probes/suite.toml")).unwrap();
    let [recognition, production, choose, explain, rewrite] = suite.tasks.as_slice() else { panic!("five tasks") };
    assert_eq!(recognition.labels(), ["Visual", "Auditory", "Kinesthetic", "Olfactory", "Gustatory"]);
    for label in 0..5 {
        assert_eq!(recognition.items.iter().filter(|item| item.truth == label).count(), 20);
    }
    let item = &recognition.items[0];
    assert_eq!(item.prompts.len(), 3);
    assert_eq!(item.content_free[2][0].content, "Name the modality of '…'.");
    assert_eq!(production.items[0].question(), "Describe a storm using the Visual modality.");
    assert_eq!(production.items.len(), 100);

    assert_eq!([choose, explain, rewrite].map(|task| task.items.len()), [60; 3]);
    assert!(choose.items.iter().all(|item| item.question().contains(&item.reference)));
    for label in 0..5 {
        assert_eq!(rewrite.items.iter().filter(|item| item.truth == label).count(), 12);
    }
    // What an explanation needs: a word that the sentence has, and one for the sense that it has not.
    for item in &explain.items {
        let [named, said] = item.needs.as_slice() else { panic!("two lists") };
        assert!(named.iter().all(|word| contains(item.question(), [word])), "{}", item.id);
        let sentence = item.question().rsplit_once('\'').unwrap().0;
        let given = said.iter().filter(|word| contains(sentence, [word])).collect::<Vec<_>>();
        assert!(given.is_empty(), "{}: {given:?}", item.id);
    }
}

#[test]
fn the_general_suite_is_whole() {
    let suite = Suite::open(vakog().join("../general/suite.toml")).unwrap();
    let [questions, texts] = suite.tasks.as_slice() else { panic!("two tasks") };
    assert_eq!((questions.items.len(), texts.items.len()), (60, 24));
    assert!(questions.items.iter().all(|item| !item.accepted.is_empty()));
    // An accepted answer within its question would be right whatever is said.
    let given = |item: &&Item| contains(item.question(), &item.accepted);
    assert_eq!(questions.items.iter().find(given).map(|item| &item.id), None);
}

#[test]
fn the_hand_written_data_of_vakog_gives_no_probe_away() {
    let suite = Suite::open(vakog().join("probes/suite.toml")).unwrap();
    for part in ["choose", "describe", "explain", "multi", "recognise", "rewrite"] {
        let records = read_clean(&vakog().join("parts").join(part).with_extension("jsonl")).unwrap();
        assert!(!records.is_empty());
        check_disjoint(&suite, &records).unwrap();
    }
    for file in ["vakog_plain.jsonl", "../general/replay.jsonl"] {
        let records = read_clean(&vakog().join(file)).unwrap();
        check_disjoint(&suite, &records).unwrap();
        check_disjoint(&Suite::open(vakog().join("../general/suite.toml")).unwrap(), &records).unwrap();
    }
}

/// A description that is asked for one class of its own, and what a text needs.
#[test]
fn a_line_may_say_its_class_and_what_its_answer_needs() {
    let with_label = |to: &'static str| {
        move |name: &str, text: &str| match name {
            "suite.toml" => text.replace("kind = \"describe\"", "kind = \"describe\"\nlabel = \"sense\""),
            "production.jsonl" => text.replace("\"scene\"", &format!("\"sense\": \"{to}\", \"scene\"")),
            _ => text.to_owned(),
        }
    };
    let suite = Folder::new(with_label("Auditory")).open().unwrap();
    let items = &suite.tasks[1].items;
    assert!(items.len() == 2 && items.iter().all(|item| item.truth == 1 && item.question().contains("the Auditory")));
    let error = Folder::new(with_label("Hearing")).open().unwrap_err().to_string();
    assert!(error.contains("production.jsonl:1") && error.contains("Hearing"), "{error}");

    let text = r#"
        name = "why"
        [[task]]
        name = "why"
        kind = "text"
        file = "why.jsonl"
        prompts = ["Why is '{sentence}' {sense}?"]
        scorers = ["needs", "quotes"]
    "#;
    let folder = Folder::new(|_, text| text.to_owned());
    let open = |suite: &str, line: &str| {
        folder.write("why.toml", suite);
        folder.write("why.jsonl", line);
        Suite::open(folder.path("why.toml"))
    };
    let line = r#"{"sentence": "A bell rang", "sense": "Auditory", "needs": [["bell", "rang"], ["ear"]]}"#;
    let suite = open(text, line).unwrap();
    assert_eq!(suite.tasks[0].items[0].needs, [vec!["bell", "rang"], vec!["ear"]]);
    for broken in [r#""needs": [["bell"], []]"#, r#""needs": "bell""#, r#""needs": []"#, r#""other": 1"#] {
        let line = format!(r#"{{"sentence": "A bell rang", "sense": "Auditory", {broken}}}"#);
        let error = open(text, &line).unwrap_err();
        assert!(matches!(&error, Error::ItemField { field, .. } if field == "needs"), "{broken}: {error}");
    }
    // Records have no such key, so all of their answers would have all that is needed.
    let of_records = text.replace("prompts = [\"Why is '{sentence}' {sense}?\"]", "");
    let record = r#"{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}"#;
    let error = open(&of_records, record).unwrap_err();
    assert!(matches!(&error, Error::SuiteField { field: "scorers", .. }), "{error}");
}

#[test]
fn a_changed_probe_file_is_refused() {
    let folder = Folder::new(|_, text| text.to_owned());
    assert!(folder.open().is_ok());
    folder.write("recognition.jsonl", &common::PROBES.replace("amber", "red"));
    let error = folder.open().unwrap_err();
    assert!(matches!(&error, Error::NotFrozen { path, .. } if path.ends_with("recognition.jsonl")), "{error}");
}

#[test]
fn a_broken_suite_names_the_place() {
    let error = refused("recognition.jsonl", r#""kind": "idiom", "#, "");
    assert!(
        matches!(&error, Error::ItemField { place, field, .. } if place.ends_with(":2") && field == "kind"),
        "{error}"
    );
    let error = refused("recognition.jsonl", "{\"id\": \"p2\"", "\n\n{\"id\": p2");
    assert!(matches!(error, Error::ItemSyntax { line: 4, .. }), "{error}");
    // Empty lines count as lines.
    let error = refused("recognition.jsonl", "{\"id\": \"p2\"", "\n\n{\"id\": \"p1\"");
    assert!(
        matches!(&error, Error::ItemField { place, field, .. } if place.ends_with(":4") && field == "id"),
        "{error}"
    );
    let error = refused("recognition.jsonl", r#""Auditory", "kind": "literal""#, r#""Hearing", "kind": "literal""#);
    assert!(error.to_string().contains("recognition.jsonl:3") && error.to_string().contains("Hearing"), "{error}");
    assert!(matches!(refused("production.jsonl", common::SCENES, "\n"), Error::NoItems { .. }));

    let field = |from: &str, to: &str| match refused("suite.toml", from, to) {
        Error::SuiteField { field, .. } => field,
        other => panic!("{other}"),
    };
    assert_eq!(field(r#"["Visual", "Auditory"]"#, r#"["Visual", "Visual"]"#), "labels");
    assert_eq!(field("of '{sentence}'", "of it"), "prompts");
    assert_eq!(field("using the {label} modality", "in words"), "prompts");
    assert_eq!(field("name = \"production\"", "name = \"recognition\""), "name");
    assert_eq!(field("max_new_tokens = 12", "max_new_tokens = 0"), "max_new_tokens");
    // A key that nothing reads.
    assert_eq!(field("slice = \"kind\"", "slice = \"kind\"\nlexicon = \"lexicon.json\""), "lexicon");
    assert_eq!(field("slice = \"kind\"", "slice = \"kind\"\nrule = \"last\""), "rule");
    assert!(matches!(refused("suite.toml", "name =", "nom ="), Error::SuiteSyntax { .. }));
    assert!(matches!(refused("suite.toml", "[[task]]", "[[tasks]]"), Error::SuiteSyntax { .. }));
    let error = refused("lexicon.json", "Auditory", "Hearing");
    assert!(matches!(error, Error::SuiteField { field: "lexicon", .. }), "{error}");
    assert!(matches!(refused("unseen.json", "crimson", "two words"), Error::Corpus(_)));
}

fn record(group: &str, turns: &[&str]) -> Record {
    let roles = [Role::User, Role::Assistant].into_iter().cycle();
    Record {
        id: Some("r".to_owned()),
        messages: turns.iter().zip(roles).map(|(text, role)| Message::new(role, *text)).collect(),
        tools: Vec::new(),
        rejected: None,
        metadata: serde_json::Map::new(),
        group: Some(group.to_owned()),
    }
}

#[track_caller]
fn check_leak(record: Record, expected: Option<(&str, Shared)>) {
    let harmless = self::record("other", &["Who?", "I."]);
    let found = match check_disjoint(&small(), [&harmless, &record]) {
        Ok(()) => None,
        Err(Error::Leak { probe, record, how }) => {
            assert_eq!(record, "r");
            Some((probe, how))
        }
        Err(other) => panic!("{other}"),
    };
    assert_eq!(found.as_ref().map(|(probe, how)| (probe.as_str(), how.clone())), expected);
}

#[test]
fn what_gives_a_probe_away_is_found() {
    check_leak(record("mine", &["What modality is: 'A lamp glowed'?", "Visual"]), None);
    check_leak(record("house", &["Hi", "Hello"]), Some(("s2 Auditory", Shared::Group("house".to_owned()))));
    let text = Shared::Text("that rings a bell my friend".to_owned());
    check_leak(record("mine", &["Is it ‘THAT rings a bell — my friend’?", "Yes"]), Some(("p2", text)));
    // Words that extend from one message into the next do not count.
    check_leak(record("mine", &["That rings a bell", "my friend"]), None);
    let run = "two three four five six seven eight nine ten eleven twelve thirteen fourteen";
    let words = Shared::Words(run.to_owned());
    check_leak(record("mine", &["Count", &format!("So: {run}, fifteen")]), Some(("p3", words)));
    check_leak(record("mine", &["Count", &run["two ".len()..]]), None);
    let scene = Shared::Text("describe a storm".to_owned());
    check_leak(record("mine", &["Describe a storm in Auditory language only.", "Boom."]), Some(("s1 Visual", scene)));
    check_leak(record("mine", &["Describe a stormy day.", "A storm came."]), None);
}

#[test]
fn going_on_is_told_from_an_answer() {
    let suite = small();
    let patterns: Vec<String> = suite.tasks.iter().flat_map(|task| task.patterns.clone()).collect();
    let labels = suite.tasks[0].labels();
    let goes_on = |answer: &str| goes_on(&patterns, labels, "What modality is: 'A bell rang.'?", answer);
    for (answer, on) in [
        ("Auditory", false),
        ("Auditory.\n", false),
        ("The modality of this sentence is Auditory.", false),
        ("What modality is: 'A bell rang'? It is Auditory.", false),
        ("", false),
        ("Auditory\nUser: What now?", true),
        ("Auditory\nWhat modality is: 'Smoke drifted'?", true),
        ("Auditory What modality is: 'Smoke drifted'? Visual", true),
        ("Auditory. Name the modality of 'a glow'. Visual", true),
        ("Auditory\nDescribe a beach using the Visual modality.", true),
        ("Auditory\nI describe a beach.", false),
        ("Auditory\n\nVisual.", true),
        ("Auditory because it rang.\nIt is not Visual.", false),
    ] {
        assert_eq!(goes_on(answer).is_some(), on, "{answer:?}: {:?}", goes_on(answer));
    }
}
