//! The one thread pool: workers that spin for a moment before they sleep.
//!
//! A training step has thousands of parallel regions, each of some hundred microseconds. Waking a thread that sleeps costs
//! as much; one that spins is there within a microsecond.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How long a worker spins for the next region before it sleeps.
const SPIN: Duration = Duration::from_millis(1);

struct Pool {
    /// The region: how many it has been (the upper half, [`EPOCH`] each), whether workers may join it ([`OPEN`]), and how
    /// many are inside (the lowest bits).
    state: Line<AtomicU64>,
    /// The next item of the region that nobody has taken.
    next: Line<AtomicUsize>,
    /// What the region runs. Written while the region is closed and nobody is inside, read by who is inside.
    region: UnsafeCell<Region>,
    panicked: AtomicBool,
    workers: AtomicUsize,
    /// Workers that sleep, or are about to.
    asleep: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    /// Held by the thread whose region is open.
    opener: Mutex<()>,
}

const EPOCH: u64 = 1 << 32;
const OPEN: u64 = 1 << 31;

/// Something that many threads write, in a cache line of its own.
#[repr(align(128))]
struct Line<T>(T);

/// One parallel region.
#[derive(Clone, Copy)]
struct Region {
    /// Runs one item. Lives on the stack of the thread that opened the region, which waits for all workers.
    run: *const (dyn Fn(usize) + Sync),
    items: usize,
    /// Workers that may be inside at once.
    seats: usize,
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
        region: UnsafeCell::new(Region { run: nothing, items: 0, seats: 0 }),
        panicked: AtomicBool::new(false),
        workers: AtomicUsize::new(0),
        asleep: AtomicUsize::new(0),
        sleep: Mutex::new(()),
        wake: Condvar::new(),
        opener: Mutex::new(()),
    })
}

/// 0 stands for "not set yet".
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// How many threads compute: what [`set_threads`] said, else `FOEHN_THREADS`, else one a core.
pub fn threads() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        0 => {
            let asked = std::env::var("FOEHN_THREADS").ok().and_then(|text| text.parse().ok()).filter(|&n| n > 0);
            let threads = asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
            set_threads(threads);
            threads
        }
        threads => threads,
    }
}

/// Sets how many threads compute on the CPU device, from the next operation on. Results do not depend on it.
///
/// # Panics
/// When it is 0.
pub fn set_threads(threads: usize) {
    assert!(threads > 0, "set_threads: no thread");
    THREADS.store(threads, Ordering::Relaxed);
}

/// Calls `run` once for every item in `0..items`, on all threads, in no particular order; returns when all are done.
///
/// A region inside a region, or beside one of another thread, runs on the calling thread alone.
///
/// # Panics
/// When a call panicked.
pub fn parallel(items: usize, run: impl Fn(usize) + Sync) {
    let threads = threads().min(items);
    if threads > 1 {
        let opener = match pool().opener.try_lock() {
            Ok(opener) => Some(opener),
            // Of a region that panicked nothing is left behind.
            Err(TryLockError::Poisoned(opener)) => Some(opener.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(_opener) = opener {
            return pool().run(items, threads - 1, &run);
        }
    }
    (0..items).for_each(run);
}

impl Pool {
    /// Called by who holds `opener`.
    fn run(&'static self, items: usize, helpers: usize, run: &(dyn Fn(usize) + Sync)) {
        while self.workers.load(Ordering::Relaxed) < helpers {
            self.workers.fetch_add(1, Ordering::Relaxed);
            let spawned = std::thread::Builder::new().name("foehn-kernels".to_owned()).spawn(move || self.serve());
            if spawned.is_err() {
                break; // The system has no thread to give: those that are there do the work.
            }
        }
        // SAFETY: only the lifetime changes. The region is closed and left by all before this function returns, so nobody
        // calls the closure after its end.
        let run: *const (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(run) };
        let region = Region { run, items, seats: helpers };
        let epoch = (self.state.0.load(Ordering::Relaxed) & !(EPOCH - 1)).wrapping_add(EPOCH);
        // SAFETY: the last region was closed and left by all before its opener gave `opener` away, and none is open.
        unsafe { *self.region.get() = region };
        self.next.0.store(0, Ordering::Relaxed);
        // In one order with what a worker does who is about to sleep: either it sees the region, or it is seen.
        self.state.0.store(epoch | OPEN, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) > 0 {
            drop(self.sleep.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
        self.work(region);
        self.state.0.fetch_and(!OPEN, Ordering::Relaxed);
        let mut rounds = 0;
        while self.state.0.load(Ordering::Acquire) != epoch {
            rounds += 1;
            // A worker that the system has put aside needs the core that this loop would hold.
            if rounds % 4096 == 0 { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        assert!(!self.panicked.swap(false, Ordering::Relaxed), "a parallel region panicked");
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

    /// A worker's life.
    fn serve(&self) {
        let mut seen = 0;
        loop {
            let state = self.next_epoch(seen);
            seen = state & !(EPOCH - 1);
            if let Some(region) = self.join(state) {
                self.work(region);
                self.state.0.fetch_sub(1, Ordering::Release);
            }
        }
    }

    /// Steps into the region of a state, if it is still open and has a seat.
    fn join(&self, mut state: u64) -> Option<Region> {
        let epoch = state & !(EPOCH - 1);
        loop {
            if state & OPEN == 0 || state & !(EPOCH - 1) != epoch {
                return None;
            }
            match self.state.0.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(before) => {
                    // SAFETY: whoever is inside keeps the opener in `Pool::run`, and the region as it is.
                    let region = unsafe { *self.region.get() };
                    if before & (OPEN - 1) < region.seats as u64 {
                        return Some(region);
                    }
                    self.state.0.fetch_sub(1, Ordering::Release);
                    return None;
                }
                Err(now) => state = now,
            }
        }
    }

    /// Waits for an epoch other than `seen`.
    fn next_epoch(&self, seen: u64) -> u64 {
        let is_new = |state: &u64| state & !(EPOCH - 1) != seen;
        let start = Instant::now();
        while start.elapsed() < SPIN {
            for _ in 0..64 {
                let state = self.state.0.load(Ordering::Acquire);
                if is_new(&state) {
                    return state;
                }
                std::hint::spin_loop();
            }
        }
        let mut sleep = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.fetch_add(1, Ordering::SeqCst);
        let state = loop {
            let state = self.state.0.load(Ordering::SeqCst);
            if is_new(&state) {
                break state;
            }
            sleep = self.wake.wait(sleep).unwrap_or_else(PoisonError::into_inner);
        };
        self.asleep.fetch_sub(1, Ordering::SeqCst);
        state
    }
}

/// The most parts that [`parallel_streams`] makes.
pub const MOST_LANES: usize = 64;

/// Calls `run` with ranges that together are `0..total`, each once: every thread goes through a part of its own from front to
/// back, as memory is read fastest, and then takes what others have left, from the back. A part is taken in `chunks` ranges
/// at most. `begin` makes what a thread's calls share, given the thread's place among all, below [`MOST_LANES`].
///
/// # Panics
/// When a call panicked.
pub fn parallel_streams<T>(
    total: usize,
    chunks: usize,
    begin: impl Fn(usize) -> T + Sync,
    run: impl Fn(&mut T, Range<usize>) + Sync,
) {
    let lanes = threads().min(total).min(MOST_LANES);
    let Some(chunk) = total.div_ceil(chunks.max(1)).checked_div(lanes).map(|chunk| chunk.max(1)) else { return };
    let chunks = total.div_ceil(chunk);
    // Of each lane the first chunk that is left, and above it, in the upper half, the end.
    let mut left = [const { AtomicU64::new(0) }; MOST_LANES];
    let border = |lane: usize| (chunks * lane / lanes) as u64;
    for (lane, left) in left.iter_mut().enumerate().take(lanes) {
        *left.get_mut() = border(lane) | border(lane + 1) << 32;
    }
    let take = |lane: usize, from_front: bool| {
        let (step, back) = if from_front { (1, 0) } else { (-(1i64 << 32), 1) };
        let shorter = |range: u64| (range & u64::from(u32::MAX) < range >> 32).then(|| range.wrapping_add_signed(step));
        let range = left[lane].fetch_update(Ordering::Relaxed, Ordering::Relaxed, shorter).ok()?;
        Some(if from_front { range as u32 as usize } else { (range >> 32) as usize - back })
    };
    parallel(lanes, |lane| {
        let mut state = begin(lane);
        for at in 0..lanes {
            while let Some(chunk_at) = take((lane + at) % lanes, at == 0) {
                run(&mut state, chunk_at * chunk..total.min((chunk_at + 1) * chunk));
            }
        }
    });
}

/// Disjoint parts of one buffer, written by several threads at once.
pub struct Parts<'a, T = f32> {
    start: *mut T,
    len: usize,
    buffer: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: whoever takes a part promises (see `part`) that no other part in use overlaps it, so that each element is one
// thread's at a time; `T: Send` lets it be another's than the buffer's.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub fn new(buffer: &'a mut [T]) -> Self {
        Self { start: buffer.as_mut_ptr(), len: buffer.len(), buffer: std::marker::PhantomData }
    }

    /// The elements `start..start + len`.
    ///
    /// # Panics
    /// When they are not in the buffer.
    ///
    /// # Safety
    /// No other part that overlaps this one is in use while this one is.
    #[allow(clippy::mut_from_ref)]
    #[inline(always)]
    pub unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "part: outside the buffer");
        // SAFETY: in bounds by the assertion, not aliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

/// Calls `run` with every run of `len` elements of `buffer` (the last may be shorter) and its index, on all threads.
pub fn parallel_chunks<T: Send>(buffer: &mut [T], len: usize, run: impl Fn(usize, &mut [T]) + Sync) {
    let total = buffer.len();
    let parts = Parts::new(buffer);
    parallel(total.div_ceil(len.max(1)), |index| {
        let start = index * len;
        // SAFETY: each index comes once, and the runs of different indices do not overlap.
        run(index, unsafe { parts.part(start, len.min(total - start)) });
    });
}
