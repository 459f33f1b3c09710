//! Figures of processes, and of times that were measured.

use std::{
    fs,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// What proc_pid_stat(5) counts in: `sysconf(_SC_CLK_TCK)` is 100 on every Linux that we build for.
const TICK_MS: u64 = 10;

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time.
    pub cpu_ms: u64,
    /// Memory now, in KiB.
    pub resident_kib: u64,
    /// The most that it was, in KiB.
    pub peak_kib: u64,
}

impl Usage {
    /// Reads it.
    pub fn of(pid: u32) -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
        let (stat, status) = (read("stat"), read("status"));
        let (stat, status) = (stat.expect("the process"), status.expect("the process"));
        let (_, fields) = stat.rsplit_once(") ").expect("a name");
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = times.map(|one| one.parse::<u64>().expect("a time")).sum();
        let memory = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            kib.unwrap_or_default()
        };
        Self {
            cpu_ms: ticks * TICK_MS,
            resident_kib: memory("VmRSS:"),
            peak_kib: memory("VmHWM:"),
        }
    }
}

/// Times that were measured.
#[derive(Debug, Default)]
pub struct Times(Mutex<Vec<Duration>>);

impl Times {
    /// Adds one.
    pub fn add(&self, time: Duration) {
        self.lock().push(time);
    }

    /// Adds those of another measurement.
    pub fn join(&self, other: &Self) {
        let others = other.lock().clone();
        self.lock().extend(others);
    }

    /// Returns how many there are.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Returns the time that so many percent of all do not exceed, in milliseconds; 0 if there is none.
    pub fn percentile_ms(&self, percent: usize) -> f64 {
        let mut all = self.lock().clone();
        all.sort_unstable();
        let rank = (all.len() * percent).div_ceil(100).saturating_sub(1);
        all.get(rank).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Duration>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Times, Usage};

    #[test]
    fn a_percentile_is_the_time_that_so_many_do_not_exceed() {
        let times = Times::default();
        assert!(times.percentile_ms(99).abs() < 1e-9);
        for ms in 1..=200 {
            times.add(Duration::from_millis(201 - ms));
        }
        assert!((times.percentile_ms(50) - 100.0).abs() < 1e-9);
        assert!((times.percentile_ms(99) - 198.0).abs() < 1e-9);
        assert!((times.percentile_ms(100) - 200.0).abs() < 1e-9);
    }

    #[test]
    fn a_process_has_memory() {
        let own = Usage::of(std::process::id());
        assert!(own.resident_kib > 100 && own.peak_kib >= own.resident_kib);
    }
}
