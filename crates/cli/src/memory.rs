//! The allocator.

use std::ptr;

/// Gives memory that nothing uses back to the system now, not when it has been unused for a while.
pub(crate) fn purge() {
    /// `MALLCTL_ARENAS_ALL`.
    const NAME: &[u8] = b"arena.4096.purge\0";
    // SAFETY: the name ends with NUL; the command reads nothing and writes nothing of ours.
    let result = unsafe {
        tikv_jemalloc_sys::mallctl(NAME.as_ptr().cast(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), 0)
    };
    if result != 0 {
        tracing::warn!(result, "the heap cannot be shrunk");
    }
}
