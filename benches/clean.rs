//! Cleaning VAKOG's raw file: reading, every pass of the default pipeline, and writing and syncing both files. The
//! throughput is in bytes of the raw file.

mod common;

use common::repository;
use criterion::{Criterion, Throughput};
use foehn_corpus::{Pipeline, clean};

fn main() {
    common::run(raw_to_clean);
}

fn raw_to_clean(criterion: &mut Criterion) {
    let inputs = [repository("datasets/vakog/vakog_raw.jsonl")];
    let bytes = inputs[0].metadata().unwrap().len();
    let folder = tempfile::tempdir().unwrap();
    let [out, report] = ["clean.jsonl", "report.json"].map(|name| folder.path().join(name));
    let pipeline = Pipeline::default();
    let mut group = criterion.benchmark_group("clean");
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("vakog_raw", |bencher| {
        bencher.iter(|| clean(&inputs, &out, &report, &pipeline).unwrap());
    });
}
