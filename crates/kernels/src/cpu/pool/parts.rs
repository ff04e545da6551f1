//! Buffers that several threads write.

use super::parallel;

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
