//! Decoding on 1, 2, 4 and 8 threads, alone on the machine and with 4 and 8 other busy threads: one more token for a
//! sequence of 128, with a model of SmolLM2's shape with 4 of its 30 layers. An element is a token.
//!
//! Each token has about twenty parallel regions of a few microseconds. With other busy threads, no number of threads
//! may be much slower than one.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::model::smollm2_of_four_layers;
use common::{device, time};
use criterion::{BenchmarkId, Criterion, Throughput};
use foehn_mistral::{Base, KvCache};

const PAST: usize = 128;

fn main() {
    common::run(threads);
}

fn threads(criterion: &mut Criterion) {
    let device = device();
    let model = smollm2_of_four_layers(Base::Q4K, &device);
    let decoder = model.decoder();
    let mut cache = KvCache::new(model.config(), 1, 2 * PAST, &device);
    cache.set_exact(false);
    let prompt: Vec<u32> = (0..PAST as u32).map(|position| 1000 + 7 * position).collect();
    decoder.append(&prompt, &[PAST], &mut cache);
    let mut logits = Vec::new();
    let mut group = criterion.benchmark_group("threads");
    group.throughput(Throughput::Elements(1));
    for others in [0, 4, 8] {
        beside(others, || {
            for threads in [1, 2, 4, 8] {
                foehn_kernels::set_threads(threads);
                group.bench_function(BenchmarkId::new(format!("beside_{others}"), threads), |bencher| {
                    time(bencher, &device, || {
                        cache.truncate(&[PAST]);
                        decoder.next_logits(&[42], &[1], &mut cache, &mut logits);
                    });
                });
            }
        });
    }
}

/// Calls `work` while `others` threads keep cores busy.
fn beside(others: usize, work: impl FnOnce()) {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..others {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        work();
        ended.store(true, Ordering::Relaxed);
    });
}
