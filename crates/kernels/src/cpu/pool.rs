//! The one thread pool: workers that spin for a moment before they sleep.
//!
//! A training step has thousands of parallel regions, each of some hundred microseconds. Waking a sleeping thread costs
//! about as much. A spinning thread starts within a microsecond.
//!
//! Workers take items one by one from a shared counter. A worker that comes late, or not at all, leaves its items to
//! the others; but the region cannot end before every item that a worker has begun is finished. When other programs use
//! the cores, this wait can cost more than the workers gain. [`Pace`] measures the wait and, when it is too long, uses
//! fewer workers for a while.

mod pace;
mod parts;
#[cfg(test)]
pub mod scoped;
mod streams;
#[cfg(test)]
mod tests;

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use pace::Pace;
pub use parts::{DisjointParts, parallel_chunks};
pub use streams::{MOST_LANES, parallel_streams};

/// How long a worker spins and waits for the next region before it sleeps.
const SPIN: Duration = Duration::from_millis(1);

/// How often the opening thread polls for the end of its region (about ten microseconds in all) before it reads a
/// clock.
const LOOKS: usize = 1024;

/// After that: how long the opening thread polls and yields its core between polls, before it sleeps.
const PATIENCE: Duration = Duration::from_micros(100);

struct Pool {
    /// The state of the region, in bit fields: the number of regions so far ([`EPOCH`] is one; the upper half), whether
    /// workers may join ([`OPEN`]), whether the last worker to leave must wake the opening thread ([`WAITING`]), how
    /// many workers the region has work for ([`SEAT`] is one), and how many workers are inside ([`INSIDE`]).
    state: Line<AtomicU64>,
    /// The next item of the region that no thread has taken.
    next: Line<AtomicUsize>,
    /// What the region runs. The opening thread writes it while the region is closed and no worker is inside. Workers
    /// that are inside read it.
    region: UnsafeCell<Region>,
    panicked: AtomicBool,
    /// The last opening thread that went to sleep. It is not removed when it wakes: one unpark too many does no harm.
    waiter: Mutex<Option<Thread>>,
    pace: Pace,
    /// Held by the thread whose region is open. Contains all workers; a region for `n` workers uses the first `n`.
    opener: Mutex<Vec<Worker>>,
}

const EPOCH: u64 = 1 << 32;
const OPEN: u64 = 1 << 31;
const WAITING: u64 = 1 << 30;
const SEAT: u64 = 1 << 15;
const INSIDE: u64 = SEAT - 1;

/// Far more than there are cores. The bit fields of `state` have room for this number.
const MOST_WORKERS: usize = 1 << 14;

/// A value that many threads write, in a cache line of its own.
#[repr(align(128))]
struct Line<T>(T);

struct Worker {
    thread: Thread,
    /// Whether the worker sleeps or is about to sleep.
    asleep: Arc<Line<AtomicBool>>,
}

/// One parallel region.
#[derive(Clone, Copy)]
struct Region {
    /// Runs one item. The closure lives on the stack of the thread that opened the region; that thread waits for all
    /// workers.
    run: *const (dyn Fn(usize) + Sync),
    items: usize,
}

// SAFETY: only the field `region` is not `Sync` by itself. `Pool::run` alone writes it, holding the lock `opener`,
// while the region is closed and no worker is inside. Workers read it only after they have joined an open region
// (`Pool::join`): their acquire operation on `state` sees the opener's release store, so the write is complete. The
// closure behind `run` is `Sync`, and it lives until the region is closed and every worker has left.
unsafe impl Sync for Pool {}
// SAFETY: the raw pointer in `region` is the only field that is not `Send`. Any thread may use it, for the reasons
// above.
unsafe impl Send for Pool {}

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    let nothing: *const (dyn Fn(usize) + Sync) = &|_| ();
    POOL.get_or_init(|| Pool {
        state: Line(AtomicU64::new(0)),
        next: Line(AtomicUsize::new(0)),
        region: UnsafeCell::new(Region { run: nothing, items: 0 }),
        panicked: AtomicBool::new(false),
        waiter: Mutex::new(None),
        pace: Pace::new(Instant::now()),
        opener: Mutex::new(Vec::new()),
    })
}

/// 0 stands for "not set yet".
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// The number of threads that compute: the value given to [`set_threads`], else that of `FOEHN_THREADS`, else one per
/// core. It is never more than the number of cores.
pub fn threads() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        0 => {
            let asked = std::env::var("FOEHN_THREADS").ok().and_then(|text| text.parse().ok()).filter(|&n| n > 0);
            set_threads(asked.unwrap_or(usize::MAX));
            THREADS.load(Ordering::Relaxed)
        }
        threads => threads,
    }
}

/// Sets the number of threads that compute on the CPU device, from the next operation on. Results do not depend on it.
///
/// A number above the number of cores that this process may use is reduced to that number: a thread without a core
/// delays the others.
///
/// # Panics
/// When it is 0.
pub fn set_threads(threads: usize) {
    assert!(threads > 0, "set_threads: no thread");
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS);
    THREADS.store(threads.min(cores), Ordering::Relaxed);
}

/// The number of threads to use for a region of `items` items, given how late workers were recently.
fn useful_threads(items: usize) -> usize {
    #[cfg(test)]
    if let Some(threads) = scoped::threads() {
        return threads.min(items);
    }
    let threads = threads();
    if threads.min(items) <= 1 {
        return items.min(1);
    }
    (1 + pool().pace.helpers(threads - 1, Instant::now)).min(items)
}

/// Calls `run` once for every item in `0..items`, on all threads, in no particular order. Returns when all calls are
/// done.
///
/// If another region is open (an enclosing one, or one of another thread), all items run on the calling thread.
///
/// # Panics
/// When a call panicked.
pub fn parallel(items: usize, run: impl Fn(usize) + Sync) {
    #[cfg(test)]
    if let Some(threads) = scoped::threads() {
        return scoped::parallel(items, threads, &run);
    }
    let threads = useful_threads(items);
    if threads > 1 {
        let opener = match pool().opener.try_lock() {
            Ok(opener) => Some(opener),
            // A panic in a region leaves no broken state behind, so a poisoned lock can be used.
            Err(TryLockError::Poisoned(opener)) => Some(opener.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(opener) = opener {
            return pool().run(opener, items, threads - 1, &run);
        }
    }
    (0..items).for_each(run);
}

impl Pool {
    fn run(
        &'static self,
        mut workers: MutexGuard<'_, Vec<Worker>>,
        items: usize,
        helpers: usize,
        run: &(dyn Fn(usize) + Sync),
    ) {
        while workers.len() < helpers {
            let Some(worker) = self.worker(workers.len()) else { break };
            workers.push(worker);
        }
        let began = Instant::now();
        let helpers = &workers[..helpers.min(workers.len())];
        // SAFETY: the transmute changes only the lifetime. This function returns only after the region is closed and
        // every worker has left it, so no thread calls the closure after it is dropped.
        let run: *const (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(run) };
        let region = Region { run, items };
        let epoch = (self.state.0.load(Ordering::Relaxed) & !(EPOCH - 1)).wrapping_add(EPOCH);
        // SAFETY: this thread holds `opener`, so no other thread opens a region. The last region was closed, and every
        // worker had left it, before its opener released the lock. So no thread reads `region` during this write.
        unsafe { *self.region.get() = region };
        self.next.0.store(0, Ordering::Relaxed);
        // Sequentially consistent with the worker's store to `asleep` and its load of `state`: either the worker sees
        // the new region before it sleeps, or this thread sees that the worker is asleep and wakes it.
        self.state.0.store(epoch | OPEN | (SEAT * helpers.len() as u64), Ordering::SeqCst);
        for worker in helpers {
            if worker.asleep.0.load(Ordering::SeqCst) {
                worker.asleep.0.store(false, Ordering::SeqCst);
                worker.thread.unpark();
            }
        }
        self.work(region);
        self.state.0.fetch_and(!OPEN, Ordering::Relaxed);
        self.wait(began);
        assert!(!self.panicked.swap(false, Ordering::Relaxed), "a parallel region panicked");
    }

    /// Starts a new worker. Returns `None` when the system cannot start a thread; then the existing workers do the
    /// work.
    fn worker(&'static self, index: usize) -> Option<Worker> {
        let asleep = Arc::new(Line(AtomicBool::new(false)));
        let own = Arc::clone(&asleep);
        let builder = std::thread::Builder::new().name("foehn-kernels".to_owned());
        let thread = builder.spawn(move || self.serve(index as u64, &own.0)).ok()?.thread().clone();
        Some(Worker { thread, asleep })
    }

    /// Takes items until none is left. The opening thread and every worker inside the region call it.
    fn work(&self, region: Region) {
        loop {
            let item = self.next.0.fetch_add(1, Ordering::Relaxed);
            if item >= region.items {
                return;
            }
            // SAFETY: the thread that opened the region is still in `Pool::run`, because it waits for this worker. So
            // the closure on its stack is alive.
            let run = unsafe { &*region.run };
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(item))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Waits until every worker has left the region. The region is already closed; it was opened at `began`.
    fn wait(&self, began: Instant) {
        let is_left = || self.state.0.load(Ordering::Acquire) & INSIDE == 0;
        let is_left_soon = |looks: usize| {
            (0..looks).any(|_| {
                std::hint::spin_loop();
                is_left()
            })
        };
        if is_left() || is_left_soon(LOOKS) {
            return;
        }
        let start = Instant::now();
        // If the system has suspended a worker, that worker needs this thread's core: yield it.
        while !is_left_soon(64) {
            if start.elapsed() < PATIENCE {
                std::thread::yield_now();
                continue;
            }
            *self.waiter.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current());
            // The last worker leaves either before this operation, and this thread sees it here, or after it, and the
            // worker sees `WAITING`.
            if self.state.0.fetch_or(WAITING, Ordering::AcqRel) & INSIDE != 0 {
                while !is_left() {
                    std::thread::park();
                }
            }
        }
        let now = Instant::now();
        self.pace.waited(threads() - 1, start - began, now - start, now);
    }

    /// The main loop of a worker.
    fn serve(&self, index: u64, asleep: &AtomicBool) {
        let mut seen = 0;
        loop {
            let state = self.next_region(index, asleep, seen);
            seen = state & !(EPOCH - 1);
            #[cfg(test)]
            scoped::dawdle(state);
            if let Some(region) = self.join(state) {
                self.work(region);
                // Release: after the opening thread has seen this decrement, no worker uses the region's memory.
                let before = self.state.0.fetch_sub(1, Ordering::AcqRel);
                if before & (WAITING | INSIDE) == WAITING | 1 {
                    let waiter = self.waiter.lock().unwrap_or_else(PoisonError::into_inner);
                    waiter.as_ref().inspect(|thread| thread.unpark());
                }
            }
        }
    }

    /// Joins the region described by `state`, if it is still open. Each worker joins a region at most once, so the
    /// number of workers inside never exceeds the number of seats.
    fn join(&self, mut state: u64) -> Option<Region> {
        let epoch = state & !(EPOCH - 1);
        while state & OPEN != 0 && state & !(EPOCH - 1) == epoch {
            match self.state.0.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed) {
                // SAFETY: this worker has joined the region, so the opening thread stays in `Pool::run` and does not
                // write `region` before this worker leaves. The acquire operation above orders this read after the
                // opener's write.
                Ok(_) => return Some(unsafe { *self.region.get() }),
                Err(now) => state = now,
            }
        }
        None
    }

    /// Waits for an epoch other than `seen` whose region has a seat for the worker with this index.
    fn next_region(&self, index: u64, asleep: &AtomicBool, seen: u64) -> u64 {
        let is_next = |state: u64| state & !(EPOCH - 1) != seen && state % WAITING / SEAT > index;
        let start = Instant::now();
        while start.elapsed() < SPIN {
            for _ in 0..64 {
                let state = self.state.0.load(Ordering::Acquire);
                if is_next(state) {
                    return state;
                }
                std::hint::spin_loop();
            }
        }
        loop {
            asleep.store(true, Ordering::SeqCst);
            let state = self.state.0.load(Ordering::SeqCst);
            if is_next(state) {
                asleep.store(false, Ordering::SeqCst);
                return state;
            }
            std::thread::park();
        }
    }
}
