//! Work that reads memory in long sequential runs, one run per thread.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{parallel, useful_threads};

/// The largest number of parts that [`parallel_streams`] makes.
pub const MOST_LANES: usize = 64;

/// Calls `run` with ranges that cover `0..total` once. Every thread goes through its own part from front to back,
/// because memory is fastest when read sequentially. Then it takes what is left of the other threads' parts, from the
/// back. A part is split into at most `chunks` ranges. `begin` makes the state that the calls of one thread share; its
/// argument is the thread's lane, below [`MOST_LANES`].
///
/// # Panics
/// When a call panicked.
pub fn parallel_streams<T>(
    total: usize,
    chunks: usize,
    begin: impl Fn(usize) -> T + Sync,
    run: impl Fn(&mut T, Range<usize>) + Sync,
) {
    let lanes = useful_threads(total.min(MOST_LANES));
    let Some(chunk) = total.div_ceil(chunks.max(1)).checked_div(lanes).map(|chunk| chunk.max(1)) else { return };
    let chunks = total.div_ceil(chunk);
    // For each lane, the first chunk that is left (lower half), and the end of its chunks (upper half).
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
