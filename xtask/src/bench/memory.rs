//! How much memory the supervisors of one session take.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    contender::{Contender, Writes},
    ground::Ground,
    lab::Lab,
};
use crate::process;

/// Long enough that every helper process is up and idle.
const SETTLE: Duration = Duration::from_millis(1500);
/// The session must not outlive a measurement that failed.
const SLEEP_SECONDS: &str = "20";
/// The slowest contender starts within a second; beyond this it hangs.
const START_WAIT: Duration = Duration::from_secs(10);
/// How often to look whether the command has started.
const POLL: Duration = Duration::from_millis(50);
/// The command of the one session.
const WORKLOAD: &str = "sleep";
/// Commands in sessions, which are not part of the supervisors.
const COMMANDS: [&str; 2] = [WORKLOAD, "sh"];

/// Sums the proportional set sizes, in megabytes, of all processes of a sleeping session but the
/// sleeping command itself; see proc_pid_smaps(5).
pub(super) fn supervisors_mb(contender: &Contender, lab: &Lab) -> Result<f64> {
    let folder = lab.ground(Ground::Build)?;
    let command = contender.command(&folder, &[WORKLOAD, SLEEP_SECONDS], Writes::Nothing);
    let mut command = lab.prepare(command, &folder);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command
        .spawn()
        .with_context(|| format!("`{}` could not be started", process::describe(&command)))?;
    let sum = wait_for_workload(child.id()).and_then(|()| {
        thread::sleep(SETTLE);
        sum_mb(&[child.id()])
    });
    for pid in family(&[child.id()])?.into_keys() {
        if let Some(pid) = i32::try_from(pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            // One that has ended meanwhile needs no signal.
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
    }
    drop(child.wait());
    sum
}

fn wait_for_workload(root: u32) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < START_WAIT {
        if family(&[root])?.values().any(|name| name == WORKLOAD) {
            return Ok(());
        }
        thread::sleep(POLL);
    }
    bail!(
        "the command did not start within {} s",
        START_WAIT.as_secs()
    )
}

/// Sums the same over the families of several processes.
pub(super) fn sum_mb(roots: &[u32]) -> Result<f64> {
    let mut kilobytes = 0.0;
    for (pid, name) in family(roots)? {
        if !COMMANDS.contains(&&*name) {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
            let text = text.with_context(|| {
                format!("the memory of process {pid} (`{name}`) cannot be read; measure as root")
            })?;
            kilobytes += pss_kb(&text).with_context(|| format!("process {pid} has no `Pss`"))?;
        }
    }
    Ok(kilobytes / 1024.0)
}

fn pss_kb(rollup: &str) -> Option<f64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processes and everything they started: process id to name.
fn family(roots: &[u32]) -> Result<BTreeMap<u32, String>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")
        .context("`/proc` cannot be read")?
        .flatten()
    {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        processes.extend(parse_stat(&stat));
    }
    let mut members: BTreeSet<u32> = roots.iter().copied().collect();
    loop {
        let children = processes
            .iter()
            .filter(|(pid, parent, _)| members.contains(parent) && !members.contains(pid));
        let children: Vec<u32> = children.map(|(pid, ..)| *pid).collect();
        if children.is_empty() {
            break;
        }
        members.extend(children);
    }
    Ok(processes
        .into_iter()
        .filter(|(pid, ..)| members.contains(pid))
        .map(|(pid, _, name)| (pid, name))
        .collect())
}

/// Reads process id, parent and name from proc_pid_stat(5); the name may hold anything.
fn parse_stat(stat: &str) -> Option<(u32, u32, String)> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let parent = rest.split_whitespace().nth(1)?;
    Some((pid.parse().ok()?, parent.parse().ok()?, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_is_read() {
        assert_eq!(
            parse_stat("12 (a) b) S 7 12 12 0"),
            Some((12, 7, "a) b".into()))
        );
        assert_eq!(parse_stat("garbage"), None);
    }

    #[test]
    fn the_proportional_size_is_read() {
        assert_eq!(
            pss_kb("00400000-7ff rollup\nRss:  900 kB\nPss:   345 kB\nPss_Dirty: 1 kB\n"),
            Some(345.0)
        );
        assert_eq!(pss_kb("Rss: 1 kB"), None);
    }

    #[test]
    fn a_bare_command_has_no_supervisor() {
        let megabytes = supervisors_mb(&Contender::Bare, &Lab::for_test()).unwrap();
        assert!(megabytes.abs() < f64::EPSILON, "{megabytes}");
    }
}
