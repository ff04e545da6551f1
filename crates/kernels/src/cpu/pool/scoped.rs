//! Regions of a certain number of threads, whatever the machine has and whoever else computes: for tests.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::ThreadId;

use super::pool;

thread_local! {
    static THREADS: Cell<Option<usize>> = const { Cell::new(None) };
    /// Of each region the items, and the threads that computed some.
    static SEEN: RefCell<Vec<(usize, usize)>> = const { RefCell::new(Vec::new()) };
}

/// What [`with_threads`] asks of regions that this thread opens.
pub fn threads() -> Option<usize> {
    THREADS.get()
}

/// Calls `work`, whose regions run on so many threads: each of them computes at least one item, where there are as many.
/// Returns also the items of each region, and how many threads were seen to compute them.
pub fn with_threads<T>(threads: usize, work: impl FnOnce() -> T) -> (T, Vec<(usize, usize)>) {
    THREADS.set(Some(threads));
    SEEN.take();
    let done = work();
    THREADS.set(None);
    (done, SEEN.take())
}

/// As [`super::parallel`], with the threads that were asked for.
pub fn parallel(items: usize, threads: usize, run: &(dyn Fn(usize) + Sync)) {
    let first = threads.min(items);
    let seen: Mutex<HashSet<ThreadId>> = Mutex::default();
    let begun = AtomicUsize::new(0);
    let together = |item: usize| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).insert(std::thread::current().id());
        // Nobody ends a first item before all have one.
        begun.fetch_add(1, Ordering::Relaxed);
        while begun.load(Ordering::Relaxed) < first {
            std::thread::yield_now();
        }
        run(item);
    };
    // Regions inside of this one are as ever, and find that one is open.
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

/// Not 0 while workers come late.
static DAWDLE: AtomicU64 = AtomicU64::new(0);

/// Calls `work` while workers come to regions after a time that chance decides, or when it is over.
pub fn with_late_workers(work: impl FnOnce()) {
    DAWDLE.store(1, Ordering::Relaxed);
    work();
    DAWDLE.store(0, Ordering::Relaxed);
}

/// What a worker does before it joins a region.
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
