//! Near-duplicates: the sketch of a record, for several lengths, and a whole deduplication from file to file. The
//! throughput is in records.
//!
//! The same program makes the file and does the deduplication for `benches/compare_dedup.sh`:
//!
//! ```sh
//! near_duplicates generate TEXTS.jsonl TRUTH.tsv COUNT   # a tenth of the records are edits of earlier ones
//! near_duplicates dedup TEXTS.jsonl KEPT.jsonl           # prints the seconds that it took, on one thread
//! ```

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use foehn_corpus::{
    CleanConfig, CleanReport, Message, NearDuplicates, Part, Pipeline, Record, Role, SetPass, Unit, clean_with,
};

/// The defaults of `text-dedup`: 5 words, 0.7.
fn pass() -> NearDuplicates {
    NearDuplicates { threshold: 0.7, part: Part::Answer, unit: Unit::Words, size: 5, ..NearDuplicates::default() }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["generate", texts, truth, count] => generate(Path::new(texts), Path::new(truth), count.parse().unwrap()),
        ["dedup", texts, kept] => {
            let start = Instant::now();
            let report = dedup(Path::new(texts), Path::new(kept));
            println!("{} of {} records kept in {:.3} s", report.kept, report.read, start.elapsed().as_secs_f64());
        }
        _ => bench(),
    }
}

fn bench() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut group = criterion.benchmark_group("near_duplicates");
    let mut texts = Texts::new();
    for words in [20, 120, 1000] {
        let record = Record {
            tools: Vec::new(),
            rejected: None,
            id: None,
            messages: vec![Message::new(Role::Assistant, texts.text(words).join(" "))],
            metadata: Default::default(),
            group: None,
        };
        group.throughput(Throughput::Elements(1));
        for (name, pass) in [("words", pass()), ("chars", NearDuplicates::default())] {
            group.bench_with_input(BenchmarkId::new(format!("sketch_{name}"), words), &record, |bencher, record| {
                bencher.iter(|| pass.sketch(record));
            });
        }
    }
    const COUNT: usize = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let [raw, truth, out] = ["raw.jsonl", "truth.tsv", "out.jsonl"].map(|name| folder.path().join(name));
    generate(&raw, &truth, COUNT);
    group.throughput(Throughput::Elements(COUNT as u64));
    group.bench_function("file_to_file", |bencher| bencher.iter(|| dedup(&raw, &out)));
    group.finish();
    criterion.final_summary();
}

fn dedup(texts: &Path, kept: &Path) -> CleanReport {
    let config = CleanConfig { out: Some(kept.into()), threads: NonZeroUsize::new(1), ..CleanConfig::default() };
    clean_with(&[texts.into()], &Pipeline::new().with_set(pass()), &config).unwrap()
}

/// Writes texts of 60 to 180 words, one JSON object per line. Every tenth is an earlier text, each used once, with one
/// to nine words replaced. The truth file has a line for each of those: its number, the number of the earlier text, and
/// their exact Jaccard index over 5 words.
fn generate(path: &Path, truth: &Path, count: usize) {
    let mut texts = Texts::new();
    let mut out = BufWriter::new(File::create(path).unwrap());
    let mut truth = BufWriter::new(File::create(truth).unwrap());
    let mut originals: Vec<(usize, Vec<&'static str>)> = Vec::new();
    for at in 0..count {
        let text = if at % 10 == 9 {
            let pick = texts.below(originals.len());
            let (original, words) = originals.swap_remove(pick);
            let edited = texts.edited(&words);
            writeln!(truth, "{at}\t{original}\t{:.6}", jaccard(&words, &edited)).unwrap();
            edited
        } else {
            let words = 60 + texts.below(121);
            let text = texts.text(words);
            originals.push((at, text.clone()));
            text
        };
        writeln!(out, "{{\"id\": \"{at}\", \"text\": \"{}\"}}", text.join(" ")).unwrap();
    }
    out.flush().unwrap();
    truth.flush().unwrap();
}

fn jaccard(a: &[&str], b: &[&str]) -> f64 {
    let set = |words: &[&'_ str]| words.windows(5).map(|run| run.join(" ")).collect::<HashSet<_>>();
    let (a, b) = (set(a), set(b));
    a.intersection(&b).count() as f64 / a.union(&b).count() as f64
}

/// Texts over 20,000 artificial words, whose frequencies follow Zipf's law.
struct Texts {
    state: u64,
    words: Vec<&'static str>,
}

impl Texts {
    fn new() -> Self {
        let mut texts = Self { state: 42, words: Vec::new() };
        let mut words = Vec::new();
        while words.len() < 20_000 {
            let letters = 2 + texts.below(8);
            let word: String = (0..letters).map(|_| char::from(b'a' + texts.below(26) as u8)).collect();
            // They are kept until the program ends.
            words.push(&*word.leak());
        }
        texts.words = words;
        texts
    }

    fn below(&mut self, limit: usize) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 33) as usize) % limit
    }

    fn word(&mut self) -> &'static str {
        // Approximately the inverse of a harmonic sum.
        let uniform = self.below(1 << 30) as f64 / (1u64 << 30) as f64;
        let rank = (self.words.len() as f64).powf(uniform) as usize;
        self.words[rank.min(self.words.len() - 1)]
    }

    fn text(&mut self, words: usize) -> Vec<&'static str> {
        (0..words).map(|_| self.word()).collect()
    }

    fn edited(&mut self, words: &[&'static str]) -> Vec<&'static str> {
        let mut edited = words.to_vec();
        for _ in 0..1 + self.below(9) {
            let at = self.below(edited.len());
            edited[at] = self.word();
        }
        edited
    }
}
