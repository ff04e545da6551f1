//! From records to batches over the whole of VAKOG: the chat template with the tokenizer, then packing 16 samples per
//! batch. An element is a token of the samples, counted without sharing.

mod common;

use common::{text_side, vakog, vakog_samples};
use criterion::{Criterion, Throughput};
use foehn_corpus::Record;
use foehn_tokens::{Batch, Sample};

const BATCH_SIZE: usize = 16;

fn main() {
    common::run(tokenize);
}

fn tokenize(criterion: &mut Criterion) {
    let (tokenizer, template) = text_side();
    let records = vakog();
    let samples = vakog_samples(records.len());
    let sample = |record: &Record| template.sample(&tokenizer, record).unwrap();
    let mut group = criterion.benchmark_group("tokenize");
    group.throughput(Throughput::Elements(samples.iter().map(|sample| sample.len() as u64).sum()));
    group.bench_function("template", |bencher| {
        bencher.iter(|| records.iter().map(sample).collect::<Vec<Sample>>());
    });
    let samples: Vec<&Sample> = samples.iter().collect();
    group.bench_function("pack", |bencher| {
        bencher.iter(|| samples.chunks(BATCH_SIZE).map(Batch::pack).collect::<Vec<Batch>>());
    });
}
