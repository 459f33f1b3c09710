//! Keys that are signals inside: if an agent without a shell of its own stops (Ctrl-Z), we stop
//! too, and if a person interrupts it (Ctrl-C), our caller sees an interrupt.

use std::{
    fs,
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal, kill_current_process_group, kill_process_group},
    termios::{LocalModes, SpecialCodeIndex, tcgetattr, tcgetpgrp, tcgetsid},
};
use signal_hook::consts::{SIGCONT, SIGINT};
use stockade_types::ignored;

/// How long our own stop may take; the time in which we are stopped counts too. A busy machine
/// takes a few milliseconds.
const STOP_PATIENCE: Duration = Duration::from_secs(1);
/// Time between two checks whether we were resumed: too short for a person to notice.
const STOP_LOOK: Duration = Duration::from_millis(5);

/// Whether the terminal behind `master` turns one of these bytes into an interrupt.
pub fn interrupts(master: BorrowedFd<'_>, bytes: &[u8]) -> bool {
    let Ok(modes) = tcgetattr(master) else {
        return false;
    };
    let key = modes.special_codes[SpecialCodeIndex::VINTR];
    modes.local_modes.contains(LocalModes::ISIG) && bytes.contains(&key)
}

/// Ends this process as an interrupt does, so that shells leave their loops. With `whole_group` it
/// also interrupts our whole process group, as the terminal would have done if the key had been for
/// it.
pub fn end_interrupted(whole_group: WholeGroup) {
    if whole_group == WholeGroup::Yes {
        ignored(
            kill_current_process_group(Signal::INT),
            "there is one: ours",
        );
    }
    ignored(
        signal_hook::low_level::emulate_default_handler(SIGINT),
        "it fails only for signals that do not exist",
    );
}

/// Whether our process group is interrupted with us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WholeGroup {
    /// It has not received the interrupt.
    Yes,
    /// It has received it already, or the person did not mean it.
    No,
}

/// Returns the foreground process group, if the agent has stopped and no process inside can resume
/// it: the agent or the session leader leads the group, so no job-control shell is between.
///
/// `agent` is the process whose stop counts, if it is not the session leader itself. The kernel
/// ignores the stop of a group whose parents are all in other sessions (setpgid(2), orphaned
/// groups), so Ctrl-Z needs an agent in a group of its own below a parent in the same session.
pub fn stopped_group(master: BorrowedFd<'_>, agent: Option<Pid>) -> Option<Pid> {
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
/// group without a shell above it the kernel ignores the signal, and this returns soon.
pub fn suspend_ourselves() {
    let resumed = Arc::new(AtomicBool::new(false));
    let handler = signal_hook::flag::register(SIGCONT, Arc::clone(&resumed));
    ignored(
        kill_current_process_group(Signal::TSTP),
        "it fails only for a signal or a group that does not exist",
    );
    // Any thread may take the signal: this one can run for a moment before all are stopped, and
    // must not wake the agent in that time.
    let sent = Instant::now();
    while !resumed.load(Ordering::Acquire) && sent.elapsed() < STOP_PATIENCE {
        std::thread::sleep(STOP_LOOK);
    }
    if let Ok(handler) = handler {
        signal_hook::low_level::unregister(handler);
    }
}

/// Resumes the agent's group; programs that support Ctrl-Z then draw again.
pub fn resume(group: Pid) {
    ignored(
        kill_process_group(group, Signal::CONT),
        "the group may be gone by now, which is as good",
    );
}
