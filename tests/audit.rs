//! The audit of labels: planted errors rank high, and decisions change what they name and nothing else.

mod common;

use std::fs;
use std::path::Path;

use common::scene::{Scene, example, fails, stdout_of};
use foehn::Pretrained;
use foehn::audit::{
    Audit, AuditConfig, AuditError, AuditedTask, Change, Entry, Judged, Progress, Review, Source, audit,
};
use foehn::evaluate::LabelRule;
use foehn::finetune::TrainingConfig;
use foehn_record::Record;
use serde_json::{Value, json};

const THINGS: [&str; 20] = [
    "bell", "drum", "rose", "salt", "silk", "smoke", "flute", "lemon", "marble", "amber", "cedar", "thunder", "river",
    "candle", "kettle", "ladder", "window", "garden", "button", "feather",
];

/// One word of each record says its label. The records of `wrong` have the other label.
fn records(wrong: &[usize]) -> Vec<Record> {
    let record = |at: usize| {
        let is_hot = at.is_multiple_of(2);
        let word = if is_hot { "boiling" } else { "frozen" };
        let label = if is_hot != wrong.contains(&at) { "hot" } else { "cold" };
        let thing = THINGS[at / 2];
        Record { id: Some(format!("r{at}")), ..Record::pair(format!("{word} {word} {thing}: {word}?"), label) }
    };
    (0..2 * THINGS.len()).map(record).collect()
}

fn source(records: Vec<Record>) -> Source {
    let entries = records.into_iter().enumerate().map(|(at, record)| Entry { line: at as u64 + 1, record }).collect();
    Source { path: "things.jsonl".into(), sha256: String::new(), entries, unreadable: Vec::new() }
}

fn config() -> AuditConfig {
    let training = TrainingConfig { learning_rate: 1e-2, ..AuditConfig::default().training };
    AuditConfig { epochs: Some(20), training, ..AuditConfig::default() }
}

fn load(scene: &Scene) -> Pretrained {
    Pretrained::load(scene.model.to_str().unwrap(), &foehn::device("flex").unwrap()).unwrap()
}

#[test]
fn planted_errors_are_the_most_doubtful() {
    let scene = Scene::new();
    let base = load(&scene);
    let wrong = [3, 12, 25, 30];
    let data = source(records(&wrong));
    let mut seen = Vec::new();
    let found = audit(&base, &data, &config(), &mut |progress| {
        if let Progress::Work { done, total, .. } = progress {
            seen.push((done, total));
        }
    })
    .unwrap();
    // Every record is judged once, and the work goes up to its end.
    let mut lines: Vec<u64> = found.judged.iter().map(|judged| judged.line).collect();
    lines.sort_unstable();
    assert_eq!(lines, (1..=40).collect::<Vec<u64>>());
    assert!(seen.is_sorted() && seen.last().is_some_and(|(done, total)| done == total), "{seen:?}");
    assert!(found.judged.is_sorted_by(|a, b| a.doubt >= b.doubt));
    // Records that begin alike may be near-duplicates, but each fold has both labels.
    for fold in 0..2 {
        for label in ["hot", "cold"] {
            assert!(found.judged.iter().any(|judged| judged.fold == fold && judged.given == label));
        }
    }
    for judged in &found.judged {
        let sum: f64 = judged.log_probabilities.iter().map(|log| log.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-9 && judged.given != judged.other, "{judged:?}");
    }
    let known: Vec<String> = wrong.iter().map(|at| format!("r{at}")).collect();
    let figures = found.find(&known).unwrap();
    assert_eq!((figures.found, figures.looked_at), (4, 4), "{figures:?}");
    assert_eq!(figures.auroc, 1.0);

    // The same again, to the last bit; and the base has no adapter afterwards.
    assert_eq!(audit(&base, &data, &config(), &mut |_| ()).unwrap(), found);
    assert!(foehn::lora::parameters(&base.model).is_empty());
}

#[test]
fn data_that_cannot_be_judged_is_refused_by_name() {
    let scene = Scene::new();
    let base = load(&scene);
    let refused =
        |records: Vec<Record>, config: AuditConfig| audit(&base, &source(records), &config, &mut |_| ()).unwrap_err();
    let mut mistyped = records(&[]);
    mistyped[6].messages[1].content = "hott".into();
    let error = refused(mistyped.clone(), AuditConfig { rule: Some(LabelRule::Whole), ..config() });
    let AuditError::TooFewGroups { line: 7, label, groups: 1, folds: 2, .. } = &error else { panic!("{error}") };
    assert!(label == "hott" && error.to_string().contains("\"hott\" stands in 1 group of records"), "{error}");
    let error = refused(records(&[]), AuditConfig { folds: 1, ..config() });
    assert!(matches!(error, AuditError::Setting { field: "folds", found: 1, .. }), "{error}");
    assert!(matches!(refused(Vec::new(), config()), AuditError::NoRecords { .. }));
    let rule = Some("json:label".parse().unwrap());
    assert!(matches!(refused(records(&[]), AuditConfig { rule, ..config() }), AuditError::Texts { records: 40, .. }));

    // With the labels named, the mistyped one is no label, and is counted.
    let labels = vec!["hot".to_owned(), "cold".to_owned()];
    let config = AuditConfig { labels, epochs: Some(1), ..config() };
    let found = audit(&base, &source(mistyped), &config, &mut |_| ()).unwrap();
    assert_eq!((found.judged.len(), found.without_label), (39, 1));
}

/// An audit as it would be of a file, in which every record is doubted.
fn audit_of(path: &Path, rule: &str, labels: [&str; 2]) -> Audit {
    let data = Source::read(path).unwrap();
    let found: LabelRule = rule.parse().unwrap();
    let judged = |entry: &Entry| {
        let given = found.of_record(&entry.record).unwrap();
        Judged {
            line: entry.line,
            id: entry.record.id.clone(),
            task: 0,
            fold: 0,
            other: labels[usize::from(given == labels[0])].to_owned(),
            given,
            doubt: 1.0,
            log_probabilities: vec![-1.3, -0.3],
            question: entry.record.messages[0].content.clone(),
            answer: String::new(),
            fingerprint: entry.line.to_string(),
            is_kept: false,
        }
    };
    Audit {
        foehn: String::new(),
        model: String::new(),
        data: path.to_owned(),
        data_sha256: data.sha256.clone(),
        folds: 2,
        seed: 0,
        tasks: vec![AuditedTask { name: "x".into(), rule: rule.into(), labels: labels.map(str::to_owned).to_vec() }],
        without_label: 0,
        unreadable: data.unreadable.len(),
        judged: data.entries.iter().map(judged).collect(),
    }
}

/// Changes the label of the record on line 2; all other lines, and all of this one but `old`, keep their bytes.
#[track_caller]
fn check_lines(rule: &str, line: &str, old: &[&str], new: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data.jsonl"), folder.path().join("out.jsonl"));
    let first = line.replace("red", "blue");
    let text = format!("\u{feff}{first}\r\n{line} \r\n\n  {{not json\n{first}");
    fs::write(&data, &text).unwrap();
    let audit = audit_of(&data, rule, ["red", "blue"]);
    let change = audit.change("2").unwrap();
    assert_eq!(change, Change { line: 2, label: "blue".to_owned() });
    let changed = audit.relabel(&[change], &out).unwrap();
    assert!(changed.same_bytes && changed.records == 1, "{changed:?}");
    let expected = old.iter().zip(new).fold(line.to_owned(), |line, (old, new)| line.replacen(old, new, 1));
    assert_ne!(expected, line);
    assert_eq!(fs::read_to_string(&out).unwrap(), text.replace(line, &expected));
}

#[test]
fn a_new_label_changes_no_other_byte() {
    let changes = |old: &'static str| (["\"red\""; 1], [old; 1]);
    let (old, new) = changes("\"blue\"");
    check_lines(
        "whole",
        r#"{ "messages" :[{"role":"user","content":"é \u00e9?"},{"role":"assistant", "content":"red"}], "n": 1.50}"#,
        &old,
        &new,
    );
    check_lines("whole", r#"{"prompt": "red?", "completion":"red"}"#, &old, &new);
    check_lines(
        "whole",
        r#"{"conversations":[{"from":"human","value":"?"},{"from":"gpt","value":"red"}],"id":"red"}"#,
        &old,
        &new,
    );
    check_lines("whole", r#"{"instruction":"?","output":"red"}"#, &old, &new);
    // The field `label` says the same; another one is the author's business.
    check_lines(
        "whole",
        r#"{"prompt":"?","completion":"red","label":"red","seen":"red"}"#,
        &[r#""completion":"red","label":"red""#],
        &[r#""completion":"blue","label":"blue""#],
    );
    check_lines(
        "field:colour",
        r#"{"prompt":"?","completion":"It is red, not green.","colour":"red"}"#,
        &["is red", r#""colour":"red""#],
        &["is blue", r#""colour":"blue""#],
    );
    check_lines(
        "first-line",
        r#"{"prompt":"?","completion":"red\n\u0041 \"red\" one"}"#,
        &[r#""red\n\u0041 \"red\" one"#],
        &[r#""blue\nA \"red\" one"#],
    );
    check_lines(
        "json:c",
        r#"{"prompt":"?","completion":"{\"a\": 1.0, \"c\": \"red\"}"}"#,
        &[r#"\"c\": \"red\""#],
        &[r#"\"c\": \"blue\""#],
    );
}

#[test]
fn other_formats_become_json_lines_with_all_records() {
    let folder = tempfile::tempdir().unwrap();
    let [data, out, list] = ["data.csv", "out.jsonl", "data.json"].map(|name| folder.path().join(name));
    fs::write(&data, "id,prompt,completion,label\na,\"two\nlines\",\"red\nx\",red\nb,?,\"blue\ny\",blue\n").unwrap();
    let audit = audit_of(&data, "first-line", ["red", "blue"]);
    let changed = audit.relabel(&[audit.change("b=red").unwrap()], &out).unwrap();
    assert!(!changed.same_bytes);
    let before: Vec<Record> = Source::read(&data).unwrap().entries.into_iter().map(|entry| entry.record).collect();
    let mut after: Vec<Record> = Source::read(&out).unwrap().entries.into_iter().map(|entry| entry.record).collect();
    assert_eq!(after[1].messages[1].content, "red\ny");
    assert_eq!(after[1].text("label"), Some("red"));
    after[1].messages[1].content = "blue\ny".into();
    after[1].metadata.insert("label".into(), "blue".into());
    assert_eq!(after, before);

    // A record that cannot be read would be lost.
    fs::write(&list, r#"[{"prompt": "?", "completion": "red"}, 7, {"prompt": "!", "completion": "blue"}]"#).unwrap();
    let audit = audit_of(&list, "whole", ["red", "blue"]);
    let error = audit.relabel(&[audit.change("1").unwrap()], &out).unwrap_err();
    assert!(matches!(error, AuditError::WouldBeLost { line: 2, .. }), "{error}");
}

#[test]
fn a_decision_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data.jsonl");
    fs::write(&data, "{\"prompt\": \"?\", \"completion\": \"red\"}\n{\"prompt\": \"!\", \"completion\": \"blue\"}\n")
        .unwrap();
    let mut audit = audit_of(&data, "whole", ["red", "blue"]);
    assert!(matches!(audit.change("9"), Err(AuditError::UnknownRecord { .. })));
    assert!(matches!(audit.change("1=green"), Err(AuditError::UnknownLabel { line: 1, .. })));
    assert!(matches!(audit.change("1=red"), Err(AuditError::SameLabel { line: 1, .. })));
    audit.judged[0].doubt = -1.0;
    assert!(matches!(audit.change("1"), Err(AuditError::SameLabel { line: 1, .. })));
    let change = audit.change("2").unwrap();
    let other = folder.path().join("out.csv");
    assert!(matches!(audit.relabel(std::slice::from_ref(&change), &other), Err(AuditError::NotLines { .. })));
    fs::write(&data, "{\"prompt\": \"?\", \"completion\": \"red\"}\n").unwrap();
    let out = folder.path().join("out.jsonl");
    assert!(matches!(audit.relabel(&[change], &out), Err(AuditError::DataChanged { .. })));
    assert!(!out.exists() && !other.exists());
}

#[test]
fn a_kept_record_is_open_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let [data, kept] = ["data.jsonl", "reviewed.jsonl"].map(|name| folder.path().join(name));
    fs::write(&data, "{\"prompt\": \"?\", \"completion\": \"red\"}\n{\"prompt\": \"!\", \"completion\": \"blue\"}\n")
        .unwrap();
    let mut audit = audit_of(&data, "whole", ["red", "blue"]);
    let mut review = Review::load(&kept).unwrap();
    review.keep(audit.record("2").unwrap());
    review.keep(audit.record("2").unwrap());
    review.save(&kept).unwrap();
    assert_eq!(fs::read_to_string(&kept).unwrap().lines().count(), 1);
    let review = Review::load(&kept).unwrap();
    assert_eq!(review.mark(&mut audit), 1);
    assert_eq!(audit.open().map(|judged| judged.line).collect::<Vec<_>>(), [1]);
    let mut other = audit_of(&data, "whole", ["red", "blue"]);
    other.judged[1].fingerprint = "other".into();
    assert_eq!(review.mark(&mut other), 0);
    fs::write(&kept, "{}\n").unwrap();
    assert!(matches!(Review::load(&kept), Err(AuditError::Syntax { .. })));
}

#[test]
fn from_the_terminal_to_corrected_data() {
    let scene = Scene::new();
    let [data, saved, page, fixed, reviewed, known] =
        ["things.jsonl", "audit.json", "audit.html", "fixed.jsonl", "reviewed.jsonl", "known.txt"]
            .map(|name| scene.path(name));
    let mut records = records(&[3]);
    records[0].messages[0].content += " <b>\u{1b}[2J";
    let lines: String = records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect();
    fs::write(&data, format!("{lines}not json\n")).unwrap();
    fs::write(&known, "r3\n").unwrap();

    let mut first = example("audit");
    first.arg("--data").arg(&data).arg("--model").arg(&scene.model).args(["--epochs", "1", "--top", "40"]);
    first.arg("--out").arg(&saved).arg("--html").arg(&page).arg("--known").arg(format!("@{}", known.display()));
    let said = stdout_of(&mut first);
    assert!(said.contains("40 records with labels") && said.contains("1 records that cannot be read"), "{said}");
    assert!(said.contains("line 4 (r3): hot") && said.contains("known errors: ") && said.contains("AUROC"), "{said}");
    assert!(!said.contains('\u{1b}'));
    let page = fs::read_to_string(&page).unwrap();
    assert!(!page.contains("<script") && !page.contains('\u{1b}') && page.contains("&lt;b&gt;"));
    let audit: Value = serde_json::from_str(&fs::read_to_string(&saved).unwrap()).unwrap();
    assert_eq!(audit["tasks"], json!([{"name": "answers", "rule": "whole", "labels": ["cold", "hot"]}]));

    let again = |more: &[&str]| {
        let mut command = example("audit");
        command.arg("--from").arg(&saved).args(more);
        command
    };
    stdout_of(again(&["--keep", "1,r2", "--reviewed"]).arg(&reviewed));
    let listed = stdout_of(again(&["--top", "40", "--reviewed"]).arg(&reviewed));
    assert!(!listed.contains("(r0)") && !listed.contains("(r2)") && listed.contains("(r1)"), "{listed}");

    stdout_of(again(&["--relabel", "r3=cold,6=hot", "--write"]).arg(&fixed));
    let expected: Vec<String> = fs::read_to_string(&data)
        .unwrap()
        .lines()
        .enumerate()
        .map(|(at, line)| match at {
            3 => line.replace("\"hot\"", "\"cold\""),
            5 => line.replace("\"cold\"", "\"hot\""),
            _ => line.to_owned(),
        })
        .collect();
    assert_eq!(fs::read_to_string(&fixed).unwrap(), expected.join("\n") + "\n");

    fails(again(&["--relabel", "r3=cold", "--write"]).arg(&data), &["is the input"]);
    fails(again(&["--relabel", "r3=warm", "--write"]).arg(&fixed), &["line 4", "\"warm\""]);
    fails(again(&["--relabel", "r99", "--write"]).arg(&fixed), &["r99"]);
}
