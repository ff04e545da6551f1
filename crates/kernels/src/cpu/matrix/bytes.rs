//! The memory of packed weights.

use std::alloc::Layout;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Bytes of a packed matrix, zero at first, at an address that is a multiple of [`LINE`].
///
/// A token reads every weight once. In pages of 4 KiB the processor must look up an address for every 64 cache lines; in
/// huge pages for every 32,768. Most Linux systems give huge pages only to memory that asks for them, at an address of
/// their own multiple, and a small model's matrices are smaller than one. So matrices are cut one after another from
/// large regions, each of which asks once. Where there are no huge pages, this is ordinary memory.
///
/// Source: `madvise(2)`, `MADV_HUGEPAGE`; Linux, `Documentation/admin-guide/mm/transhuge.rst`.
#[derive(Debug)]
pub struct Bytes {
    region: Arc<Region>,
    start: usize,
    len: usize,
}

/// Memory from which pieces are cut. It is returned to the system when the last piece is gone; a piece that is gone
/// earlier is not used again.
#[derive(Debug)]
struct Region {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a `Region` owns its memory, and nothing reads or writes that memory through the region itself. `Bytes` does,
// each its own piece, by Rust's rules for a slice that it owns.
unsafe impl Send for Region {}
// SAFETY: as above; a shared `Region` gives access to nothing.
unsafe impl Sync for Region {}

/// A cache line, in bytes.
const LINE: usize = 64;

/// A huge page of the processors that have them, in bytes.
const HUGE_PAGE: usize = 2 << 20;

/// The size of a region for several matrices, in bytes. Only what is used of it takes memory.
const REGION: usize = 32 << 20;

/// The region that the next matrix is cut from, and how much of it is used.
static OPEN: Mutex<(Weak<Region>, usize)> = Mutex::new((Weak::new(), 0));

impl Bytes {
    /// `len` bytes, all zero.
    pub fn zeroed(len: usize) -> Self {
        let taken = len.next_multiple_of(LINE);
        if taken > REGION / 4 {
            return Self { region: Arc::new(Region::new(taken)), start: 0, len };
        }
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let found = open.0.upgrade().filter(|region| region.layout.size() - open.1 >= taken);
        let region = found.unwrap_or_else(|| {
            let region = Arc::new(Region::new(REGION));
            *open = (Arc::downgrade(&region), 0);
            region
        });
        let start = open.1;
        open.1 += taken;
        Self { region, start, len }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `zeroed` cut `start..start + len` from the region, which is that long, is initialised (with zeros) and
        // lives as long as `self`. The piece was given to no other `Bytes`, so `&self` borrows all that can write it.
        unsafe { std::slice::from_raw_parts(self.region.start.add(self.start).as_ptr(), self.len) }
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` borrows the one way to these bytes.
        unsafe { std::slice::from_raw_parts_mut(self.region.start.add(self.start).as_ptr(), self.len) }
    }
}

impl Region {
    /// A region of `len` bytes, all zero.
    fn new(len: usize) -> Self {
        let layout = Layout::from_size_align(len.max(1), HUGE_PAGE).expect("weights: more bytes than an address has");
        let start = Self::allocate(layout).unwrap_or_else(|| std::alloc::handle_alloc_error(layout));
        Self { start, layout }
    }

    /// Maps pages, which the system clears when they are first used. An allocator would clear all of them at once, before
    /// they could ask to be huge.
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    fn allocate(layout: Layout) -> Option<NonNull<u8>> {
        let mapped = layout.size().checked_add(layout.align())?;
        // SAFETY: without an address and a file, `mmap` makes a new mapping that overlaps nothing. `munmap` returns the
        // parts of it before and after the aligned region, whole pages that nothing uses. `madvise` with this advice
        // changes no content. What these three refuse is reported by their result.
        unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let start = libc::mmap(std::ptr::null_mut(), mapped, protection, flags, -1, 0);
            if start == libc::MAP_FAILED {
                return None;
            }
            let before = start.addr().next_multiple_of(layout.align()) - start.addr();
            let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            let end = before + layout.size().next_multiple_of(page);
            let aligned = start.byte_add(before);
            if before > 0 {
                libc::munmap(start, before);
            }
            if mapped > end {
                libc::munmap(start.byte_add(end), mapped - end);
            }
            libc::madvise(aligned, layout.size(), libc::MADV_HUGEPAGE);
            NonNull::new(aligned.cast())
        }
    }

    #[cfg(not(all(target_os = "linux", target_env = "gnu", not(miri))))]
    fn allocate(layout: Layout) -> Option<NonNull<u8>> {
        // SAFETY: the layout's size is not zero.
        NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `allocate` made this memory with this layout, and no piece of it is left: each one holds the region.
        #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.layout.size());
        }
        // SAFETY: as above.
        #[cfg(not(all(target_os = "linux", target_env = "gnu", not(miri))))]
        unsafe {
            std::alloc::dealloc(self.start.as_ptr(), self.layout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_zero_aligned_and_each_its_own() {
        let mut held: Vec<(u8, Bytes)> = Vec::new();
        for (number, len) in [0, 1, 63, 64, 65, 5000, REGION / 4, REGION / 4 + 1, 1000, 7, 3].into_iter().enumerate() {
            let mut bytes = Bytes::zeroed(len);
            assert_eq!((bytes.len(), bytes.as_ptr().addr() % LINE), (len, 0));
            assert!(bytes.iter().all(|&byte| byte == 0));
            bytes.fill(number as u8 + 1);
            held.push((number as u8 + 1, bytes));
            if number % 3 == 2 {
                held.remove(number / 3);
            }
        }
        for (number, bytes) in held {
            assert!(bytes.iter().all(|&byte| byte == number));
        }
    }

    #[test]
    fn threads_cut_pieces_at_the_same_time() {
        std::thread::scope(|scope| {
            for number in 1..=4u8 {
                scope.spawn(move || {
                    for len in [100, 3000, 70] {
                        let mut bytes = Bytes::zeroed(len);
                        assert!(bytes.iter().all(|&byte| byte == 0));
                        bytes.fill(number);
                        assert!(bytes.iter().all(|&byte| byte == number));
                    }
                });
            }
        });
    }
}
