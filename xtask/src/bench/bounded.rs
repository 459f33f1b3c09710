//! Runs a program for a limited time, so that one that hangs costs a sample and not the run.

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::process;

/// Longer than any sample on a busy machine; what takes longer hangs.
pub(super) const SAMPLE_LONGEST: Duration = Duration::from_mins(1);

/// Runs a program to its successful end; returns what it printed and how long it took.
///
/// # Errors
/// If it cannot be started, fails, or does not end within [`SAMPLE_LONGEST`]; its process group is
/// then killed.
pub(super) fn run(command: &mut Command) -> Result<(String, Duration)> {
    run_within(command, SAMPLE_LONGEST)
}

/// The same with another longest time.
///
/// # Errors
/// As [`run`].
pub(super) fn run_within(command: &mut Command, longest: Duration) -> Result<(String, Duration)> {
    let (output, took) = within(command, longest)?;
    if !output.status.success() {
        bail!(
            "`{}` ended with {}: {}",
            process::describe(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let text = String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` did not print text", process::describe(command)))?;
    Ok((text, took))
}

fn within(command: &mut Command, longest: Duration) -> Result<(Output, Duration)> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let start = Instant::now();
    let child = command
        .spawn()
        .with_context(|| format!("`{}` could not be started", process::describe(command)))?;
    let group = group_of(&child)?;
    let (ended, end) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        let late = end.recv_timeout(longest) == Err(RecvTimeoutError::Timeout);
        if late {
            kill(group);
        }
        late
    });
    let output = child.wait_with_output();
    let took = start.elapsed();
    drop(ended);
    if watch.join().unwrap_or(false) {
        bail!(
            "`{}` did not end within {} s",
            process::describe(command),
            longest.as_secs_f64()
        );
    }
    let output = output
        .with_context(|| format!("`{}` could not be waited for", process::describe(command)))?;
    Ok((output, took))
}

/// Returns the process group of a child that was started as the leader of one.
pub(super) fn group_of(child: &Child) -> Result<Pid> {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .context("a process has a number")
}

/// Kills what is left of a process group that we started.
pub(super) fn kill(group: Pid) {
    // A group that has ended meanwhile needs no signal.
    kill_process_group(group, Signal::KILL).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_killed_and_named() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & sleep 60"]);
        let start = Instant::now();
        let error = within(&mut command, Duration::from_millis(100)).unwrap_err();
        assert!(
            error.to_string().contains("did not end within 0.1 s"),
            "{error}"
        );
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn text_and_time_come_back_and_a_failure_says_why() {
        let (text, took) = run(Command::new("sh").args(["-c", "echo x"])).unwrap();
        assert_eq!(text, "x\n");
        assert!(took > Duration::ZERO);
        let error = run(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert!(
            error.to_string().ends_with("exit status: 3: why"),
            "{error}"
        );
    }
}
