//! What processes cost: CPU time, memory, and who else used their CPU.

use anyhow::Context;
use std::time::{Duration, Instant};

/// CPU time that processes have used up to a moment.
#[derive(Clone, Copy)]
pub struct Sample {
    pub at: Instant,
    /// User and system time of all threads, those that ended included.
    pub cpu: Duration,
    /// Busy time of one CPU, whoever used it, in ticks of 10 ms.
    busy: Duration,
}

impl Sample {
    /// Adds up the processes; `on` is the CPU they are pinned to.
    pub fn take(processes: &[u32], on: usize) -> anyhow::Result<Sample> {
        let cpu = processes.iter().map(|id| cpu_time(*id)).sum::<anyhow::Result<Duration>>()?;
        Ok(Sample { at: Instant::now(), cpu, busy: busy(on)? })
    }

    /// Share of the CPU (0 to 1) that others used between two samples; above a few percent, figures are noisy.
    pub fn foreign(&self, until: &Sample) -> f64 {
        let busy = until.busy.saturating_sub(self.busy).as_secs_f64();
        let own = (until.cpu - self.cpu).as_secs_f64();
        ((busy - own) / (until.at - self.at).as_secs_f64()).clamp(0.0, 1.0)
    }
}

/// User and system time of a process by its CPU clock, which counts nanoseconds where /proc counts ticks.
pub fn cpu_time(id: u32) -> anyhow::Result<Duration> {
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls only write the value behind the pointer given.
    let failed = unsafe {
        libc::clock_getcpuclockid(id as libc::pid_t, &mut clock) != 0 || libc::clock_gettime(clock, &mut time) != 0
    };
    anyhow::ensure!(!failed, "process {id} has ended");
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Time that a CPU was neither idle nor waiting for I/O nor taken away by the hypervisor.
fn busy(cpu: usize) -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let name = format!("cpu{cpu} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name)).with_context(|| format!("no CPU {cpu}"))?;
    let ticks: Vec<u64> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq
    let used = [0, 1, 2, 5, 6].iter().map(|index| ticks.get(*index).copied().unwrap_or(0)).sum::<u64>();
    Ok(Duration::from_millis(used * 10))
}

/// Resident memory of processes in bytes.
pub fn resident(processes: &[u32]) -> u64 {
    let pages = |id: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{id}/statm")).unwrap_or_default();
        text.split(' ').nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
    };
    processes.iter().map(pages).sum::<u64>() * 4096
}

/// Lets the calling thread, and what it starts, run on one CPU only.
pub fn pin(cpu: usize) -> std::io::Result<()> {
    // SAFETY: a zeroed set is an empty one, and the kernel only reads it.
    let outcome = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if outcome == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_uses_cpu_time_and_memory() {
        let own = std::process::id();
        let before = cpu_time(own).expect("own clock");
        let mut sum = 0u64;
        while cpu_time(own).expect("own clock") == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(resident(&[own]) > 100_000);
        assert!(Sample::take(&[own], 0).is_ok());
    }
}
