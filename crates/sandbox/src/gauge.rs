//! What the cgroups of a session say it uses.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Reads the cgroups of a session as long as they exist.
#[derive(Clone, Debug)]
pub struct Gauge(pub(crate) Vec<PathBuf>);

/// What they say; a field is missing if no group counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Memory in use, in bytes; caches of files count.
    pub memory_bytes: Option<u64>,
    /// The most memory at one time, in bytes.
    pub memory_peak_bytes: Option<u64>,
    /// Processor time in programs, in microseconds.
    pub cpu_user_us: Option<u64>,
    /// Processor time in the kernel, in microseconds.
    pub cpu_system_us: Option<u64>,
}

impl Gauge {
    /// Reads them; `None` if the session has no group that says anything.
    pub fn read(&self) -> Option<Reading> {
        let number = |name: &str| {
            let read = |group: &PathBuf| number(&group.join(name));
            self.0.iter().find_map(read)
        };
        let micros = |name: &str| number(name).map(|nanos| nanos / 1000);
        let reading = Reading {
            memory_bytes: number("memory.usage_in_bytes"),
            memory_peak_bytes: number("memory.max_usage_in_bytes"),
            cpu_user_us: micros("cpuacct.usage_user"),
            cpu_system_us: micros("cpuacct.usage_sys"),
        };
        (reading != Reading::default()).then_some(reading)
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}
