use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::pace::Pace;
use super::scoped::{with_late_workers, with_threads};
use super::{WAITING, parallel, parallel_streams, pool, set_threads, threads};

/// Fewer rounds under Miri, which is slow.
const ROUNDS: usize = if cfg!(miri) { 2 } else { 100 };

/// A region of at most `threads` threads; some of them may come late or not at all.
fn region(threads: usize, items: usize, run: impl Fn(usize) + Sync) {
    let opener = pool().opener.lock().unwrap_or_else(PoisonError::into_inner);
    pool().run(opener, items, threads - 1, &run);
}

fn counters(items: usize) -> Vec<AtomicUsize> {
    (0..items).map(|_| AtomicUsize::new(0)).collect()
}

#[test]
fn every_item_is_computed_once_however_late_the_workers() {
    with_late_workers(|| {
        for round in 0..ROUNDS {
            for (threads, items) in [(2, 2), (8, 3), (3, 0), (2, 1), (1, 5), (5, 64), (8, 200)] {
                let seen = counters(items);
                region(threads, items, |item| {
                    for _ in 0..(item * 7 + round) % 5 {
                        std::thread::yield_now();
                    }
                    seen[item].fetch_add(1, Ordering::Relaxed);
                });
                // The counts are complete when the region returns.
                assert!(seen.into_iter().all(|count| count.into_inner() == 1), "{items} items, {threads} threads");
            }
        }
    });
}

#[test]
fn streams_cover_everything_once() {
    for (total, chunks) in [0, 1, 2, 3, 15, 16, 17, 40, 1000].into_iter().flat_map(|total| [(total, 8), (total, total)])
    {
        for threads in [1, 2, 7] {
            let seen = counters(total);
            with_threads(threads, || {
                parallel_streams(
                    total,
                    chunks,
                    |_| 0,
                    |calls, range| {
                        *calls += 1;
                        range.for_each(|at| {
                            seen[at].fetch_add(1, Ordering::Relaxed);
                        });
                    },
                );
            });
            assert!(seen.into_iter().all(|count| count.into_inner() == 1), "{total} in {chunks}");
        }
    }
}

#[test]
fn as_many_threads_compute_as_are_asked_for_or_there_are_items() {
    let run = |items| with_threads(5, || parallel(items, |_| ())).1;
    assert_eq!([0, 1, 3, 5, 100].map(run), [(0, 0), (1, 1), (3, 3), (5, 5), (100, 5)].map(|seen| vec![seen]));
    for threads in [1, 8, 2, 5, 1, 3] {
        assert_eq!(with_threads(threads, || parallel(40, |_| ())).1, [(40, threads)]);
    }
}

#[test]
fn a_panic_on_any_thread_reaches_the_caller_and_leaves_the_pool_alive() {
    for failing in 0..3 {
        // Each of three threads computes one item.
        let region = || with_threads(3, || parallel(3, |item| assert_ne!(item, failing)));
        assert!(std::panic::catch_unwind(region).is_err());
        let seen = counters(50);
        with_threads(3, || {
            parallel(50, |item| {
                seen[item].fetch_add(1, Ordering::Relaxed);
            });
        });
        assert!(seen.into_iter().all(|count| count.into_inner() == 1));
    }
}

#[test]
fn a_region_inside_a_region_runs_where_it_is() {
    let sum = AtomicUsize::new(0);
    with_threads(3, || {
        parallel(10, |item| {
            let outer = std::thread::current().id();
            parallel(10, |inner| {
                assert_eq!(std::thread::current().id(), outer);
                sum.fetch_add(10 * item + inner, Ordering::Relaxed);
            });
        });
    });
    assert_eq!(sum.into_inner(), (0..100).sum::<usize>());
}

#[test]
fn an_opener_that_sleeps_is_woken_by_the_last_to_leave() {
    let opener = std::thread::current().id();
    for threads in [2, 4] {
        let late = AtomicUsize::new(0);
        with_threads(threads, || {
            parallel(threads, |_| {
                if std::thread::current().id() != opener {
                    while pool().state.0.load(Ordering::Relaxed) & WAITING == 0 {
                        std::thread::yield_now();
                    }
                    late.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        assert_eq!(late.into_inner(), threads - 1);
    }
}

#[test]
fn there_are_never_more_threads_than_cores() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    set_threads(usize::MAX);
    assert_eq!(threads(), cores);
    set_threads(1);
    assert_eq!(threads(), 1);
    set_threads(cores);
    assert_eq!(threads(), cores);
}

const MS: Duration = Duration::from_millis(1);

/// Simulates ten seconds of regions. Each works for a millisecond and, if it has workers, waits at its end. Returns the
/// time worked with all workers, the time waited, and the time worked with fewer workers.
fn ten_seconds(workers: usize, waits: impl Fn(u32) -> Duration) -> [Duration; 3] {
    let start = Instant::now();
    let pace = Pace::new(start);
    let (mut now, mut times, mut region) = (start, [Duration::ZERO; 3], 0);
    while now < start + 10_000 * MS {
        let asked = pace.helpers(workers, || now);
        now += MS;
        times[if asked == workers { 0 } else { 2 }] += MS;
        if asked > 0 {
            region += 1;
            let waited = waits(region);
            now += waited;
            times[1] += waited;
            pace.waited(workers, MS, waited, now);
        }
    }
    times
}

#[test]
fn workers_that_come_have_no_pause_and_cost_no_look_at_a_clock() {
    let pace = Pace::new(Instant::now());
    assert_eq!(pace.helpers(3, || unreachable!("no bound, no clock")), 3);
    // Waiting as long as the opener worked is normal: one item may be that long.
    assert_eq!(ten_seconds(3, |_| MS), [5000 * MS, 5000 * MS, Duration::ZERO]);
    // One suspension per second.
    let [whole, waited, rest] = ten_seconds(1, |region| if region % 1000 == 0 { 6 * MS } else { Duration::ZERO });
    assert!(whole > 9700 * MS && waited < 100 * MS && rest < 200 * MS, "{whole:?} {waited:?} {rest:?}");
}

#[test]
fn workers_that_are_late_are_waited_for_a_few_hundredths_of_the_time() {
    // Suspended for 5 ms of every 6: losing nine tenths of the time must be avoided by working alone.
    let [whole, waited, rest] = ten_seconds(1, |_| 6 * MS);
    assert!(waited < 300 * MS && whole < 100 * MS && rest > 9600 * MS, "{whole:?} {waited:?} {rest:?}");
    // Of seven workers, half are used after each loss.
    let pace = Pace::new(Instant::now());
    let mut now = Instant::now();
    for asked in [7, 3, 1, 0] {
        assert_eq!(pace.helpers(7, || now), asked);
        now += MS;
        pace.waited(7, MS, 9 * MS, now);
    }
}

#[test]
fn workers_are_asked_again_when_the_cores_are_free() {
    let start = Instant::now();
    let pace = Pace::new(start);
    let mut now = start;
    // Two seconds on a busy machine.
    while now < start + 2000 * MS {
        now += MS;
        if pace.helpers(7, || now) > 0 {
            now += 8 * MS;
            pace.waited(7, MS, 8 * MS, now);
        }
    }
    let busy_until = now;
    while pace.helpers(7, || now) < 7 {
        now += MS;
    }
    assert!(now - busy_until < 1500 * MS, "{:?}", now - busy_until);
    assert_eq!(pace.helpers(7, || unreachable!("no bound, no clock")), 7);
}
