//! What the kernel counts of a process.

use std::fs;

use anyhow::{Context, Result};

/// Memory of a process in bytes.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident now.
    pub resident_bytes: u64,
    /// Resident at most so far.
    pub peak_bytes: u64,
}

/// Memory of the process `pid`.
pub fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next());
        let kib = kib.with_context(|| format!("{path} has no {name}"))?;
        Ok(kib.parse::<u64>().with_context(|| format!("{name} {kib}"))? * 1024)
    };
    Ok(Memory { resident_bytes: field("VmRSS:")?, peak_bytes: field("VmHWM:")? })
}

/// CPU time that the process `pid` has used so far, all its threads together, in seconds (in steps of 10 ms).
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    /// What `sysconf(_SC_CLK_TCK)` is on every Linux that Rust runs on.
    const TICKS_PER_SECOND: f64 = 100.0;
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    // The second field, the program's name, may hold spaces; it ends at the last parenthesis.
    let (_, fields) = stat.rsplit_once(')').with_context(|| format!("{path}: {stat}"))?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    match (ticks.next(), ticks.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok((user + system) as f64 / TICKS_PER_SECOND),
        _ => anyhow::bail!("{path}: no CPU times in {stat}"),
    }
}

/// The one-minute load of the machine, to be noted beside results.
pub fn load() -> Result<String> {
    let words = fs::read_to_string("/proc/loadavg").context("reading /proc/loadavg")?;
    Ok(words.split_whitespace().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_memory_and_cpu_time() {
        let own = std::process::id();
        let memory = memory(own).unwrap();
        assert!(memory.resident_bytes > 100_000 && memory.peak_bytes >= memory.resident_bytes, "{memory:?}");
        let before = cpu_seconds(own).unwrap();
        let mut sum = 0_u64;
        while cpu_seconds(own).unwrap() - before < 0.02 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(load().unwrap().parse::<f64>().is_ok());
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(memory(u32::MAX).is_err());
        assert!(cpu_seconds(u32::MAX).is_err());
    }
}
