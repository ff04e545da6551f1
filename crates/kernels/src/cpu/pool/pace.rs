//! Decides how many workers a region uses, from the time lost waiting for them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One part in `SHARE` of all time may be lost waiting for suspended workers. Two threads are about 1.4 to 1.9 times as
/// fast as one; they become slower than one thread when a share of 0.3 to 0.5 is lost.
const SHARE: u32 = 4;

/// Time that may be lost at once. The system suspends a thread for a few milliseconds now and then, also on a quiet
/// machine.
const AT_ONCE: Duration = Duration::from_millis(4);

/// A shorter wait is not counted: it is not caused by the system suspending a thread.
const SHORTEST_WAIT: Duration = Duration::from_micros(100);

const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// Limits the number of workers of a region by the time recently lost waiting for them. While no worker is late there
/// is no limit, and no clock is read.
///
/// When too much time was lost, the number of workers is halved for a pause. After the pause it is raised again. If too
/// much time is lost again soon, the next pause is longer, up to a length at which these trials cost a few hundredths
/// of the time.
pub struct Pace {
    /// The limit, or `usize::MAX` for none.
    most: AtomicUsize,
    record: Mutex<Record>,
}

struct Record {
    /// Time lost, minus the share of time that may be lost.
    lost: Duration,
    /// The time up to which `lost` has been counted.
    counted: Instant,
    /// When the limit was last raised.
    raised: Instant,
    /// How long the limit holds, and when it ends.
    pause: Duration,
    until: Instant,
}

impl Pace {
    pub fn new(now: Instant) -> Self {
        let record = Record { lost: Duration::ZERO, counted: now, raised: now, pause: Duration::ZERO, until: now };
        Self { most: AtomicUsize::new(usize::MAX), record: Mutex::new(record) }
    }

    /// How many workers to use, at most `wanted`.
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

    /// Records that the opening thread of a region with at most `workers` workers had worked for `worked` and then
    /// waited for `waited`. Another thread may take as long as `worked` for the last item, so only the part of `waited`
    /// above it counts as lost.
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
