//! The one thread pool: workers that spin for a moment before they sleep.
//!
//! A training step has thousands of parallel regions, each of some hundred microseconds. Waking a thread that sleeps costs
//! as much; one that spins is there within a microsecond.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How long a worker spins for the next region before it sleeps.
const SPIN: Duration = Duration::from_millis(1);

/// One parallel region.
struct Region {
    /// Runs one item. Lives on the stack of the thread that opened the region, which waits for all workers.
    run: *const (dyn Fn(usize) + Sync),
    items: usize,
    /// The next item that nobody has taken.
    next: AtomicUsize,
    /// Workers that may still join.
    seats: AtomicUsize,
    panicked: AtomicBool,
}

// SAFETY: `run` points to a `Sync` closure, which any thread may call; `Pool::run` keeps it alive until every worker that
// holds the region has left it.
unsafe impl Send for Region {}
// SAFETY: as above; the other fields are atomics and plain numbers.
unsafe impl Sync for Region {}

impl Region {
    fn work(&self) {
        loop {
            let item = self.next.fetch_add(1, Ordering::Relaxed);
            if item >= self.items {
                return;
            }
            // SAFETY: the opener of the region is waiting in `Pool::run`, so the closure is alive.
            let run = unsafe { &*self.run };
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(item))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
        }
    }
}

struct Pool {
    /// Counts the regions; a worker waits for it to change.
    epoch: AtomicUsize,
    current: Mutex<Current>,
    wake: Condvar,
    /// Workers inside the current region.
    inside: AtomicUsize,
    workers: AtomicUsize,
    /// Held by the thread whose region is open.
    open: Mutex<()>,
}

/// What the workers find when they look.
#[derive(Default)]
struct Current {
    region: Option<Arc<Region>>,
    /// Workers that have to be woken.
    asleep: usize,
}

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| Pool {
        epoch: AtomicUsize::new(0),
        current: Mutex::new(Current::default()),
        wake: Condvar::new(),
        inside: AtomicUsize::new(0),
        workers: AtomicUsize::new(0),
        open: Mutex::new(()),
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
        let open = match pool().open.try_lock() {
            Ok(open) => Some(open),
            // Of a region that panicked nothing is left behind.
            Err(TryLockError::Poisoned(open)) => Some(open.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(_open) = open {
            return pool().run(items, threads - 1, &run);
        }
    }
    (0..items).for_each(run);
}

impl Pool {
    fn run(&'static self, items: usize, helpers: usize, run: &(dyn Fn(usize) + Sync)) {
        while self.workers.load(Ordering::Relaxed) < helpers {
            self.workers.fetch_add(1, Ordering::Relaxed);
            let spawned = std::thread::Builder::new().name("foehn-kernels".to_owned()).spawn(move || self.serve());
            if spawned.is_err() {
                break; // The system has no thread to give: those that are there do the work.
            }
        }
        // SAFETY: only the lifetime changes. The region is taken back below before this function returns, and no worker
        // is inside it then, so nobody calls the closure after its end.
        let run: *const (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(run) };
        let region = Arc::new(Region {
            run,
            items,
            next: AtomicUsize::new(0),
            seats: AtomicUsize::new(helpers),
            panicked: AtomicBool::new(false),
        });
        {
            let mut current = self.lock();
            current.region = Some(Arc::clone(&region));
            self.epoch.fetch_add(1, Ordering::Release);
            if current.asleep > 0 {
                self.wake.notify_all();
            }
        }
        region.work();
        // Workers join only under the lock and only while the region is there.
        self.lock().region = None;
        let mut rounds = 0;
        while self.inside.load(Ordering::Acquire) > 0 {
            rounds += 1;
            // A worker that the system has put aside needs the core that this loop would hold.
            if rounds % 4096 == 0 { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        assert!(!region.panicked.load(Ordering::Relaxed), "a parallel region panicked");
    }

    /// A worker's life.
    fn serve(&self) {
        let mut seen = 0;
        loop {
            seen = self.next_epoch(seen);
            if let Some(region) = self.join() {
                region.work();
                drop(region);
                self.inside.fetch_sub(1, Ordering::Release);
            }
        }
    }

    fn join(&self) -> Option<Arc<Region>> {
        let current = self.lock();
        let region = current.region.as_ref()?;
        let take = |seats: usize| seats.checked_sub(1);
        region.seats.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        self.inside.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(region))
    }

    /// Waits for an epoch other than `seen`.
    fn next_epoch(&self, seen: usize) -> usize {
        let start = Instant::now();
        loop {
            for _ in 0..64 {
                let epoch = self.epoch.load(Ordering::Acquire);
                if epoch != seen {
                    return epoch;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > SPIN {
                break;
            }
        }
        let mut current = self.lock();
        loop {
            let epoch = self.epoch.load(Ordering::Acquire);
            if epoch != seen {
                return epoch;
            }
            current.asleep += 1;
            current = self.wake.wait(current).unwrap_or_else(PoisonError::into_inner);
            current.asleep -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls `run` with ranges that together are `0..total`, each once: every thread goes through a part of its own from front to
/// back, as memory is read fastest, and then takes what others have left, from the back. `begin` makes what a thread's calls
/// share.
///
/// # Panics
/// When a call panicked.
pub fn parallel_streams<T>(total: usize, begin: impl Fn() -> T + Sync, run: impl Fn(&mut T, Range<usize>) + Sync) {
    let lanes = threads().min(total);
    let Some(chunk) = total.div_ceil(STREAM_CHUNKS).checked_div(lanes).map(|chunk| chunk.max(1)) else { return };
    let chunks = total.div_ceil(chunk);
    // Of each lane the first chunk that is left, and above it, in the upper half, the end.
    let left: Vec<AtomicU64> = (0..lanes as u64)
        .map(|lane| (chunks as u64 * lane / lanes as u64) | (chunks as u64 * (lane + 1) / lanes as u64) << 32)
        .map(AtomicU64::new)
        .collect();
    let take = |lane: usize, from_front: bool| {
        let (step, back) = if from_front { (1, 0) } else { (-(1i64 << 32), 1) };
        let shorter = |range: u64| (range & u64::from(u32::MAX) < range >> 32).then(|| range.wrapping_add_signed(step));
        let range = left[lane].fetch_update(Ordering::Relaxed, Ordering::Relaxed, shorter).ok()?;
        Some(if from_front { range as u32 as usize } else { (range >> 32) as usize - back })
    };
    parallel(lanes, |lane| {
        let mut state = begin();
        for at in 0..lanes {
            while let Some(chunk_at) = take((lane + at) % lanes, at == 0) {
                run(&mut state, chunk_at * chunk..total.min((chunk_at + 1) * chunk));
            }
        }
    });
}

/// Chunks of a thread's part.
const STREAM_CHUNKS: usize = 8;

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
