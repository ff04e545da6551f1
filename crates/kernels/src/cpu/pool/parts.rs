//! Buffers that several threads write at once.

use super::parallel;

/// Gives out disjoint parts of one buffer, so that several threads can write to it at once.
pub struct DisjointParts<'a, T = f32> {
    start: *mut T,
    len: usize,
    buffer: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: a `DisjointParts` gives access to elements only through `part`, whose caller promises that no two parts in use at the
// same time overlap. So at any time at most one thread accesses an element. `T: Send` allows that thread to be another
// one than the owner of the buffer.
unsafe impl<T: Send> Sync for DisjointParts<'_, T> {}

impl<'a, T> DisjointParts<'a, T> {
    pub fn new(buffer: &'a mut [T]) -> Self {
        Self { start: buffer.as_mut_ptr(), len: buffer.len(), buffer: std::marker::PhantomData }
    }

    /// The elements `start..start + len`.
    ///
    /// # Panics
    /// When they are not in the buffer.
    ///
    /// # Safety
    /// No other part that contains one of the elements `start..start + len` is in use while this one is.
    #[allow(clippy::mut_from_ref)]
    #[inline(always)]
    pub unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "part: outside the buffer");
        // SAFETY: the assertion keeps `start..start + len` within the buffer of `self.len` elements, which is borrowed
        // mutably for `'a`. The caller promises that no other part in use overlaps this range.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

/// Calls `run` on all threads with every chunk of `len` elements of `buffer` (the last may be shorter) and the chunk's
/// index.
pub fn parallel_chunks<T: Send>(buffer: &mut [T], len: usize, run: impl Fn(usize, &mut [T]) + Sync) {
    let total = buffer.len();
    let parts = DisjointParts::new(buffer);
    parallel(total.div_ceil(len.max(1)), |index| {
        let start = index * len;
        // SAFETY: chunk `index` is the elements `index * len..(index + 1) * len`, cut at the end of `buffer`. Chunks of
        // different indices do not overlap, and `parallel` calls each index once, so one thread at most has a chunk.
        run(index, unsafe { parts.part(start, len.min(total - start)) });
    });
}
