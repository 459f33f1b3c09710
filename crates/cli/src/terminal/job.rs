//! Ctrl-Z: an agent that stops without a shell of its own takes us with it.

use std::{fs, os::fd::BorrowedFd};

use rustix::{
    process::{Pid, Signal, kill_current_process_group, kill_process_group},
    termios::{tcgetpgrp, tcgetsid},
};

/// Returns the foreground process group, if the agent has stopped and nobody inside can resume
/// it: the group is led by the agent or by the session leader, so no job-control shell is between.
///
/// `agent` is the process whose stop counts, where it is not the session leader itself. The kernel
/// ignores the stop of a group whose parents are all in other sessions (setpgid(2), orphaned
/// groups), so Ctrl-Z needs an agent in a group of its own below a parent in the same session.
pub(crate) fn stopped_group(master: BorrowedFd<'_>, agent: Option<Pid>) -> Option<Pid> {
    let foreground = tcgetpgrp(master).ok()?;
    let leader = tcgetsid(master).ok()?;
    let process = agent.unwrap_or(leader);
    if foreground != leader && foreground != process {
        return None;
    }
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    let state = stat.rsplit_once(')')?.1.split_whitespace().next()?;
    (state == "T").then_some(foreground)
}

/// Stops our own process group as a Ctrl-Z would, and returns when the shell resumes it. In a
/// group without a shell above it the kernel ignores the signal, and this returns at once.
pub(crate) fn suspend_ourselves() {
    // It only fails for a signal or a group that does not exist.
    kill_current_process_group(Signal::TSTP).ok();
}

/// Lets the agent's group go on and draw again.
pub(crate) fn resume(group: Pid) {
    // The group may be gone by now, which is as good.
    kill_process_group(group, Signal::CONT).ok();
    kill_process_group(group, Signal::WINCH).ok();
}
