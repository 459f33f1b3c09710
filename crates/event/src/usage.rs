//! What processes used of the machine.

use serde::{Deserialize, Serialize};
use stockade_types::Subject;

use crate::text::{bytes, duration, number, safe};

/// What processes used, as far as it is known; a field is missing if it is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Processor time in programs, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_user_us: Option<u64>,
    /// Processor time in the kernel, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_system_us: Option<u64>,
    /// The most memory at one time: of one process its resident memory; of several that of the largest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// Bytes that were read, from files, pipes, terminals and sockets (`rchar`, proc(5)).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_read: Option<u64>,
    /// Bytes that were written to them (`wchar`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_written: Option<u64>,
}

impl Usage {
    /// Adds what another process used. What is not known of it adds nothing, so a total is a lower bound.
    pub fn add(&mut self, other: &Self) {
        let sum = |own: &mut Option<u64>, more: Option<u64>| {
            *own = match (*own, more) {
                (Some(own), Some(more)) => Some(own.saturating_add(more)),
                (own, more) => own.or(more),
            };
        };
        sum(&mut self.cpu_user_us, other.cpu_user_us);
        sum(&mut self.cpu_system_us, other.cpu_system_us);
        sum(&mut self.bytes_read, other.bytes_read);
        sum(&mut self.bytes_written, other.bytes_written);
        self.memory_peak_bytes = self.memory_peak_bytes.max(other.memory_peak_bytes);
    }

    /// Returns all processor time, in microseconds.
    pub fn cpu_us(&self) -> Option<u64> {
        let user = self.cpu_user_us?;
        Some(user.saturating_add(self.cpu_system_us.unwrap_or_default()))
    }
}

/// Where totals of a session come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measured {
    /// The session's control group, which counts every process.
    ControlGroup,
    /// The processes that executed a program.
    Processes,
}

/// What one line says of an end.
pub(crate) struct Ending<'u> {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) duration_ms: u64,
    pub(crate) usage: &'u Usage,
}

impl Ending<'_> {
    fn text(&self) -> String {
        let how = match (self.code, self.signal) {
            (Some(code), _) => format!("exit {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "ended".to_owned(),
        };
        let mut parts = vec![how, duration(self.duration_ms)];
        parts.extend(used(self.usage));
        parts.join(", ")
    }
}

fn used(usage: &Usage) -> impl Iterator<Item = String> {
    let cpu = usage
        .cpu_us()
        .map(|us| format!("{} of processor", duration(us / 1000)));
    let memory = usage.memory_peak_bytes;
    let memory = memory.map(|peak| format!("{} of memory", bytes(peak)));
    cpu.into_iter().chain(memory)
}

fn counted(processes: u64) -> String {
    let word = if processes == 1 {
        "process"
    } else {
        "processes"
    };
    format!("{} {word}", number(processes))
}

/// Says how and with what a process ended.
pub(crate) fn ended_line(process: &Subject, ending: &Ending<'_>) -> String {
    format!("{}: {}", process.exe, ending.text())
}

/// Says how and with what a command ended.
pub(crate) fn scope_line(scope: &str, processes: u64, ending: &Ending<'_>) -> String {
    format!("{}: {}, {}", safe(scope), counted(processes), ending.text())
}

/// Says what a session uses.
pub(crate) fn sample_line(processes: u64, memory: Option<u64>, usage: &Usage) -> String {
    let now = memory.map(|now| format!("{} in use", bytes(now)));
    let parts = [counted(processes)].into_iter();
    let parts: Vec<String> = parts.chain(now).chain(used(usage)).collect();
    parts.join(", ")
}
