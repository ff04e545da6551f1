//! The one thread pool: workers that spin for a moment before they sleep.
//!
//! A training step has thousands of parallel regions, each of some hundred microseconds. Waking a thread that sleeps costs
//! as much; one that spins is there within a microsecond.
//!
//! Items are taken one by one from a counter, so that a worker which comes late, or never, leaves its items to the others.
//! What it has begun has to be waited for. Where other programs hold the cores, that can cost more than the workers gain:
//! [`Pace`] measures it, and asks fewer of them for a while.

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
pub use parts::{Parts, parallel_chunks};
pub use streams::{MOST_LANES, parallel_streams};

/// How long a worker spins for the next region before it sleeps.
const SPIN: Duration = Duration::from_millis(1);

/// How often the opener of a region looks for its end, some ten microseconds in all, before it looks at a clock.
const LOOKS: usize = 1024;

/// How long it looks on from there, and lets others have its core, before it sleeps.
const PATIENCE: Duration = Duration::from_micros(100);

struct Pool {
    /// The region: how many it has been (the upper half, [`EPOCH`] each), whether workers may join it ([`OPEN`]), whether the
    /// last to leave has to wake its opener ([`WAITING`]), for how many workers it has work ([`SEAT`] each), and how many are
    /// inside ([`INSIDE`]).
    state: Line<AtomicU64>,
    /// The next item of the region that nobody has taken.
    next: Line<AtomicUsize>,
    /// What the region runs. Written while the region is closed and nobody is inside, read by who is inside.
    region: UnsafeCell<Region>,
    panicked: AtomicBool,
    /// The last opener that went to sleep. It stays here when it has woken: to be woken once more does it no harm.
    waiter: Mutex<Option<Thread>>,
    pace: Pace,
    /// Held by the thread whose region is open. Has the workers; a region for so many is for the first of them.
    opener: Mutex<Vec<Worker>>,
}

const EPOCH: u64 = 1 << 32;
const OPEN: u64 = 1 << 31;
const WAITING: u64 = 1 << 30;
const SEAT: u64 = 1 << 15;
const INSIDE: u64 = SEAT - 1;

/// Far more than there are cores, and what the state has room for.
const MOST_WORKERS: usize = 1 << 14;

/// Something that many threads write, in a cache line of its own.
#[repr(align(128))]
struct Line<T>(T);

struct Worker {
    thread: Thread,
    /// Whether it sleeps, or is about to.
    asleep: Arc<Line<AtomicBool>>,
}

/// One parallel region.
#[derive(Clone, Copy)]
struct Region {
    /// Runs one item. Lives on the stack of the thread that opened the region, which waits for all workers.
    run: *const (dyn Fn(usize) + Sync),
    items: usize,
}

// SAFETY: `region` alone is not `Sync`. Its one writer, `Pool::run`, holds `opener` and writes while the region is closed and
// nobody is inside; readers join an open region first (`Pool::join`), with an acquiring load of what the writer released.
// Its closure is `Sync`, and lives until the region is closed and left by all.
unsafe impl Sync for Pool {}
// SAFETY: as above.
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

/// How many threads compute: what [`set_threads`] said, else `FOEHN_THREADS`, else one a core; never more than there are
/// cores.
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

/// Sets how many threads compute on the CPU device, from the next operation on. Results do not depend on it.
///
/// More than the cores that this process may use are as many as those: a thread without a core holds up the others.
///
/// # Panics
/// When it is 0.
pub fn set_threads(threads: usize) {
    assert!(threads > 0, "set_threads: no thread");
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS);
    THREADS.store(threads.min(cores), Ordering::Relaxed);
}

/// How many threads a region of so many items is worth, as other programs leave the cores.
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

/// Calls `run` once for every item in `0..items`, on all threads, in no particular order; returns when all are done.
///
/// A region inside a region, or beside one of another thread, runs on the calling thread alone.
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
            // Of a region that panicked nothing is left behind.
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
        // SAFETY: only the lifetime changes. The region is closed and left by all before this function returns, so nobody
        // calls the closure after its end.
        let run: *const (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(run) };
        let region = Region { run, items };
        let epoch = (self.state.0.load(Ordering::Relaxed) & !(EPOCH - 1)).wrapping_add(EPOCH);
        // SAFETY: the last region was closed and left by all before its opener gave `opener` away, and none is open.
        unsafe { *self.region.get() = region };
        self.next.0.store(0, Ordering::Relaxed);
        // In one order with what a worker does who is about to sleep: either it sees the region, or it is seen.
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

    /// A new worker; none where the system has no thread to give, and those that are there do the work.
    fn worker(&'static self, index: usize) -> Option<Worker> {
        let asleep = Arc::new(Line(AtomicBool::new(false)));
        let own = Arc::clone(&asleep);
        let builder = std::thread::Builder::new().name("foehn-kernels".to_owned());
        let thread = builder.spawn(move || self.serve(index as u64, &own.0)).ok()?.thread().clone();
        Some(Worker { thread, asleep })
    }

    /// Takes items until none is left. Called by the region's opener and by those inside.
    fn work(&self, region: Region) {
        loop {
            let item = self.next.0.fetch_add(1, Ordering::Relaxed);
            if item >= region.items {
                return;
            }
            // SAFETY: the opener of the region is in `Pool::run`, so the closure is alive.
            let run = unsafe { &*region.run };
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(item))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Waits until the region, which is closed and began at that time, is left by all.
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
        // A worker that the system has put aside needs the core that this thread would hold.
        while !is_left_soon(64) {
            if start.elapsed() < PATIENCE {
                std::thread::yield_now();
                continue;
            }
            *self.waiter.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current());
            // Whoever leaves last leaves before this, and it is seen here; or after it, and sees this.
            if self.state.0.fetch_or(WAITING, Ordering::AcqRel) & INSIDE != 0 {
                while !is_left() {
                    std::thread::park();
                }
            }
        }
        let now = Instant::now();
        self.pace.waited(threads() - 1, start - began, now - start, now);
    }

    /// A worker's life.
    fn serve(&self, index: u64, asleep: &AtomicBool) {
        let mut seen = 0;
        loop {
            let state = self.next_region(index, asleep, seen);
            seen = state & !(EPOCH - 1);
            #[cfg(test)]
            scoped::dawdle(state);
            if let Some(region) = self.join(state) {
                self.work(region);
                // The region's memory is its opener's again when this is seen.
                let before = self.state.0.fetch_sub(1, Ordering::AcqRel);
                if before & (WAITING | INSIDE) == WAITING | 1 {
                    let waiter = self.waiter.lock().unwrap_or_else(PoisonError::into_inner);
                    waiter.as_ref().inspect(|thread| thread.unpark());
                }
            }
        }
    }

    /// Steps into the region of a state, if it is still open. A worker does so once a region, so that no more are inside than
    /// it is for.
    fn join(&self, mut state: u64) -> Option<Region> {
        let epoch = state & !(EPOCH - 1);
        while state & OPEN != 0 && state & !(EPOCH - 1) == epoch {
            match self.state.0.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed) {
                // SAFETY: whoever is inside keeps the opener in `Pool::run`, and the region as it is.
                Ok(_) => return Some(unsafe { *self.region.get() }),
                Err(now) => state = now,
            }
        }
        None
    }

    /// Waits for an epoch other than `seen` whose region is for the worker of this index too.
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
