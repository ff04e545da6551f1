//! For tests: regions with a given number of threads, whatever the machine has and whatever else runs.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::ThreadId;

use super::pool;

thread_local! {
    static THREADS: Cell<Option<usize>> = const { Cell::new(None) };
    /// For each region, the number of items and the number of threads that computed at least one of them.
    static SEEN: RefCell<Vec<(usize, usize)>> = const { RefCell::new(Vec::new()) };
}

/// The number of threads that [`with_threads`] set for the regions of this thread.
pub fn threads() -> Option<usize> {
    THREADS.get()
}

/// Calls `work` with its regions run on exactly `threads` threads: each thread computes at least one item, if there are
/// enough items. Also returns, for each region, the number of items and the number of threads that computed them.
pub fn with_threads<T>(threads: usize, work: impl FnOnce() -> T) -> (T, Vec<(usize, usize)>) {
    THREADS.set(Some(threads));
    SEEN.take();
    let done = work();
    THREADS.set(None);
    (done, SEEN.take())
}

/// As [`super::parallel`], with the given number of threads.
pub fn parallel(items: usize, threads: usize, run: &(dyn Fn(usize) + Sync)) {
    let first = threads.min(items);
    let seen: Mutex<HashSet<ThreadId>> = Mutex::default();
    let begun = AtomicUsize::new(0);
    let together = |item: usize| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).insert(std::thread::current().id());
        // No thread finishes its first item before every thread has one.
        begun.fetch_add(1, Ordering::Relaxed);
        while begun.load(Ordering::Relaxed) < first {
            std::thread::yield_now();
        }
        run(item);
    };
    // Nested regions take the usual path, and find that a region is already open.
    THREADS.set(None);
    let opener = pool().opener.lock().unwrap_or_else(PoisonError::into_inner);
    if first > 1 {
        pool().run(opener, items, first - 1, &together);
    } else {
        (0..items).for_each(together);
    }
    THREADS.set(Some(threads));
    let seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner).len();
    SEEN.with_borrow_mut(|regions| regions.push((items, seen)));
}

/// Not 0 while workers are made late.
static DAWDLE: AtomicU64 = AtomicU64::new(0);

/// Calls `work` while each worker joins a region after a random delay, possibly after the region's end.
pub fn with_late_workers(work: impl FnOnce()) {
    DAWDLE.store(1, Ordering::Relaxed);
    work();
    DAWDLE.store(0, Ordering::Relaxed);
}

/// Called by a worker before it joins a region: the random delay.
pub fn dawdle(state: u64) {
    if DAWDLE.load(Ordering::Relaxed) == 0 {
        return;
    }
    let mut chance = state ^ DAWDLE.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    chance ^= chance >> 31;
    for _ in 0..chance % 64 {
        std::thread::yield_now();
    }
}
