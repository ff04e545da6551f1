//! Generation's passes of a model of SmolLM2's shape with 4 of its 30 layers: a prompt of 128 tokens, then one more token
//! for one and for 16 sequences, each with the logits of what comes next. An element is a token that was read in.

mod common;

use common::model::smollm2_of_four_layers;
use common::{device, time};
use criterion::{BenchmarkId, Criterion, Throughput};
use foehn_mistral::KvCache;

const PAST: usize = 128;

fn main() {
    common::run(decode);
}

fn decode(criterion: &mut Criterion) {
    let device = device();
    let model = smollm2_of_four_layers(&device);
    let prompt: Vec<u32> = (0..PAST as u32).map(|position| 1000 + 7 * position).collect();
    let mut group = criterion.benchmark_group("decode");

    let mut cache = KvCache::new(model.config(), 1, 2 * PAST, &device);
    group.throughput(Throughput::Elements(PAST as u64));
    group.bench_function(BenchmarkId::new("prompt", PAST), |bencher| {
        time(bencher, &device, || {
            cache.truncate(&[0]);
            model.logits(model.forward_cached(&[&prompt], &mut cache))
        });
    });
    for batch in [1, 16] {
        let mut cache = KvCache::new(model.config(), batch, 2 * PAST, &device);
        model.forward_cached(&vec![prompt.as_slice(); batch], &mut cache);
        let next = vec![[42].as_slice(); batch];
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new("token", format!("{batch}x{PAST}")), |bencher| {
            time(bencher, &device, || {
                cache.truncate(&vec![PAST; batch]);
                model.logits(model.forward_cached(&next, &mut cache))
            });
        });
    }
}
