//! What the process does with memory that tensors have freed.

/// Tells the system's allocator to keep freed memory for the next tensor rather than give it back at once.
///
/// A model's intermediate tensors are megabytes each. glibc maps every such block anew and unmaps it when it is freed, so
/// each operation pays for page faults again. A program
/// that owns its process calls this once at its start; elsewhere than on Linux with glibc it does nothing. The process
/// then holds on to its peak until it ends.
///
/// Source: `mallopt(3)`, `M_MMAP_MAX` and `M_TRIM_THRESHOLD`.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: mallopt takes two integers, touches no memory of ours, and may be called at any time from any thread;
        // a parameter that it refuses (it returns 0) leaves the allocator as it was.
        #[allow(unsafe_code)]
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
            libc::mallopt(libc::M_TOP_PAD, 64 << 20);
        }
    }
}
