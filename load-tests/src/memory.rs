//! The resident memory of a node that runs on this machine, as the kernel counts it.

use std::fs;

use serde::Serialize;

/// Resident memory of a process now, and the most that it ever had, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resident {
    pub(crate) now: u64,
    pub(crate) peak: u64,
}

impl Resident {
    /// Reads it; `None` when the process is gone or the system has no `/proc`.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        parse(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }
}

/// The kernel keeps the peak itself (`VmHWM`), so no moment between two samples is missed.
fn parse(status: &str) -> Option<Resident> {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
        Some(kibibytes * 1024)
    };
    Some(Resident { now: bytes("VmRSS")?, peak: bytes("VmHWM")? })
}

/// The memory of a node over a run, in bytes.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MemoryReport {
    /// After the start, before anything was asked.
    pub(crate) idle: u64,
    /// While the most streams were held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) held: Option<u64>,
    pub(crate) peak: u64,
    /// When all streams were done.
    pub(crate) end: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figures_are_read() {
        let status = "Name:\tpenstock\nVmHWM:\t   39512 kB\nVmRSS:\t   39000 kB\n";
        assert_eq!(parse(status), Some(Resident { now: 39_000 * 1024, peak: 39_512 * 1024 }));
        assert_eq!(parse("Name:\tpenstock\n"), None);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(Resident::of(std::process::id()).is_some_and(|resident| resident.now > 0));
    }
}
