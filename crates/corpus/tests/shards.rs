//! Cleaning in three stages: what comes out, and what happens to parts that are not as they were written.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use common::Bench;
use foehn_corpus::{
    CleanConfig, Error, JudgeConfig, MapConfig, Mapped, NearDuplicates, NearOthers, PartFault, Pass, Pipeline, Record,
    Registry, Result, clean_with, judge_parts, map_part, mark_path, read_clean, write_clean, write_part_rejects,
    write_parts, write_rejects,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The passes over the set, those that repair, reject and flag, and the audits.
const LIST: &str = r#"
[[pass]]
name = "mojibake"
[[pass]]
name = "normalise"
[[pass]]
name = "pii"
action = "drop"
verdict = "flag"
[[pass]]
name = "structure"
[[pass]]
name = "runs-on"
[[pass]]
name = "truncated"
[[pass]]
name = "asks-again"
[[pass]]
name = "duplicate"
[[pass]]
name = "near-duplicate"
[[pass]]
name = "conflict"
verdict = "flag"
[[pass]]
name = "class-balance"
[[pass]]
name = "class-words"
"#;

fn listed() -> Pipeline {
    Registry::default().parse(LIST, Path::new("list.toml")).expect("a sound list")
}

/// A random number of a place, below a limit (SplitMix64).
fn draw(place: u64, limit: u64) -> u64 {
    let mut word = place.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    (word ^ word >> 31) % limit
}

const WORDS: [&str; 24] = [
    "harbour", "light", "mast", "rope", "wind", "gull", "winch", "stone", "lantern", "water", "tide", "salt", "deck",
    "captain", "storm", "morning", "silver", "letter", "street", "garden", "bridge", "river", "forest", "valley",
];

fn text(seed: u64, length: u64) -> String {
    let word = |at| WORDS[draw(seed * 64 + at, WORDS.len() as u64) as usize];
    (0..length).map(word).collect::<Vec<_>>().join(" ")
}

/// Records of every fate. One in eight is a copy of an earlier one or nearly so, wherever that is.
fn records(count: u64) -> Vec<Value> {
    let record = |number: u64| {
        let of = if draw(number, 8) == 0 { draw(!number, number.max(1)) } else { number };
        let mut record = json!({
            "id": format!("r{number}"),
            "prompt": format!("Describe {} for page {of}, please.", text(of, 6)),
            "completion": format!("The {} of page {of}, and the {}.", text(of + 1, 20), text(of + 2, 9)),
            "task": (["describe", "explain"][(of % 2) as usize]),
            "label": (["Visual", "Auditory", "Olfactory"][(of % 3) as usize]),
        });
        let fields = record.as_object_mut().expect("an object");
        let mut set = |key: &str, value: Value| fields.insert(key.to_owned(), value);
        match draw(number + 1_000_000, 40) {
            0 => _ = set("completion", json!(format!("The {}, and the", text(of, 9)))),
            1 => _ = set("completion", json!(format!("{}\nUser: And?\nAssistant: {}.", text(of, 5), text(of, 4)))),
            2 => _ = set("prompt", json!(format!("Is the cafÃ© by the {} open?", text(of, 3)))),
            3 => _ = set("completion", json!(format!("Write to anna{of}@example.org about the {}.", text(of, 9)))),
            4 => {
                set("prompt", json!(format!("Is a {} loud?", text(number % 5, 1))));
                set("completion", json!((["Yes", "No"][(number % 2) as usize])));
            }
            5 => _ = set("score", json!(number as f64 / 3.0)),
            6 => {
                let asked = format!("Describe {} for page {}, please.", text(number / 2, 6), number / 2);
                set("completion", json!(format!("The {}. {asked} A short one.", text(of, 12))));
            }
            7 => _ = fields.remove("id"),
            8 | 9 => {
                _ = set(
                    "completion",
                    json!(format!("The {} of page {of}, and the {}.", text(of + 1, 20), text(number, 1))),
                )
            }
            10 => _ = fields.remove("completion"),
            _ => {}
        }
        record
    };
    (0..count).map(record).collect()
}

fn lines<'a>(records: impl IntoIterator<Item = &'a Value>) -> String {
    records.into_iter().map(|record| format!("{record}\n")).collect()
}

/// Six files of the records, in the formats that are read: JSON lines, a table in an old encoding, Parquet, an array.
fn files(bench: &Bench, count: u64) -> Vec<PathBuf> {
    let all = records(count);
    let chunks: Vec<&[Value]> = all.chunks(all.len().div_ceil(6)).collect();
    let mut table = String::from("id;prompt;completion;label\n");
    for record in chunks[1] {
        let cell = |key: &str| format!("\"{}\"", record[key].as_str().unwrap_or_default().replace('"', "\"\""));
        table.push_str(&["id", "prompt", "completion", "label"].map(cell).join(";"));
        table.push('\n');
    }
    // Windows-1252 has these characters under their own numbers.
    let table: Vec<u8> = table.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
    bench.write("plain.jsonl", lines(chunks[2].iter().filter(|record| record.get("completion").is_some())));
    write_clean(&bench.path("2.parquet"), &read_clean(&bench.path("plain.jsonl")).expect("readable"))
        .expect("writable");
    let cut = lines(chunks[4]).replacen("\"task\"", "task", 9);
    vec![
        bench.write("0.jsonl", lines(chunks[0])),
        bench.write("1.csv", table),
        bench.path("2.parquet"),
        bench.write("3.json", Value::from(chunks[3]).to_string()),
        bench.write("4.jsonl", cut),
        bench.write("5.jsonl", lines(chunks[5])),
    ]
}

/// What `clean` writes: the records, the report, its JSON, the rejects.
fn whole(bench: &Bench, inputs: &[PathBuf], pipeline: &Pipeline, keep: &BTreeSet<String>, name: &str) -> [Vec<u8>; 4] {
    let [out, report, rejects] = [name, "whole.report", "whole.rejects"].map(|name| bench.path(name));
    let config = CleanConfig { out: Some(out.clone()), keep: keep.clone(), threads: None };
    let account = clean_with(inputs, pipeline, &config).expect("readable");
    account.save(&report).expect("writable");
    write_rejects(inputs, pipeline.reading(), &account, &rejects).expect("writable");
    [out.clone(), report, rejects, mark_path(&out)].map(|path| std::fs::read(path).unwrap_or_default())
}

fn map(inputs: &[PathBuf], part: &Path, pipeline: &Pipeline) -> Result<Mapped> {
    map_part(inputs, part, pipeline, &MapConfig::default())
}

/// Maps each group of files to a part.
fn map_all(bench: &Bench, groups: &[&[PathBuf]], pipeline: &Pipeline, keep: &BTreeSet<String>) -> Vec<PathBuf> {
    let config = MapConfig { keep: keep.clone(), threads: None };
    let part = |(at, inputs): (usize, &&[PathBuf])| {
        let part = bench.path(&format!("part-{at}"));
        map_part(inputs, &part, pipeline, &config).expect("readable");
        part
    };
    groups.iter().enumerate().map(part).collect()
}

fn judge(parts: &[PathBuf], pipeline: &Pipeline, keep: &BTreeSet<String>) -> Result<foehn_corpus::CleanReport> {
    judge_parts(parts, pipeline, &JudgeConfig { keep: keep.clone(), inputs: None })
}

/// Cleans in parts, and compares everything with what `clean` gives.
#[track_caller]
fn check(bench: &Bench, groups: &[&[PathBuf]], pipeline: &Pipeline, keep: &BTreeSet<String>) {
    let inputs = groups.concat();
    let parts = map_all(bench, groups, pipeline, keep);
    let report = judge_parts(&parts, pipeline, &JudgeConfig { keep: keep.clone(), inputs: Some(inputs.clone()) });
    let report = report.expect("sound parts");
    report.save(&bench.path("parts.report")).expect("writable");
    write_part_rejects(&parts, pipeline, &bench.path("parts.rejects")).expect("writable");
    let read = |name: &str| std::fs::read(bench.path(name)).expect("written");
    // The one part of all files has few ways to go wrong.
    let names = ["whole.jsonl", "whole.jsonl.gz", "whole.parquet"];
    for name in &names[..if groups.len() > 2 { 3 } else { 1 }] {
        let [records, json, rejects, mark] = whole(bench, &inputs, pipeline, keep, name);
        let ours = name.replace("whole", "parts");
        let kept = write_parts(&parts, &bench.path(&ours)).expect("judged parts");
        assert_eq!(kept, report.kept);
        assert!(read(&ours) == records, "{name}: other records");
        assert!(read("parts.report") == json, "{name}: another report");
        assert!(read("parts.rejects") == rejects, "{name}: other rejects");
        assert_eq!(std::fs::read(mark_path(&bench.path(&ours))).unwrap_or_default(), mark, "{name}");
    }
    let (mut one_by_one, mut rejects) = (Vec::new(), Vec::new());
    for (at, part) in parts.iter().enumerate() {
        let part = std::slice::from_ref(part);
        let [out, other] = [format!("{at}.out.jsonl"), format!("{at}.rejects")];
        write_parts(part, &bench.path(&out)).expect("a judged part");
        one_by_one.extend(read(&out));
        write_part_rejects(part, pipeline, &bench.path(&other)).expect("a judged part");
        rejects.extend(read(&other));
    }
    assert!(one_by_one == read("parts.jsonl") && rejects == read("parts.rejects"), "other records one by one");
}

#[test]
fn parts_give_what_clean_gives() {
    let bench = Bench::new();
    let inputs = files(&bench, 5000);
    let none = BTreeSet::new();
    let all: [&[PathBuf]; 1] = [&inputs];
    let two = [&inputs[..2], &inputs[2..]];
    let seven = [&inputs[..1], &inputs[1..2], &[], &inputs[2..3], &inputs[3..4], &inputs[4..5], &inputs[5..]];
    for pipeline in [Pipeline::default(), listed()] {
        for groups in [&all[..], &two, &seven] {
            check(&bench, groups, &pipeline, &none);
        }
    }
    let report = judge(&map_all(&bench, &seven, &listed(), &none), &listed(), &none).expect("sound parts");
    let found =
        |name: &str| report.passes.iter().find(|pass| pass.pass == name).map(|pass| pass.rejected + pass.flagged);
    for pass in ["read", "pii", "runs-on", "truncated", "asks-again", "duplicate", "near-duplicate", "conflict"] {
        assert!(found(pass) > Some(5), "{pass} has too little to do: {:?}", found(pass));
    }
    assert!(report.rejections.iter().any(|found| found.others.iter().any(|other| other.file != found.place.file)));
}

#[test]
fn what_is_kept_on_request_is_kept_in_parts_too() {
    let bench = Bench::new();
    let inputs = files(&bench, 1500);
    let pipeline = listed();
    let account = clean_with(&inputs, &pipeline, &CleanConfig::default()).expect("readable");
    let mut keep = BTreeSet::new();
    for pass in ["truncated", "duplicate", "near-duplicate", "asks-again"] {
        let rejected = account.rejections.iter().filter(|found| found.pass == pass);
        keep.extend(rejected.take(3).map(|found| found.id.clone()));
    }
    assert!(keep.len() > 8, "{keep:?}");
    check(&bench, &[&inputs[..3], &inputs[3..]], &pipeline, &keep);
    let mut more = keep.clone();
    more.insert("nobody".to_owned());
    let parts = map_all(&bench, &[&inputs[..3], &inputs[3..]], &pipeline, &more);
    assert!(matches!(judge(&parts, &pipeline, &more), Err(Error::Keep { id }) if id == "nobody"));
    assert_fault(judge(&parts, &pipeline, &keep), &parts[0], |fault| matches!(fault, PartFault::Keep));
}

#[test]
fn records_of_other_files_are_compared_with_in_parts_too() {
    let bench = Bench::new();
    let inputs = files(&bench, 900);
    let others = bench.write("others.jsonl", lines(records(90).iter().step_by(2)));
    let pipeline = || {
        Pipeline::new()
            .with_set(NearOthers::new(NearDuplicates::default(), std::slice::from_ref(&others)).expect("readable"))
    };
    let seven: Vec<&[PathBuf]> = inputs.chunks(1).chain([&[][..]]).collect();
    check(&bench, &seven, &pipeline(), &BTreeSet::new());
    let report = clean_with(&inputs, &pipeline(), &CleanConfig::default()).expect("readable");
    assert!(report.rejections.iter().filter(|found| found.reason.contains("`others.jsonl`")).count() > 30);
}

/// A pass that finds another kind of fault in every record, and a repair in every third.
#[derive(Debug)]
struct Picky;

impl Pass for Picky {
    fn name(&self) -> &'static str {
        "picky"
    }

    fn repair(&self, record: &mut Record) -> bool {
        let text = &mut record.messages[0].content;
        let is_repaired = text.len().is_multiple_of(3) && !text.ends_with('!');
        text.push_str(if is_repaired { "!" } else { "" });
        is_repaired
    }

    fn check(&self, record: &Record) -> Option<String> {
        let length = record.messages[1].content.len();
        let kind = draw(length as u64, 90);
        (kind < 80).then(|| format!("it is {}", WORDS[kind as usize % 24].repeat(1 + kind as usize / 24)))
    }
}

/// The report has ten samples of forty kinds, the first ones of the whole set, wherever they are.
#[test]
fn samples_are_the_first_of_the_whole_set() {
    let bench = Bench::new();
    let inputs = files(&bench, 2000);
    let groups: Vec<&[PathBuf]> = inputs.chunks(1).collect();
    check(&bench, &groups, &Pipeline::new().with(Picky), &BTreeSet::new());
    let report = clean_with(&inputs, &Pipeline::new().with(Picky), &CleanConfig::default()).expect("readable");
    assert!(report.reasons.iter().any(|reason| reason.reason == "other reasons" && reason.samples.len() == 10));
    assert!(report.repairs[0].changes.len() == 10);
}

#[test]
fn nothing_kept_and_nothing_read_are_no_errors() {
    let bench = Bench::new();
    let inputs = [bench.write("bad.jsonl", "no JSON\n"), bench.write("worse.jsonl", "{}\n")];
    check(&bench, &[&inputs[..1], &[], &inputs[1..]], &Pipeline::default(), &BTreeSet::new());
    check(&bench, &[&[], &[]], &Pipeline::default(), &BTreeSet::new());
    check(&bench, &[], &Pipeline::default(), &BTreeSet::new());
}

/// The files of a folder.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable"));
    entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).expect("readable")))
        .collect()
}

#[test]
fn the_same_files_give_the_same_bytes_on_any_number_of_threads() {
    let bench = Bench::new();
    let inputs = files(&bench, 1000);
    let (pipeline, part) = (listed(), bench.path("part"));
    let mut found = BTreeSet::new();
    for threads in [1, 2, 5, 1] {
        let config = MapConfig { threads: threads.try_into().ok(), ..MapConfig::default() };
        map_part(&inputs, &part, &pipeline, &config).expect("readable");
        judge(std::slice::from_ref(&part), &pipeline, &BTreeSet::new()).expect("a sound part");
        found.insert(contents(&part));
    }
    assert_eq!(found.len(), 1);
}

#[track_caller]
fn assert_fault<T: std::fmt::Debug>(result: Result<T>, part: &Path, is_it: impl Fn(&PartFault) -> bool) {
    match result {
        Err(Error::Part { path, source }) if path == part && is_it(&source) => {}
        other => panic!("{}: {other:?}", part.display()),
    }
}

#[test]
fn every_fault_of_the_parts_is_named() {
    let bench = Bench::new();
    let inputs = files(&bench, 600);
    let (pipeline, none) = (Pipeline::default(), BTreeSet::new());
    let parts = map_all(&bench, &[&inputs[..2], &inputs[2..4], &inputs[4..]], &pipeline, &none);
    let out = bench.path("out.jsonl");
    let judge_all = |parts: &[PathBuf]| judge(parts, &pipeline, &none);
    let ordered = |parts: &[PathBuf]| {
        judge_parts(parts, &pipeline, &JudgeConfig { keep: none.clone(), inputs: Some(inputs.clone()) })
    };
    let [first, second, third] = [0, 1, 2].map(|at| parts[at].clone());
    assert_fault(write_parts(&parts, &out), &first, |fault| matches!(fault, PartFault::NotJudged));

    let absent = bench.path("absent");
    assert_fault(judge_all(&[first.clone(), absent.clone()]), &absent, |fault| matches!(fault, PartFault::Missing));
    assert_fault(judge_all(&[first.clone(), first.clone()]), &first, |fault| matches!(fault, PartFault::Twice));
    assert_fault(judge(&parts, &listed(), &none), &first, |fault| matches!(fault, PartFault::Pipeline { .. }));
    // What the parts are made of is known from the list of files alone.
    assert_fault(ordered(&parts[..2]), &second, |fault| matches!(fault, PartFault::Inputs { found: None, .. }));
    assert_fault(ordered(&parts[1..]), &second, |fault| matches!(fault, PartFault::Inputs { found: Some(_), .. }));
    let swapped = [first.clone(), third.clone(), second.clone()];
    assert_fault(ordered(&swapped), &third, |fault| matches!(fault, PartFault::Inputs { .. }));
    ordered(&parts).expect("sound parts");

    for (order, faulty) in [(&[1, 0][..], &first), (&[0, 2], &third), (&[2, 1], &second)] {
        let parts: Vec<PathBuf> = order.iter().map(|at| parts[*at].clone()).collect();
        assert_fault(write_parts(&parts, &out), faulty, |fault| matches!(fault, PartFault::Order { .. }));
    }
    judge_all(&parts[1..]).expect("sound parts");
    assert_fault(write_parts(&parts, &out), &second, |fault| matches!(fault, PartFault::Apart));
    judge_all(&parts).expect("sound parts");

    // A verdict of a part that was mapped from other records.
    let raw = std::fs::read(&inputs[5]).expect("readable");
    std::fs::write(&inputs[5], &raw[..raw.len() / 2]).expect("writable");
    assert_fault(ordered(&parts), &third, |fault| matches!(fault, PartFault::Changed { .. }));
    let rejects = write_part_rejects(&parts, &pipeline, &out);
    assert_fault(rejects, &third, |fault| matches!(fault, PartFault::Changed { .. }));
    let verdict = std::fs::read(third.join("verdict.json")).expect("judged");
    map(&inputs[4..], &third, &pipeline).expect("readable");
    assert_fault(write_parts(&parts, &out), &third, |fault| matches!(fault, PartFault::NotJudged));
    std::fs::write(third.join("verdict.json"), verdict).expect("writable");
    assert_fault(write_parts(&parts, &out), &third, |fault| matches!(fault, PartFault::Stale));
    assert!(!out.exists());

    // A folder of a person's own is never replaced; a part that is not whole is.
    let own = bench.path("own");
    std::fs::create_dir(&own).expect("writable");
    std::fs::write(own.join("thesis.txt"), "my only copy").expect("writable");
    let taken = map(&inputs, &own, &pipeline);
    assert_fault(taken, &own, |fault| matches!(fault, PartFault::Taken { entry } if entry == "thesis.txt"));
    assert_fault(judge_all(std::slice::from_ref(&own)), &own, |fault| matches!(fault, PartFault::Unfinished));
    std::fs::write(own.join("manifest.json"), "{\"version\": 2}").expect("writable");
    assert_fault(judge_all(std::slice::from_ref(&own)), &own, |fault| matches!(fault, PartFault::Manifest { .. }));
    std::fs::remove_file(first.join("manifest.json")).expect("it is there");
    assert_fault(judge_all(&parts), &first, |fault| matches!(fault, PartFault::Unfinished));
    map(&inputs[..2], &first, &pipeline).expect("replaced");
    judge_all(&parts).expect("sound parts");
    write_parts(&parts, &out).expect("judged parts");
    let inside = write_parts(&parts, &first.join("records"));
    assert!(matches!(inside, Err(Error::OutputFormat { .. })), "{inside:?}");
}

/// Every file of a part in every state in which a killed process or a bad disk leaves it: absent, cut off, longer, with a
/// flipped bit. Either the part is refused by name, or nothing needs the file; the outputs are never others.
#[test]
fn damage_is_named_and_mapping_again_mends_it() {
    let bench = Bench::new();
    let inputs = files(&bench, 120);
    let (pipeline, none) = (listed(), BTreeSet::new());
    let groups = [&inputs[..3], &inputs[3..]];
    let parts = map_all(&bench, &groups, &pipeline, &none);
    let out = bench.path("out.jsonl");
    let report = judge(&parts, &pipeline, &none).expect("sound parts");
    write_parts(&parts, &out).expect("judged parts");
    let (expected, sound) = (std::fs::read(&out).expect("written"), contents(&parts[1]));
    assert!(sound.len() == 11, "{:?}", sound.keys());
    let mut refused = 0;
    for (name, bytes) in &sound {
        let path = parts[1].join(name);
        let is_verdict = ["verdict.json", "removed", "rejections.jsonl"].contains(&name.as_str());
        let mut states = vec![None, Some(bytes[..bytes.len() / 2].to_vec()), Some([bytes.as_slice(), b"\n7"].concat())];
        states.extend((0..12).filter(|_| !bytes.is_empty()).map(|flip| {
            let mut bytes = bytes.clone();
            let at = draw(flip, bytes.len() as u64) as usize;
            bytes[at] ^= 1 << draw(flip + 1000, 8);
            Some(bytes)
        }));
        for state in states {
            match state {
                None => std::fs::remove_file(&path).expect("it is there"),
                Some(bytes) => std::fs::write(&path, bytes).expect("writable"),
            }
            std::fs::remove_file(&out).expect("it is there");
            // What is already judged is written from the records and the verdict alone.
            let needs = |names: &[&str]| names.contains(&name.as_str());
            let written = write_parts(&parts, &out);
            if needs(&["manifest.json", "records", "verdict.json", "removed"]) {
                let named = |error: &Error| matches!(error, Error::Part { path, .. } if *path == parts[1]);
                assert!(written.as_ref().is_err_and(named) && !out.exists(), "{name}: {written:?}");
            } else {
                written.expect("the records and the verdict are sound");
                assert!(std::fs::read(&out).expect("written") == expected, "{name}");
            }
            let judged = judge(&parts, &pipeline, &none);
            match judged {
                Err(Error::Part { path, .. }) if path == parts[1] && !is_verdict => refused += 1,
                Ok(again) if is_verdict || name == "records" => assert!(again == report, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
            // Another process maps and judges again.
            if is_verdict || name == "records" {
                map(groups[1], &parts[1], &pipeline).expect("readable");
                judge(&parts, &pipeline, &none).expect("sound parts");
            } else {
                std::fs::write(&path, bytes).expect("writable");
            }
            write_parts(&parts, &out).expect("judged parts");
            assert!(std::fs::read(&out).expect("written") == expected, "{name}");
        }
    }
    map(groups[1], &parts[1], &pipeline).expect("readable");
    judge(&parts, &pipeline, &none).expect("sound parts");
    assert!(contents(&parts[1]) == sound, "mapping and judging again gives other bytes");
    assert!(refused > 80, "{refused}");
}

/// A part whose mapping was killed leaves a folder of another name, and the next mapping is not disturbed.
#[test]
fn parts_can_be_moved_and_need_nothing_else() {
    let bench = Bench::new();
    let inputs = files(&bench, 300);
    let (pipeline, none) = (Pipeline::default(), BTreeSet::new());
    let [expected, ..] = whole(&bench, &inputs, &pipeline, &none, "whole.jsonl");
    let groups = [&inputs[..3], &inputs[3..]];
    std::fs::create_dir(bench.path(".partial-killed")).expect("writable");
    let parts = map_all(&bench, &groups, &pipeline, &none);
    let elsewhere = Bench::new();
    let moved: Vec<PathBuf> = ["b", "a"].map(|name| elsewhere.path(name)).into();
    for (from, to) in parts.iter().zip(&moved) {
        std::fs::create_dir(to).expect("writable");
        for (name, bytes) in contents(from) {
            std::fs::write(to.join(name), bytes).expect("writable");
        }
    }
    drop(bench);
    judge(&moved, &pipeline, &none).expect("sound parts");
    write_parts(&moved, &elsewhere.path("out.jsonl")).expect("judged parts");
    assert!(std::fs::read(elsewhere.path("out.jsonl")).expect("written") == expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Few words, so that everything is a copy, a question or an answer of something else.
    #[test]
    fn any_cut_gives_the_same(
        records in prop::collection::vec((0usize..6, 0usize..6, 0usize..4), 1..40),
        cuts in prop::collection::btree_set(0usize..40, 0..6),
    ) {
        let bench = Bench::new();
        let questions = ["What is a mast?", "What is a gull?", "Who sails?", "Which sense is it: 'rope'?", "Which sense is it: 'salt'?", "Why?"];
        let answers = ["A pole.", "A BIRD", "a bird", "It is long. What is a mast? A pole.", "Sound", "Nobody knows. Which sense is it: 'tide'? Sight."];
        let line = |(at, (question, answer, same)): (usize, &(usize, usize, usize))| {
            let tail = if *same == 0 { format!(" Page {at}.") } else { String::new() };
            json!({"prompt": questions[*question], "completion": format!("{}{tail}", answers[*answer])}).to_string()
        };
        let lines: Vec<String> = records.iter().enumerate().map(line).collect();
        let mut inputs = Vec::new();
        let ends = cuts.iter().map(|cut| (*cut).min(lines.len())).chain([lines.len()]);
        let mut from = 0;
        for end in ends {
            if end > from {
                inputs.push(bench.write(&format!("{from}.jsonl"), lines[from..end].join("\n")));
                from = end;
            }
        }
        let groups: Vec<&[PathBuf]> = inputs.chunks(1).collect();
        check(&bench, &groups, &listed(), &BTreeSet::new());
    }
}
