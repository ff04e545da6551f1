//! How the process handles memory that tensors have freed.

/// Tells the system's allocator to keep freed memory for the next tensors instead of returning it to the system.
///
/// A model's intermediate tensors are megabytes each. By default, glibc maps a block of this size when it is allocated
/// and unmaps it when it is freed, so each operation causes page faults again. A program that owns its process calls
/// this function once at its start. The process then keeps its peak memory until it ends. On systems other than Linux
/// with glibc this function does nothing.
///
/// Source: `mallopt(3)`, `M_MMAP_MAX` and `M_TRIM_THRESHOLD`.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `mallopt` takes two integers, accesses no memory of this program, and may be called at any time from
        // any thread. If it refuses a parameter, it returns 0 and changes nothing.
        #[allow(unsafe_code)]
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
            libc::mallopt(libc::M_TOP_PAD, 64 << 20);
        }
    }
}

/// Bytes of this process's heap that are in use, without what was freed and is kept; `None` where the system does not
/// say.
///
/// Source: `mallinfo2(3)`, `uordblks`.
pub fn heap_in_use() -> Option<usize> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `mallinfo2` takes nothing, returns a plain struct, and may be called at any time from any thread.
        #[allow(unsafe_code)]
        let info = unsafe { libc::mallinfo2() };
        Some(info.uordblks)
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    None
}
