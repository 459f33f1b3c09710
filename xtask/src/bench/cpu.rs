//! CPU time of what we started.

use std::fs;

use anyhow::{Context, Result};

/// What proc_pid_stat(5) counts in: `sysconf(_SC_CLK_TCK)` is 100 on every Linux that we build for.
const TICK_MS: f64 = 10.0;
/// Fields after the name, from `state`: user and system time of children that were waited for.
const CHILDREN_USER: usize = 13;

/// Returns the CPU time of all children that have ended and been waited for, and of theirs, in
/// milliseconds with a step of 10.
pub(super) fn of_children_ms() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat").context("`/proc/self/stat` cannot be read")?;
    ticks(&stat)
        .map(|ticks| ticks * TICK_MS)
        .context("`/proc/self/stat` has no times of children")
}

fn ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split_whitespace().skip(CHILDREN_USER);
    let user: f64 = times.next()?.parse().ok()?;
    let system: f64 = times.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_children_are_the_sixteenth_and_seventeenth_field() {
        let stat = "1 (a) b) S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18";
        assert_eq!(ticks(stat), Some(33.0));
        assert_eq!(ticks("1 (a) S 4"), None);
    }
}
