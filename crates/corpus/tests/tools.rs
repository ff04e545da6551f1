//! Conversations with tools, their calls and results, and reasoning: read whole, or rejected by name.

mod common;

use std::path::{Path, PathBuf};

use common::Bench;
use foehn_corpus::{
    CleanReport, Duplicates, Length, NearDuplicates, Pii, Pipeline, Record, Role, SetPass, Structure, SystemPrompt,
    clean, read_clean, write_clean,
};
use foehn_record::{FunctionCall, Message, ToolCall, ToolKind};
use proptest::prelude::*;
use serde_json::json;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The report and the clean records.
fn cleaned(bench: &Bench, name: &str) -> (CleanReport, Vec<Record>) {
    let report = clean(&[data(name)], &bench.path("clean.jsonl"), &bench.path("report.json"), &Pipeline::default());
    let records = read_clean(&bench.path("clean.jsonl")).expect("a clean file");
    (report.expect("the file can be read"), records)
}

fn rejected(report: &CleanReport) -> Vec<String> {
    report.rejections.iter().map(|found| format!("{} {}: {}", found.place.line, found.pass, found.reason)).collect()
}

/// The line of each rejected record, and the pass.
fn rejected_by(report: &CleanReport) -> Vec<(u64, &str)> {
    report.rejections.iter().map(|found| (found.place.line, found.pass.as_str())).collect()
}

fn changed(report: &CleanReport, pass: &str) -> u64 {
    report.passes.iter().find(|found| found.pass == pass).map_or(0, |found| found.changed)
}

#[test]
fn every_case_of_tools_is_read_whole_or_rejected_by_name() {
    let bench = Bench::new();
    let (report, records) = cleaned(&bench, "tools.jsonl");
    assert_eq!(
        rejected(&report),
        [
            "6 read: the field `images` holds images, which can't be trained on here",
            "8 read: the field `conversations[2].value.name` is missing",
            "10 read: the field `label` holds an answer that is not wanted, which can't be trained on here",
        ]
    );
    let ids: Vec<&str> = records.iter().filter_map(|record| record.id.as_deref()).collect();
    assert_eq!(ids, ["call", "call-empty", "fc", "reason", "think", "hist-sg", "chosen"]);
    let call = |id: Option<&str>, arguments: &str| ToolCall {
        id: id.map(str::to_owned),
        kind: ToolKind::Function,
        function: FunctionCall { name: "tide".to_owned(), arguments: arguments.to_owned() },
    };
    let last: Vec<&Message> = records.iter().filter_map(|record| record.messages.last()).collect();
    assert_eq!(records[0].tools[0]["function"]["parameters"]["properties"]["port"]["type"], "string");
    assert_eq!(last[0].tool_calls, [call(Some("c1"), "{\"port\": \"Riga\"}")]);
    assert_eq!(
        (last[1].content.as_str(), &last[1].tool_calls[..]),
        ("", &[call(Some("c2"), "{\"port\": \"Oslo\"}")][..])
    );
    assert_eq!((last[2].content.as_str(), &last[2].tool_calls[..]), ("One moment.", &[call(None, "{}")][..]));
    assert_eq!(last[3].reasoning_content.as_deref(), Some("Ten threes are 30, seven threes are 21."));
    assert_eq!(last[4].reasoning_content.as_deref(), Some("Twice 27."));
    assert_eq!((records[5].messages[0].role, records[5].tools.len()), (Role::System, 0));
    assert_eq!(records[6].rejected.as_deref(), Some("No."));
    // Nothing else of the conversations is left out.
    assert!(report.left_out.is_empty(), "{:?}", report.left_out);
}

/// All records of both files but the dirt: a photo, copies, and lines that are cut off.
#[test]
fn the_tickets_are_read_at_the_first_try() {
    let bench = Bench::new();
    let (report, records) = cleaned(&bench, "tickets_openai.jsonl");
    assert_eq!(rejected_by(&report), [(19, "duplicate"), (41, "read"), (49, "read")]);
    let calls = records.iter().filter(|record| record.messages.iter().any(|message| !message.tool_calls.is_empty()));
    assert_eq!(calls.count(), 3);
    assert_eq!(records.iter().filter(|record| !record.tools.is_empty()).count(), 4);
    let bench = Bench::new();
    let (report, records) = cleaned(&bench, "tickets_sharegpt.json");
    // A copy, an answer with a further ticket, one that breaks off, an empty ticket, one with a template's words.
    let dirt = [(37, "duplicate"), (44, "runs-on"), (45, "truncated"), (46, "structure"), (47, "control-text")];
    assert_eq!(rejected_by(&report), dirt);
    assert_eq!(changed(&report, "structure"), 2);
    let merged = records.iter().find(|record| record.id.as_deref() == Some("sg-x1")).expect("kept");
    assert_eq!(merged.messages[0].content, "Hi\n\nMy stove leaks gas!");
    let ended = records.iter().find(|record| record.id.as_deref() == Some("sg-x2")).expect("kept");
    assert_eq!(ended.messages.len(), 2);
    let shown = report.repairs.iter().find(|repairs| repairs.pass == "structure").expect("the repairs are shown");
    let texts: Vec<(&str, &str)> =
        shown.changes.iter().map(|change| (change.before.as_str(), change.after.as_str())).collect();
    assert_eq!(texts, [("Hi", "Hi\n\nMy stove leaks gas!"), ("And then?", "")]);
}

#[test]
fn a_clean_file_of_tools_is_cleaned_into_the_same_bytes() {
    for name in ["tools.jsonl", "tickets_openai.jsonl", "tickets_sharegpt.json"] {
        let bench = Bench::new();
        cleaned(&bench, name);
        let report = bench.clean("clean.jsonl", "again.jsonl", &Pipeline::default());
        assert_eq!(bench.read("clean.jsonl"), bench.read("again.jsonl"), "{name}");
        assert!(report.passes.iter().all(|pass| pass.changed == 0), "{name}");
    }
}

#[test]
fn the_system_is_folded_on_request() {
    let bench = Bench::new();
    let pipeline = Pipeline::with_structure(Structure { system: SystemPrompt::Fold, ..Structure::default() });
    clean(&[data("tickets_sharegpt.json")], &bench.path("clean.jsonl"), &bench.path("report.json"), &pipeline)
        .expect("the file can be read");
    let records = read_clean(&bench.path("clean.jsonl")).expect("a clean file");
    assert!(records.iter().all(|record| record.messages[0].role == Role::User));
    let begin = "You are the triage assistant of Nordlicht Outdoor.";
    assert!(records[0].messages[0].content.starts_with(begin));
}

/// An answer that calls a tool.
fn calling(city: &str) -> Record {
    let function = FunctionCall { name: "weather".to_owned(), arguments: json!({ "city": city }).to_string() };
    let call = ToolCall { id: Some("c1".to_owned()), kind: ToolKind::Function, function };
    let answer = Message { tool_calls: vec![call], ..Message::assistant("") };
    Record::new(vec![Message::user("How is the weather in the city that I named before?"), answer])
}

/// The first record, and whether another is rejected as its copy.
fn is_copy(pass: impl SetPass + 'static, other: Record) -> bool {
    let bench = Bench::new();
    write_clean(&bench.path("two.jsonl"), &[calling("Graz"), other]).expect("writable");
    bench.clean("two.jsonl", "clean.jsonl", &Pipeline::new().with_set(pass)).rejected == 1
}

#[test]
fn records_that_differ_in_a_call_or_a_tool_alone_are_no_copies() {
    let same = || {
        let mut record = calling("Graz");
        record.messages[1].tool_calls[0].id = Some("c9".to_owned());
        record
    };
    let with_tool = || Record { tools: vec![json!({"type": "function", "function": {"name": "f"}})], ..same() };
    let with_reasoning = || {
        let mut record = same();
        record.messages[1].reasoning_content = Some("They named Graz.".to_owned());
        record
    };
    assert!(is_copy(Duplicates, same()) && is_copy(NearDuplicates::default(), same()));
    for other in [calling("Lyon"), with_tool()] {
        assert!(!is_copy(Duplicates, other.clone()), "{other:?}");
        assert!(!is_copy(NearDuplicates::default(), other.clone()), "{other:?}");
    }
    assert!(!is_copy(Duplicates, with_reasoning()));
}

#[test]
fn a_call_is_no_short_answer_and_no_truncated_one() {
    let mut record = calling("Graz");
    record.messages[1].content = "I will look it up:".to_owned();
    let mut pipeline = Pipeline::default().with(Length { min_answer: Some(40), ..Length::default() });
    assert_eq!(pipeline.run(&mut record.clone()).rejected, None);
    record.messages[1].tool_calls.clear();
    assert!(pipeline.run(&mut record).rejected.is_some());
    // The arguments count as tokens.
    let counter = |text: &str| text.split_whitespace().count();
    pipeline =
        Pipeline::new().with(Length { max_tokens: Some(11), ..Length::default() }).counting(("a counter", counter));
    assert_eq!(
        pipeline.run(&mut calling("Graz")).rejected.map(|(_, reason)| reason),
        Some("the record has 12 tokens, expected at most 11".to_owned())
    );
}

#[test]
fn faults_are_found_in_calls_too() {
    let mut lost = calling("Gr\u{fffd}z");
    let reason = |record: &mut Record| Pipeline::default().run(record).rejected.map(|(_, reason)| reason);
    assert_eq!(reason(&mut lost).as_deref(), Some("message 2 has lost characters (U+FFFD)"));
    let mut garbled = calling("MalmÃ¶");
    assert_eq!(reason(&mut garbled), None);
    assert_eq!(garbled, calling("Malmö"));
    assert!(reason(&mut calling("Graz</s>")).is_some_and(|reason| reason.contains("control text `</s>`")));

    let masked = |city: &str| {
        let mut record = calling(city);
        let outcome = Pipeline::new().with(Pii::default()).run(&mut record);
        (record.messages[1].tool_calls[0].function.arguments.clone(), outcome.rejected.map(|(_, reason)| reason))
    };
    assert_eq!(masked("ask anna@example.org"), (json!({"city": "ask [EMAIL]"}).to_string(), None));
    assert_eq!(masked("Graz"), (json!({"city": "Graz"}).to_string(), None));
    let mut number = calling("");
    number.messages[1].tool_calls[0].function.arguments = r#"{"card":4111111111111111}"#.to_owned();
    let outcome = Pipeline::new().with(Pii::default()).run(&mut number);
    let reason = "the arguments of a call hold a card number that cannot be masked (message 2)";
    assert_eq!(outcome.rejected.map(|(_, reason)| reason).as_deref(), Some(reason));
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[ -~]{1,20}", any::<String>()]
}

fn call() -> impl Strategy<Value = ToolCall> {
    let arguments = prop::collection::btree_map(
        text(),
        prop_oneof![text().prop_map(|text| json!(text)), any::<i64>().prop_map(|number| json!(number))],
        0..3,
    );
    (prop::option::of("[a-z0-9]{1,9}"), "[a-z_]{1,8}", arguments, any::<bool>()).prop_map(
        |(id, name, arguments, is_spaced)| {
            let arguments = json!(arguments);
            let arguments = if is_spaced { format!("{arguments:#}") } else { arguments.to_string() };
            ToolCall { id, kind: ToolKind::Function, function: FunctionCall { name, arguments } }
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let said = "[a-z]{1,9}[ -~]{0,9}";
    prop_oneof![
        text().prop_map(Message::system),
        text().prop_map(Message::user),
        (text(), prop::option::of(said), prop::collection::vec(call(), 0..3), prop::option::of(0..2u8)).prop_map(
            |(content, reasoning_content, tool_calls, weight)| {
                Message { reasoning_content, tool_calls, weight, ..Message::assistant(content) }
            }
        ),
        (text(), prop::option::of("[a-z0-9]{1,9}"), prop::option::of("[a-z_]{1,8}")).prop_map(
            |(content, tool_call_id, name)| Message { tool_call_id, name, ..Message::new(Role::Tool, content) }
        ),
    ]
}

fn conversation() -> impl Strategy<Value = Record> {
    let tool = ("[a-z_]{1,8}", text()).prop_map(|(name, description)| {
        json!({"type": "function", "function": {"name": name, "description": description, "parameters": {"type": "object"}}})
    });
    let rejected = prop::option::of(text());
    (prop::collection::vec(message(), 1..6), prop::collection::vec(tool, 0..3), rejected)
        .prop_map(|(messages, tools, rejected)| Record { tools, rejected, ..Record::new(messages) })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(records in prop::collection::vec(conversation(), 1..8)) {
        let bench = Bench::new();
        for name in ["records.jsonl", "records.parquet"] {
            write_clean(&bench.path(name), &records).expect("writable");
            prop_assert_eq!(&read_clean(&bench.path(name)).expect("readable"), &records, "{}", name);
        }
    }
}
