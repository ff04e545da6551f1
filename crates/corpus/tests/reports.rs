//! What a report gives besides its text: the rejected records, limits, and what changed since an earlier one.

use std::fs;
use std::path::PathBuf;

use foehn_corpus::{
    CleanConfig, CleanReport, Difference, EarlierReport, Error, Limit, Pipeline, Registry, clean_with, read,
    write_rejects,
};
use serde_json::Value;

const LINES: &str = r#"{"id":"a","prompt":"Where is the tram?","completion":"At the corner."}
{"id":"b","prompt":"Where is the tram?","completion":"At the corner."}
not JSON at all
{"id":"c","prompt":"When does it leave?","completion":"","line":3}
{"id":"d","prompt":"Who drives it today?","completion":"Anna drives it."}
"#;

fn cleaned(folder: &tempfile::TempDir) -> (Vec<PathBuf>, CleanReport) {
    let input = folder.path().join("raw.jsonl");
    fs::write(&input, LINES).unwrap();
    let inputs = vec![input];
    let report = clean_with(&inputs, &Pipeline::default(), &CleanConfig::default()).unwrap();
    (inputs, report)
}

#[test]
fn rejected_records_are_written_as_they_were_read() {
    let folder = tempfile::tempdir().unwrap();
    let (inputs, report) = cleaned(&folder);
    let out = folder.path().join("rejects.jsonl");
    write_rejects(&inputs, Pipeline::default().reading(), &report, &out).unwrap();
    let text = fs::read_to_string(&out).unwrap();
    let found: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found.len(), report.rejections.len());
    for (found, rejection) in found.iter().zip(&report.rejections) {
        let said = &found["rejection"];
        assert_eq!(said["line"], rejection.place.line);
        assert_eq!(
            (&said["pass"], &said["reason"]),
            (&rejection.pass.clone().into(), &rejection.reason.clone().into())
        );
    }
    let ids: Vec<&Value> = found.iter().map(|found| &found["id"]).collect();
    assert_eq!(ids, [&Value::from("b"), &Value::Null, &Value::from("c")]);
    assert_eq!(found[1]["excerpt"], "not JSON at all");
    assert_eq!(found[2]["messages"][0]["content"], "When does it leave?");
    assert_eq!(found[2]["line"], 3, "the record's own fields stay");
    // Records of the file are read as records.
    let read_again = read(&out).unwrap().map(Result::unwrap).filter(|line| line.record.is_ok()).count();
    assert_eq!(read_again, 2);
}

#[test]
fn a_report_keeps_its_limits_or_says_which_it_exceeds() {
    let (_, report) = cleaned(&tempfile::tempdir().unwrap());
    let limits = |text: &str| -> Vec<Limit> { text.split(' ').map(|limit| limit.parse().unwrap()).collect() };
    report.require(&limits("pii_is_no_pass:3")).unwrap_err();
    report.require(&limits("duplicate:1 read:1 conflict")).unwrap();
    let exceeded = report.require(&limits("conflict duplicate"));
    assert!(matches!(exceeded, Err(Error::Limit { pass, found: 1, most: 0 }) if pass == "duplicate"));
    let unknown = report.require(&limits("duplicate:9 dupes:1")).unwrap_err().to_string();
    assert!(unknown.contains("`dupes`") && unknown.contains("asks-again"), "{unknown}");
    assert!("duplicate:many".parse::<Limit>().is_err());
}

/// Each pipeline file of the recipes is read, and keeps a record of its kind.
#[test]
fn recipes_keep_what_they_are_for() {
    let recipes = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/recipes");
    let call = r#"{"id":"c1","type":"function","function":{"name":"tide","arguments":"{\"port\":\"Riga\"}"}}"#;
    let records = [
        ("classify", r#"{"prompt":"My parcel is late.","completion":"Delivery","label":"Delivery"}"#.to_owned()),
        ("chat", r#"{"prompt":"What is a fjord?","completion":"A long inlet of the sea between cliffs."}"#.to_owned()),
        (
            "code",
            r#"{"prompt":"Add two numbers.","completion":"fn add(a: i32, b: i32) -> i32 {\n    a + b\n}"}"#.to_owned(),
        ),
        ("text", r#"{"text":"The tide comes twice a day."}"#.to_owned()),
        (
            "tools",
            format!(
                r#"{{"tools":[{{"type":"function","function":{{"name":"tide","parameters":{{}}}}}}],"messages":[
                {{"role":"user","content":"When is high water in Riga?"}},
                {{"role":"assistant","content":"","tool_calls":[{call}]}},
                {{"role":"tool","content":"06:10","tool_call_id":"c1"}},
                {{"role":"assistant","content":"At ten past six."}}]}}"#
            )
            .replace('\n', ""),
        ),
    ];
    for (task, line) in records {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("one.jsonl");
        fs::write(&input, line).unwrap();
        let pipeline = Registry::default().load(&recipes.join(format!("clean-{task}.toml"))).unwrap();
        let report = clean_with(&[input], &pipeline, &CleanConfig::default()).unwrap();
        assert_eq!((report.kept, report.flagged), (1, 0), "{task}: {report}");
    }
}

#[test]
fn what_changed_since_an_earlier_report() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut report) = cleaned(&folder);
    let path = folder.path().join("report.json");
    report.save(&path).unwrap();
    let earlier = EarlierReport::open(&path).unwrap();
    assert_eq!(report.since(&earlier), []);
    report.kept += 1;
    report.passes.retain(|pass| pass.pass != "duplicate");
    let differs = |what: &str, before, now| Difference { what: what.to_owned(), before: Some(before), now };
    let expected = [differs("kept", report.kept - 1, Some(report.kept)), differs("duplicate: rejected", 1, None)];
    assert_eq!(report.since(&earlier), expected);
    fs::write(&path, "{}").unwrap();
    assert!(matches!(EarlierReport::open(&path), Err(Error::Report { .. })));
}
