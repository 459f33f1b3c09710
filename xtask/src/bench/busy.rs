//! Keeps every core busy while something is measured.

use std::{
    process::{Child, Command, Stdio},
    thread::available_parallelism,
};

use anyhow::{Context, Result};

/// What else the machine does during a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    Idle,
    /// Each core has one more process that always wants to run.
    Busy,
}

impl Load {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Busy => "busy",
        }
    }
}

/// Returns how many processes wanted to run in the last minute (proc_loadavg(5)), before a row adds its own.
pub(super) fn load_average() -> Option<String> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next().map(str::to_owned)
}

/// Processes that only count; dropping it ends them.
#[derive(Debug)]
pub(super) struct Spinners(Vec<Child>);

impl Spinners {
    /// Starts as many as the load asks for.
    pub(super) fn start(load: Load) -> Result<Self> {
        let count = match load {
            Load::Idle => 0,
            Load::Busy => available_parallelism().map_or(1, std::num::NonZero::get),
        };
        let mut spinners = Self(Vec::new());
        for _ in 0..count {
            let child = Command::new("sh")
                .args(["-c", "while :; do :; done"])
                .stdin(Stdio::null())
                .spawn()
                .context("a process that keeps a core busy could not be started")?;
            spinners.0.push(child);
        }
        Ok(spinners)
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that is gone keeps no core busy.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_a_number() {
        let load = load_average().and_then(|load| load.parse::<f64>().ok());
        assert!(load.is_some_and(|load| load >= 0.0), "{load:?}");
    }

    #[test]
    fn there_is_one_for_each_core_and_none_afterwards() {
        assert!(Spinners::start(Load::Idle).unwrap().0.is_empty());
        let spinners = Spinners::start(Load::Busy).unwrap();
        let pids: Vec<u32> = spinners.0.iter().map(Child::id).collect();
        assert_eq!(pids.len(), available_parallelism().unwrap().get());
        drop(spinners);
        for pid in pids {
            assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        }
    }
}
