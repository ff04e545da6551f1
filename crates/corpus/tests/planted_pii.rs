//! Personal data without a check digit, in numbers and words: all planted data is reported, and text that only looks
//! similar is not.

mod common;

use common::Bench;
use foehn_corpus::{Pii, PiiAction, PiiKind, Pipeline};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// A social security number in an issued range: no area 000, 666 or 900 to 999, no group 00, no serial 0000.
fn social_security() -> impl Strategy<Value = String> {
    let area = (1u32..900).prop_filter("it is not given out", |area| *area != 666);
    (area, 1u32..100, 1u32..10_000).prop_map(|(area, group, serial)| format!("{area:03}-{group:02}-{serial:04}"))
}

/// A United Kingdom national number, in the groups of Ofcom's plan.
fn british() -> impl Strategy<Value = String> {
    prop_oneof![
        "02[0349] [2-9][0-9]{3} [0-9]{4}",
        "01(1[3-8]|[2-6]1) [2-9][0-9]{2} [0-9]{4}",
        "\\(01(1[3-8]|[2-6]1)\\) [2-9][0-9]{2} [0-9]{4}",
        "01[2-9][2-9][0-9] [2-9][0-9]{5}",
        "\\(01[2-9][2-9][0-9]\\) [2-9][0-9]{5}",
        "07[1-57-9][0-9]{2} [0-9]{6}",
        "07[1-57-9][0-9]{2} [0-9]{3} [0-9]{3}",
        "07[1-57-9][0-9]{8}",
        "0[38]0[03] [0-9]{3} [0-9]{4}",
    ]
}

/// An e-mail address whose marks are written as words.
fn spelt() -> impl Strategy<Value = String> {
    let mark =
        prop_oneof![Just(("(at)", "(dot)")), Just(("[at]", "[dot]")), Just(("{at}", "{dot}")), Just(("(at)", "."))];
    ("[a-z]{2,8}([._][a-z]{2,8})?", mark, "[a-z]{3,9}", prop_oneof![Just("org"), Just("de"), Just("co")], any::<bool>())
        .prop_map(|(name, (at, dot), host, end, gaps)| {
            let gap = if gaps { " " } else { "" };
            let dot = if dot == "." { dot.to_owned() } else { format!("{gap}{dot}{gap}") };
            format!("{name}{gap}{at}{gap}{host}{dot}{end}")
        })
}

/// Text that only looks like personal data.
fn look_alike() -> impl Strategy<Value = String> {
    prop_oneof![
        "978-[0-9]-[0-9]{3}-[0-9]{5}-[0-9]",
        "0[1-9][0-9]{8}",
        "ISBN 0[0-9]{9}",
        "order (no\\. )?[1-8][0-9]{2}-[1-9][0-9]-[1-9][0-9]{3}",
        "invoice 07[0-9]{9}",
        "(000|666|9[0-9]{2})-[0-9]{2}-[0-9]{4}",
        "[1-5][0-9]{2}-00-[0-9]{4}",
        "[1-5][0-9]{2}-[0-9]{2}-0000",
        "0[1-9]-[01][0-9]-(19|20)[0-9]{2}",
        "(19|20)[0-9]{2}-0[1-9]-[012][0-9]",
        "v?0\\.[0-9]{1,2}\\.[0-9]{1,4}",
        "0\\.[0-9]{4} [0-9]{6}",
        "[a-z]{3,8} \\(at\\) [a-z]{3,8}, [a-z]{3,8} \\(dot\\)",
        "[a-z]{3,8} at [a-z]{3,8} dot",
        "[0-9]{4}-[0-9]{2}-[0-9]{4}",
    ]
}

#[test]
fn a_hundred_and_five_planted_are_reported_by_default_and_none_is_dropped() {
    let mut runner = TestRunner::deterministic();
    let mut plants = Vec::new();
    for _ in 0..35 {
        let mut one = |strategy: &dyn Fn(&mut TestRunner) -> String| plants.push(strategy(&mut runner));
        one(&|runner| social_security().new_tree(runner).expect("a number").current());
        one(&|runner| british().new_tree(runner).expect("a number").current());
        one(&|runner| spelt().new_tree(runner).expect("an address").current());
    }
    let lines = plants.iter().enumerate().map(|(at, plant)| {
        let answer = format!("You can have it in writing: {plant}, which I keep in my book, page {at}.");
        serde_json::json!({"prompt": format!("Whom do I ask about boat {at}?"), "completion": answer}).to_string()
            + "\n"
    });
    let bench = Bench::new();
    bench.write("raw.jsonl", lines.collect::<String>());
    let report = bench.clean("raw.jsonl", "clean.jsonl", &Pipeline::default());
    let by_pii = report.flags.iter().filter(|flag| flag.pass == "pii").count();
    assert_eq!((report.read, report.kept, by_pii), (105, 105, 105), "{report}");
    let (json, page) = (bench.read("report.json"), report.to_html());
    for plant in &plants {
        assert!(!json.contains(plant.as_str()) && !page.contains(plant.as_str()), "{plant} is in a report");
    }
}

proptest! {
    #[test]
    fn what_is_planted_is_found_whole(plant in prop_oneof![social_security(), british(), spelt()], name in "[b-h]{1,8}") {
        // A name of these letters is none of the words that make a number that of a thing: `id`, `lot`, `ref`.
        let dropping = Pii { action: PiiAction::Drop, ..Pii::default() };
        let mut record = foehn_corpus::Record::pair("Who is it?", format!("Ask {name}, {plant}, for it."));
        prop_assert!(foehn_corpus::Pass::check(&dropping, &record).is_some(), "{}", plant);
        prop_assert!(foehn_corpus::Pass::repair(&Pii::default(), &mut record));
        let text = &record.messages[1].content;
        prop_assert!(!text.contains(|c: char| c.is_ascii_digit() || c == '(' || c == '@'), "{}", text);
    }

    #[test]
    fn what_only_looks_like_it_is_not(text in look_alike()) {
        let pass = Pii { action: PiiAction::Drop, kinds: vec![PiiKind::Ssn, PiiKind::Phone, PiiKind::Email] };
        let record = foehn_corpus::Record::pair("What is it?", format!("It is {text}, as far as I know."));
        prop_assert_eq!(foehn_corpus::Pass::check(&pass, &record), None, "{}", text);
    }
}
