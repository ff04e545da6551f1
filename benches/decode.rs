//! Passes of generation with a model of SmolLM2's shape with 4 of its 30 layers, its base in single precision and
//! quantised: a prompt of 128 tokens, then one more token for one and for 16 sequences, exact and rounded, each with
//! the logits of the next token. An element is an input token.

mod common;

use common::model::smollm2_of_four_layers;
use common::{device, time};
use criterion::{BenchmarkId, Criterion, Throughput};
use foehn_mistral::{Base, KvCache};

const PAST: usize = 128;

fn main() {
    common::run(decode);
}

fn decode(criterion: &mut Criterion) {
    let device = device();
    let prompt: Vec<u32> = (0..PAST as u32).map(|position| 1000 + 7 * position).collect();
    let mut group = criterion.benchmark_group("decode");
    for base in [Base::F32, Base::Bf16, Base::Q8_0, Base::Q4K, Base::Nf4] {
        let model = smollm2_of_four_layers(base, &device);
        let decoder = model.decoder();
        let mut logits = Vec::new();
        let mut cache = KvCache::new(model.config(), 1, 2 * PAST, &device);
        group.throughput(Throughput::Elements(PAST as u64));
        group.bench_function(BenchmarkId::new(format!("prompt_{base}"), PAST), |bencher| {
            time(bencher, &device, || {
                cache.truncate(&[0]);
                decoder.prompt_logits(&prompt, &[PAST], &mut cache, &mut logits);
            });
        });
        for (batch, exact) in [(1, true), (1, false), (16, true), (16, false)] {
            let mut cache = KvCache::new(model.config(), batch, 2 * PAST, &device);
            cache.set_exact(exact);
            decoder.append(&prompt.repeat(batch), &vec![PAST; batch], &mut cache);
            let (next, one) = (vec![42; batch], vec![1; batch]);
            let name = format!("token_{base}_{}", if exact { "exact" } else { "rounded" });
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_function(BenchmarkId::new(name, format!("{batch}x{PAST}")), |bencher| {
                time(bencher, &device, || {
                    cache.truncate(&vec![PAST; batch]);
                    decoder.next_logits(&next, &one, &mut cache, &mut logits);
                });
            });
        }
    }
}
