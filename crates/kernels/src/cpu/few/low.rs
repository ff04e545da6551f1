//! Low-rank adapters for few rows.

use std::ops::Range;

use crate::cpu::buffer::Buffer;
use crate::cpu::linear::{AdapterView, Span};
use crate::cpu::matrix::{BLOCK, pack_panel};
use crate::cpu::number::{F16, Number, halve};
use crate::cpu::pool::{DisjointParts, MOST_LANES, parallel};
use crate::cpu::rows::{dots, dots_half};
use crate::cpu::simd::{LANES, Level, Simd, dispatch, prefetch};

/// With at most this many rows, every thread computes the low-rank values by itself: that is faster than sharing them.
const ALONE: usize = 2;

/// An adapter in half precision, in the layout for few rows.
#[derive(Debug)]
pub struct Halves {
    /// `[r, in]`
    a: Vec<F16>,
    /// `[out/32][r][32]`
    b: Vec<F16>,
}

impl Halves {
    /// From A (`[r, in]`) and B (`[out, r]`).
    pub fn new(level: Level, a: &[f32], b: &[f32], r: usize) -> Self {
        let out = b.len() / r;
        let mut panels = vec![0.0; out.next_multiple_of(BLOCK) * r];
        for (panel, to) in panels.chunks_exact_mut(BLOCK * r).enumerate() {
            pack_panel(level, &b[panel * BLOCK * r..], BLOCK.min(out - panel * BLOCK), r, r, to);
        }
        let [a, b] = [a, &panels].map(|values| {
            let mut halved = vec![F16::default(); values.len()];
            halve(level, values, &mut halved, 1);
            halved
        });
        Self { a, b }
    }
}

/// The low-rank values of all adapters, `scale·x·Aᵀ`. For each row, those of the first projection's adapter, then those
/// of the second one's, and so on.
pub struct Low<'a, const N: usize> {
    x: &'a [f32],
    rows: usize,
    spans: &'a [Span<'a, N>],
    /// Where the values of each projection begin among those of a row.
    firsts: [usize; N],
    /// The room for the values of a row: that of the largest rank of each projection.
    width: usize,
}

/// Where the low-rank values are stored.
pub enum Places<'a> {
    /// Already computed, and shared by all threads.
    Together(&'a [f32]),
    /// Each thread computes its own copy. Copy `lane` begins at `lane` times the given stride.
    Alone(DisjointParts<'a>, usize),
}

/// The low-rank values as one thread sees them.
pub enum LaneLow<'a> {
    Computed(&'a [f32]),
    /// Not yet computed. They are computed at the first use, when the prefetched adapters have arrived in the cache.
    Later(&'a mut [f32]),
}

impl<'a, const N: usize> Low<'a, N> {
    /// # Panics
    /// When an adapter has a dropout mask, or the spans do not cover the rows.
    pub fn new(x: &'a [f32], rows: usize, spans: &'a [Span<'a, N>]) -> Self {
        assert_eq!(spans.iter().map(|span| span.rows).sum::<usize>(), rows, "projection: spans are not the rows");
        let mut width = 0;
        let firsts = std::array::from_fn(|index| {
            let ranks = spans.iter().filter_map(|span| span.adapters[index].as_ref()).map(|adapter| adapter.r);
            let first = width;
            width += ranks.max().unwrap_or(0);
            first
        });
        let low = Self { x, rows, spans, firsts, width };
        let masked = low.adapters().any(|adapter| adapter.mask.is_some());
        assert!(!masked, "projection: dropout where nothing is trained");
        low
    }

    fn adapters(&self) -> impl Iterator<Item = &'a AdapterView<'a>> {
        self.spans.iter().flat_map(|span| span.adapters.iter().flatten())
    }

    /// The spans with an adapter for projection `index` among the given rows: each with its index, the adapter, and its
    /// rows among those given.
    pub fn spans(
        &self,
        index: usize,
        rows: Range<usize>,
    ) -> impl Iterator<Item = (usize, &'a AdapterView<'a>, Range<usize>)> {
        let mut end = 0;
        self.spans.iter().enumerate().filter_map(move |(at, span)| {
            let first = end;
            end += span.rows;
            let rows = first.max(rows.start)..end.min(rows.end);
            span.adapters[index].as_ref().filter(|_| !rows.is_empty()).map(|adapter| (at, adapter, rows))
        })
    }

    /// Prefetches the adapters' B in half precision, from `column` on, for projection `index`.
    pub fn prefetch(&self, index: usize, column: usize) {
        for adapter in self.spans.iter().filter_map(|span| span.adapters[index].as_ref()) {
            if let Some(halves) = adapter.halves {
                prefetch(&halves.b[column * adapter.r..][..BLOCK * adapter.r]);
            }
        }
    }

    /// The values of a row for projection `index`, with what follows.
    pub fn of_row<'b>(&self, low: &'b [f32], index: usize, row: usize) -> &'b [f32] {
        &low[row * self.width + self.firsts[index]..]
    }

    fn len(&self) -> usize {
        self.rows * self.width
    }

    /// Makes room for one copy per thread. Where there are more than [`ALONE`] rows, computes the values now, on all
    /// threads.
    pub fn places<'b>(&self, level: Level, room: &'b mut Vec<f32>) -> Places<'b> {
        let alone = self.rows <= ALONE;
        // The padding keeps two threads from writing to the same cache line.
        let stride = self.len() + BLOCK;
        let len = if alone { MOST_LANES * stride } else { self.len() };
        if room.len() < len {
            room.resize(len, 0.0);
        }
        if alone {
            return Places::Alone(DisjointParts::new(room), stride);
        }
        let parts = DisjointParts::new(&mut room[..len]);
        parallel(self.rows, |row| self.row(level, row, &parts));
        Places::Together(room)
    }

    /// The values for one lane. Where the thread is to compute them itself, this prefetches the adapters.
    pub fn of_lane<'b>(&self, places: &'b Places<'b>, lane: usize) -> LaneLow<'b> {
        match places {
            Places::Together(low) => LaneLow::Computed(low),
            Places::Alone(parts, stride) => {
                self.adapters().filter_map(|adapter| adapter.halves).for_each(|halves| prefetch(&halves.a));
                // SAFETY: the part is the elements `lane * stride..lane * stride + len`, and `stride > len`, so the
                // parts of two lanes do not overlap. `parallel_streams` begins each lane once, so only this thread has
                // this part.
                LaneLow::Later(unsafe { parts.part(lane * stride, self.len()) })
            }
        }
    }

    pub fn compute(&self, level: Level, low: &mut [f32]) {
        let parts = DisjointParts::new(low);
        (0..self.rows).for_each(|row| self.row(level, row, &parts));
    }

    /// The low-rank values of all adapters for one row, each written to its place.
    fn row(&self, level: Level, row: usize, low: &DisjointParts<'_>) {
        let width = self.x.len() / self.rows;
        let x = &self.x[row * width..][..width];
        for (index, first) in self.firsts.into_iter().enumerate() {
            let Some((_, adapter, _)) = self.spans(index, row..row + 1).next() else { continue };
            // SAFETY: row `row` has the elements `row * width..(row + 1) * width`, and projection `index` those of them
            // from `first` on, at least `r`, up to the next projection's `first`. So no two pairs of row and projection
            // overlap, and one thread computes each row, once.
            let low = unsafe { low.part(row * self.width + first, adapter.r) };
            match adapter.halves {
                Some(halves) => dots_half(level, x, &halves.a, low),
                None => dots(level, x, adapter.a, low),
            }
            low.iter_mut().for_each(|low| *low *= adapter.scale);
        }
    }

    /// A buffer for one panel of B in single precision; empty if every B is in half precision.
    pub fn panel(&self) -> Buffer {
        let in_full = self.adapters().filter(|adapter| adapter.halves.is_none());
        Buffer::new(in_full.map(|adapter| adapter.r).max().unwrap_or(0) * BLOCK)
    }
}

impl LaneLow<'_> {
    /// The values; computed at the first call.
    pub fn values(&mut self, compute: impl FnOnce(&mut [f32])) -> &[f32] {
        if let Self::Later(low) = self {
            let low = std::mem::take(low);
            compute(low);
            *self = Self::Computed(low);
        }
        match self {
            Self::Computed(low) => low,
            Self::Later(low) => low,
        }
    }
}

/// Adds to a row the product of `low`, at least `[r]`, with the panel of the adapter's B that begins at `column`. In
/// single precision, this panel is packed in `b`.
pub fn add(level: Level, adapter: &AdapterView<'_>, column: usize, b: &[f32], low: &[f32], row: &mut [f32; BLOCK]) {
    let low = &low[..adapter.r];
    match adapter.halves {
        Some(halves) => add_low_half(level, low, &halves.b[column * adapter.r..], row),
        None => add_low(level, low, b, row),
    }
}

dispatch! {
    /// Adds the product of `low` (`[r]`) with a panel of B (`[r][32]`).
    fn add_low(low: &[f32], b: &[f32], sums: &mut [f32; BLOCK]) = add_low_with
}

dispatch! {
    /// As [`add_low`], in half precision.
    fn add_low_half(low: &[f32], b: &[F16], sums: &mut [f32; BLOCK]) = add_low_with
}

#[inline(always)]
fn add_low_with<S: Simd, T: Number>(simd: S, low: &[f32], b: &[T], sums: &mut [f32; BLOCK]) {
    let (mut left, mut right) = (simd.splat(0.0), simd.splat(0.0));
    for (low, b) in low.iter().zip(b.as_chunks::<BLOCK>().0) {
        let low = simd.splat(*low);
        left = simd.fma(low, T::load(simd, b), left);
        right = simd.fma(low, T::load(simd, &b[LANES..]), right);
    }
    simd.store(simd.add(simd.load(sums), left), sums);
    simd.store(simd.add(simd.load(&sums[LANES..]), right), &mut sums[LANES..]);
}
