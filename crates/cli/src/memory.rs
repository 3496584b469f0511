//! The allocator, and what a process keeps of its memory.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

/// Read by jemalloc before `main`. Unused memory goes back to the system within seconds also while nothing is
/// allocated, which takes a thread; with huge pages every arena would take 2 MB at once.
// SAFETY: a reference to the first byte of a text that ends with NUL is what jemalloc reads.
#[unsafe(export_name = "_rjem_malloc_conf")]
static SETTINGS: &c_char = unsafe {
    &*c"background_thread:true,max_background_threads:1,dirty_decay_ms:2000,muzzy_decay_ms:0,thp:never".as_ptr()
};

/// Gives memory that nothing uses back to the system now: heap, and what of the program is only needed at start.
pub(crate) fn shrink() {
    purge();
    // SAFETY: the callback has the type that is asked for, and takes no data.
    unsafe { libc::dl_iterate_phdr(Some(unload), ptr::null_mut()) };
}

/// What this thread keeps for its next allocations, then the unused pages of all.
fn purge() {
    /// The number is `MALLCTL_ARENAS_ALL`.
    const COMMANDS: [&CStr; 2] = [c"thread.tcache.flush", c"arena.4096.purge"];
    for command in COMMANDS {
        // SAFETY: the commands read nothing and write nothing of ours.
        let result = unsafe {
            tikv_jemalloc_sys::mallctl(command.as_ptr(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), 0)
        };
        if result != 0 {
            tracing::warn!(result, ?command, "the heap cannot be shrunk");
        }
    }
}

/// Unmaps the pages of one module that are as they are in its file; those that are used come back from the page cache.
unsafe extern "C" fn unload(module: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    const PAGE: u64 = 4096;
    // SAFETY: the loader describes a module that is loaded. Segments that are not writable were not changed, not even
    // by relocations, so that the file has all there is to know of their pages.
    unsafe {
        let module = &*module;
        for index in 0..usize::from(module.dlpi_phnum) {
            let segment = &*module.dlpi_phdr.add(index);
            if segment.p_type != libc::PT_LOAD || segment.p_flags & libc::PF_W != 0 {
                continue;
            }
            let begin = (module.dlpi_addr + segment.p_vaddr).next_multiple_of(PAGE);
            let end = (module.dlpi_addr + segment.p_vaddr + segment.p_memsz) / PAGE * PAGE;
            if begin < end {
                // What stays is no harm.
                libc::madvise(begin as *mut c_void, (end - begin) as usize, libc::MADV_DONTNEED);
            }
        }
    }
    0
}
