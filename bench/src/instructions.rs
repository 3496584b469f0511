//! Instructions that processes execute in user mode: the figure that noise changes least, where the CPU counts it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// What to count, as perf_event_open(2) numbers it: type and config.
type Event = (u32, u64);
const INSTRUCTIONS: Event = (0, 1);

const INHERIT: u64 = 1 << 1;
const EXCLUDE_KERNEL: u64 = 1 << 5;
const EXCLUDE_HYPERVISOR: u64 = 1 << 6;

/// The first published form of `perf_event_attr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    breakpoint_type: u32,
    config1: u64,
}

/// One counter for each thread.
pub struct Counters(Vec<OwnedFd>);

impl Counters {
    /// Counts from now on; nothing where the kernel or the machine does not let us, as in most virtual machines.
    pub fn open(processes: &[u32]) -> Option<Counters> {
        Counters::count(INSTRUCTIONS, processes)
    }

    fn count(event: Event, processes: &[u32]) -> Option<Counters> {
        let mut counters = Vec::new();
        for process in processes {
            for thread in std::fs::read_dir(format!("/proc/{process}/task")).ok()? {
                let thread = thread.ok()?.file_name().to_str()?.parse().ok()?;
                counters.push(open(event, thread).ok()?);
            }
        }
        Some(Counters(counters))
    }

    /// The sum up to now.
    pub fn read(&self) -> u64 {
        let one = |counter: &OwnedFd| {
            let mut bytes = [0; 8];
            // SAFETY: a counter without a read format gives eight bytes.
            let count = unsafe { libc::read(counter.as_raw_fd(), bytes.as_mut_ptr().cast(), 8) };
            if count == 8 { u64::from_ne_bytes(bytes) } else { 0 }
        };
        self.0.iter().map(one).sum()
    }
}

fn open((kind, config): Event, thread: libc::pid_t) -> io::Result<OwnedFd> {
    let size = size_of::<Attributes>() as u32;
    let flags = INHERIT | EXCLUDE_KERNEL | EXCLUDE_HYPERVISOR;
    let attributes = Attributes { kind, size, config, flags, ..Attributes::default() };
    // SAFETY: the kernel reads `size` bytes of the attributes; the descriptor it gives is new and owned by nobody else.
    unsafe {
        let descriptor = libc::syscall(libc::SYS_perf_event_open, &attributes, thread, -1, -1, 0);
        if descriptor < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(descriptor as i32)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The CPU clock in nanoseconds, which every machine counts.
    const CPU_CLOCK: Event = (1, 0);

    #[test]
    fn a_busy_thread_counts() {
        // Where perf is forbidden there is nothing to count with, and runs go without.
        let Some(counters) = Counters::count(CPU_CLOCK, &[std::process::id()]) else { return };
        let before = counters.read();
        let mut sum = 0u64;
        while crate::measure::cpu_time(std::process::id()).expect("own clock").as_millis() < 20 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(counters.read() > before);
    }
}
