//! What judging costs: a generator of sketches, at any number of records.
//!
//!     cargo run --release -p foehn-corpus --example sketches -- 2000000 FOLDER
//!
//! The records are short, and their sketches are drawn as those of the default passes and of `near-duplicate` would be: one
//! record in twenty is a copy, one in twenty nearly one, one in fifty asks a question of another, and all prompts are of
//! 1,000 kinds. So a set of any size costs what a set of long texts costs to judge, and little to map. FOLDER gets one part
//! for each million records; the line that is printed has the seconds and the bytes a record of each stage, and the
//! largest memory of the process before and after judging.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use foehn_corpus::{
    AsksAgain, Conflicts, Duplicates, Finding, JudgeConfig, Key, MapConfig, NearDuplicates, Pipeline, Record, SetPass,
    Sketch, judge_parts, map_part, write_parts,
};

/// The records of a part.
const PART: u64 = 1_000_000;

/// A pass with sketches that are drawn from the number of a record and from that of the record of which it is a copy.
#[derive(Debug)]
struct Drawn<P> {
    pass: P,
    sketch: fn(Drawing) -> Vec<u64>,
}

/// What a record's text says of its sketches.
#[derive(Clone, Copy)]
struct Drawing {
    number: u64,
    of: u64,
    kind: u64,
}

const SOUND: u64 = 0;
const COPY: u64 = 1;
const NEAR: u64 = 2;
const ASKING: u64 = 3;

impl Drawing {
    fn new(number: u64) -> Self {
        let (draw, of) = (random(number) % 100, random(!number) % number.max(1));
        let kind = match draw {
            0..5 => COPY,
            5..10 => NEAR,
            10..12 => ASKING,
            _ => SOUND,
        };
        Self { number, of: if kind == SOUND || number == 0 { number } else { of }, kind }
    }

    fn of(record: &Record) -> Self {
        let number = record.id.as_deref().and_then(|id| id.parse().ok());
        Self::new(number.unwrap_or_default())
    }

    /// The number of a record that says the same.
    fn same(self) -> u64 {
        if self.kind == COPY { self.of } else { self.number }
    }
}

impl<P: SetPass> SetPass for Drawn<P> {
    fn name(&self) -> &'static str {
        self.pass.name()
    }

    fn sketch(&self, record: &Record) -> Vec<u64> {
        (self.sketch)(Drawing::of(record))
    }

    fn keys(&self, words: &[u64]) -> Option<Vec<Key>> {
        self.pass.keys(words)
    }

    fn suspects(&self, sketches: &[Sketch<'_>]) -> Vec<usize> {
        self.pass.suspects(sketches)
    }

    fn evidence(&self, record: &Record) -> Vec<u64> {
        self.pass.evidence(record)
    }

    fn judge(&self, sketches: &[Sketch<'_>]) -> Vec<Finding> {
        self.pass.judge(sketches)
    }

    fn doubts(&self, sketches: &[Sketch<'_>]) -> Vec<Finding> {
        self.pass.doubts(sketches)
    }
}

/// A prompt with two kinds of 1,000, and for some a sentence that another record asks.
fn asks_again(drawing: Drawing) -> Vec<u64> {
    let kinds = [random(drawing.number % 1000), random(drawing.number % 997 + 1000)];
    let mut sketch = vec![0, random(drawing.same()), 1, kinds[0], 1, kinds[1]];
    if drawing.kind == ASKING {
        sketch.extend([2, random(drawing.of)]);
    }
    sketch
}

fn duplicates(drawing: Drawing) -> Vec<u64> {
    let same = drawing.same();
    vec![random(same), random(same + 1), random(same + 2), random(same + 3), 0]
}

/// A question with a long answer has no sketch.
fn conflicts(drawing: Drawing) -> Vec<u64> {
    if drawing.number.is_multiple_of(4) {
        vec![random(drawing.same()), 0, random(drawing.number % 3)]
    } else {
        Vec::new()
    }
}

/// Seventeen bands, of which a near-duplicate has all but two.
fn near_duplicates(drawing: Drawing) -> Vec<u64> {
    let base = |band: u64| if band < 15 { drawing.of } else { drawing.same() };
    let band = |band| random(base(band) ^ band << 48);
    (0..17).map(band).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [count, folder] = arguments.as_slice() else { return Err("usage: sketches COUNT FOLDER".into()) };
    let (count, folder): (u64, &Path) = (count.parse()?, folder.as_ref());
    let pipeline = Pipeline::new()
        .with_set(Drawn { pass: AsksAgain, sketch: asks_again })
        .with_set(Drawn { pass: Duplicates, sketch: duplicates })
        .with_set(Drawn { pass: NearDuplicates::default(), sketch: near_duplicates })
        .with_set(Drawn { pass: Conflicts::default(), sketch: conflicts });
    std::fs::create_dir_all(folder)?;
    let (start, mut parts) = (Instant::now(), Vec::new());
    for first in (0..count).step_by(PART as usize) {
        let (raw, part) = (folder.join("raw.jsonl"), folder.join(format!("part-{:04}", first / PART)));
        std::fs::write(&raw, lines(first..count.min(first + PART)))?;
        map_part(std::slice::from_ref(&raw), &part, &pipeline, &MapConfig::default())?;
        parts.push(part);
    }
    let (mapped, before) = (start.elapsed(), peak());
    let start = Instant::now();
    let report = judge_parts(&parts, &pipeline, &JudgeConfig::default())?;
    let (judged, after) = (start.elapsed(), peak());
    let start = Instant::now();
    write_parts(&parts, &folder.join("clean.jsonl"))?;
    let written = start.elapsed();
    let bytes: u64 = parts.iter().map(size).sum::<std::io::Result<_>>()?;
    println!(
        "{count} records, {} kept: map {:.1} s, {:.0} bytes a record on disk; judge {:.1} s, {:.2} us a record; write \
         {:.1} s; peak {:.0} MB before judging and {:.0} MB after, {:.0} bytes a record",
        report.kept,
        mapped.as_secs_f64(),
        bytes as f64 / count as f64,
        judged.as_secs_f64(),
        judged.as_secs_f64() * 1e6 / count as f64,
        written.as_secs_f64(),
        before as f64 / 1e6,
        after as f64 / 1e6,
        after as f64 / count as f64,
    );
    Ok(())
}

fn lines(numbers: std::ops::Range<u64>) -> String {
    let mut lines = String::new();
    for number in numbers {
        let same = Drawing::new(number).of;
        // Writing to a text does not fail.
        let _ = writeln!(lines, r#"{{"id":"{number}","prompt":"What is {same}?","completion":"A number."}}"#);
    }
    lines
}

fn size(part: &PathBuf) -> std::io::Result<u64> {
    std::fs::read_dir(part)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

/// The largest number of bytes in memory so far; 0 where the system does not say it.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// SplitMix64.
fn random(number: u64) -> u64 {
    let mut word = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}
