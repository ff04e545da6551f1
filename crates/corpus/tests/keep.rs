//! Whole answers that look like faults are kept, and answers that break off are rejected.

mod common;

use std::path::{Path, PathBuf};

use common::Bench;
use foehn_corpus::{CleanReport, Pipeline, Verdict, clean, clean_with};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn cleaned(name: &str) -> CleanReport {
    let bench = Bench::new();
    clean(&[data(name)], &bench.path("clean.jsonl"), &bench.path("report.json"), &Pipeline::default())
        .expect("the file can be read")
}

fn rejected(report: &CleanReport) -> Vec<String> {
    report.rejections.iter().map(|found| format!("{} {}: {}", found.id, found.pass, found.reason)).collect()
}

/// With the whole default pipeline, including the passes that compare records.
#[test]
fn whole_answers_are_kept() {
    for (name, least) in [("keep.jsonl", 60), ("whole.jsonl", 300)] {
        let report = cleaned(name);
        let rejected = rejected(&report);
        assert!(report.read >= least && rejected.len() as u64 * 20 <= report.read, "{name}: {rejected:#?}");
        // A possible fault is in the report, with its reason and its line.
        assert!(report.flagged > 0 && report.flags.len() as u64 >= report.flagged);
        assert!(report.flags.iter().all(|flag| flag.place.line > 0 && !flag.reason.is_empty()));
    }
}

/// They differ in a number, a sign, a negation or a short answer, so the pass for near-duplicates keeps them.
#[test]
fn whole_answers_are_no_near_duplicates() {
    for name in ["keep.jsonl", "whole.jsonl"] {
        let pipeline = Pipeline::new().with_set(foehn_corpus::NearDuplicates::default());
        let report = clean_with(&[data(name)], &pipeline, &foehn_corpus::CleanConfig::default()).expect("readable");
        assert_eq!(report.rejected, 0, "{:#?}", report.rejections);
    }
}

#[test]
fn answers_that_break_off_are_rejected() {
    let report = cleaned("cut.jsonl");
    assert!(report.read >= 10);
    let by: Vec<&str> = report.rejections.iter().map(|found| found.pass.as_str()).collect();
    assert_eq!(by, vec!["truncated"; report.read as usize], "{:#?}", report.flags);
    let said = report.require_kept().expect_err("nothing is kept").to_string();
    assert!(
        said.starts_with(&format!("all {} records are rejected", report.read))
            && said.contains("by `truncated`: the answer breaks off"),
        "{said}"
    );
}

/// Some answers that are cut at a random place end like complete ones; these are at least flagged.
#[test]
fn answers_cut_anywhere_are_rejected_or_flagged() {
    let report = cleaned("broken.jsonl");
    let unseen = report.read - report.rejected - report.flagged;
    assert!(report.read >= 25 && report.rejected * 10 >= report.read * 9 && unseen == 0, "{report}{:#?}", report.flags);
    assert!(report.rejections.iter().all(|found| found.pass == "truncated"), "{:#?}", report.rejections);
}

#[test]
fn a_pipeline_sets_the_verdict_of_a_pass() {
    let bench = Bench::new();
    let run = |text: &str, name: &str| {
        let pipeline = foehn_corpus::Registry::default().parse(text, Path::new("p.toml")).expect("a sound list");
        clean_with(&[data(name)], &pipeline, &foehn_corpus::CleanConfig::default()).expect("the file can be read")
    };
    let with = |verdict: &str| format!("[[pass]]\nname = 'truncated'\n{verdict}\n");
    let (own, flag) = (run(&with(""), "cut.jsonl"), run(&with("verdict = 'flag'"), "cut.jsonl"));
    assert_eq!((own.rejected, own.flagged), (own.read, 0));
    assert_eq!((flag.rejected, flag.flagged, flag.kept), (0, flag.read, flag.read));
    // The reasons are the same; only the verdict differs.
    assert_eq!(own.rejections, flag.flags);
    let (own, strict) = (run(&with(""), "keep.jsonl"), run(&with("verdict = 'reject'"), "keep.jsonl"));
    assert!(own.flagged > 0 && strict.flagged == 0);
    assert_eq!(strict.rejected, own.rejected + own.flagged);

    // The same for a pass over the set.
    let set = "[[pass]]\nname = 'duplicate'\nverdict = 'flag'\n";
    let line = "{\"prompt\": \"Why?\", \"completion\": \"It rained.\"}\n";
    let raw = bench.write("twice.jsonl", line.repeat(2));
    let pipeline = foehn_corpus::Registry::default().parse(set, Path::new("p.toml")).expect("a sound list");
    let report = clean_with(&[raw], &pipeline, &foehn_corpus::CleanConfig::default()).expect("it can be read");
    assert_eq!((report.kept, report.flagged, report.flags[0].others[0].line), (2, 1, 1));
    assert_eq!(report.flag_reasons[0].samples[0].other[0].text, "Why?");
    let in_code = Pipeline::new().with_set_as(foehn_corpus::Duplicates, Verdict::Flag);
    assert_eq!(in_code.hash(), pipeline.hash());
}

#[test]
fn only_what_judges_has_a_verdict() {
    for (name, verdict, said) in [
        ("trim", "flag", "`trim` does not judge records"),
        ("class-balance", "flag", "`class-balance` does not judge records"),
        ("truncated", "ignore", "unknown variant `ignore`"),
    ] {
        let text = format!("\n[[pass]]\nname = '{name}'\nverdict = '{verdict}'\n");
        let error = foehn_corpus::Registry::default().parse(&text, Path::new("p.toml")).expect_err("no such verdict");
        let cause = std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
        assert!(format!("{error} {cause}").contains(said), "{error} {cause}");
    }
}

#[test]
fn flags_are_in_the_summary_the_json_and_the_page() {
    let bench = Bench::new();
    let mail = "anna.huber@harbour.example";
    bench.write("raw.jsonl", format!("{{\"prompt\": \"Whom do I ask?\", \"completion\": \"Write to {mail}.\"}}\n"));
    let report = bench.clean("raw.jsonl", "clean.jsonl", &Pipeline::default());
    assert_eq!((report.kept, report.flagged, report.rejected), (1, 1, 0));
    assert!(bench.read("clean.jsonl").contains(mail), "personal data are reported, not dropped");
    assert!(report.to_string().contains("1 of those kept are flagged"), "{report}");
    let json: serde_json::Value = serde_json::from_str(&bench.read("report.json")).expect("the report is JSON");
    assert_eq!((json["flagged"].as_u64(), json["flags"][0]["line"].as_u64()), (Some(1), Some(1)));
    assert_eq!(json["flags"][0]["pass"], "pii");
    let page = report.to_html();
    assert!(page.contains("What to look at") && page.contains("Every flag"));
    // None of them shows the masked data.
    assert!(!page.contains(mail) && !bench.read("report.json").contains(mail) && page.contains("[EMAIL]"));
}
