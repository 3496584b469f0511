//! What a process has used, from /proc.

use anyhow::Context;

/// User and system time so far, in milliseconds.
pub(super) fn cpu_ms(process: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).context("the control plane has ended")?;
    // The name in parentheses may contain anything.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
    let (user, system) = ticks(11).zip(ticks(12)).context("an unknown form of /proc/PID/stat")?;
    // SAFETY: sysconf only reads.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    Ok((user + system) * 1000.0 / per_second)
}

/// Resident memory in bytes.
pub(super) fn memory(process: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).context("the control plane has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc/PID/status")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().context("an unknown form of VmRSS")?;
    Ok(kilobytes * 1024.0)
}
