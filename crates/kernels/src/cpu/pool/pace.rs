//! How many workers are worth waiting for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Of all time, the part that may be spent waiting for workers that the system has put aside. Two threads are some 1.4 to 1.9
/// times as fast as one, so that they lose to it at a share of 0.3 to 0.5.
const SHARE: u32 = 4;

/// Time that may be lost at once: the system puts a thread aside for a few milliseconds, now and then on a quiet machine too.
const AT_ONCE: Duration = Duration::from_millis(4);

/// Waits that are shorter are not the system's.
const SHORTEST_WAIT: Duration = Duration::from_micros(100);

const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// Bounds the workers of a region by what waiting for them has cost lately. As long as nobody is late it has no bound, and
/// looks at no clock.
///
/// When too much was lost, half of the workers get a pause. Then they are tried again; where that fails soon, the pause grows,
/// up to so long that the trials cost a few hundredths of the time.
pub struct Pace {
    /// The bound, or `usize::MAX`.
    most: AtomicUsize,
    record: Mutex<Record>,
}

struct Record {
    /// Time lost, less the share of all time that may be.
    lost: Duration,
    /// Up to where that was counted.
    counted: Instant,
    /// When the bound was last raised.
    raised: Instant,
    /// How long the bound holds, and when it ends.
    pause: Duration,
    until: Instant,
}

impl Pace {
    pub fn new(now: Instant) -> Self {
        let record = Record { lost: Duration::ZERO, counted: now, raised: now, pause: Duration::ZERO, until: now };
        Self { most: AtomicUsize::new(usize::MAX), record: Mutex::new(record) }
    }

    /// How many workers to ask, at most `wanted`.
    pub fn helpers(&self, wanted: usize, now: impl FnOnce() -> Instant) -> usize {
        let most = self.most.load(Ordering::Relaxed);
        if most >= wanted {
            return wanted;
        }
        let now = now();
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        if now < record.until {
            return most;
        }
        let most = 2 * most + 1;
        self.most.store(if most < wanted { most } else { usize::MAX }, Ordering::Relaxed);
        let pause = record.pause;
        *record = Record { lost: Duration::ZERO, counted: now, raised: now, pause, until: now + pause };
        most.min(wanted)
    }

    /// A region of at most so many workers was waited for at its end, after its opener had worked for some time: that long is
    /// how long another thread may well take for the last of the work, and only what is above it is lost.
    pub fn waited(&self, workers: usize, worked: Duration, waited: Duration, now: Instant) {
        let late = waited.saturating_sub(worked);
        if late < SHORTEST_WAIT {
            return;
        }
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = now.saturating_duration_since(record.counted) / SHARE;
        record.lost = record.lost.saturating_sub(allowed) + late;
        record.counted = now;
        if record.lost <= AT_ONCE {
            return;
        }
        let lasted = now.saturating_duration_since(record.raised);
        record.pause = if lasted > 4 * record.pause { SHORTEST_PAUSE } else { LONGEST_PAUSE.min(2 * record.pause) };
        record.until = now + record.pause;
        record.lost = Duration::ZERO;
        self.most.store(self.most.load(Ordering::Relaxed).min(workers) / 2, Ordering::Relaxed);
    }
}
