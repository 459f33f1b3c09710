//! Process 1 of a session: it reaps, forwards signals, and takes everything down when it ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use stockade_types::ignored;

use rustix::event::{PollFd, PollFlags};
use rustix::process::Pid;
use stockade_plan::{CallSet, Debuggers};
use stockade_sys::{
    Outcome, SysError, capability, fd, identity,
    process::{self, Ended, Fork, Parentage, WaitMode, Waited},
};

use super::{Flow, State, confine};
use crate::binder;
use crate::message::{Exit, FromChild, FromParent, receive, send};

/// Forks the command's process. The child continues with the plan; this process becomes the
/// session's first process permanently.
pub(super) fn start_command(state: &mut State) -> Outcome<Flow> {
    let signals = process::child_signal_fd()?;
    match process::fork(Parentage::Own)? {
        Fork::Child => Ok(Flow::Next),
        Fork::Parent(pid) => {
            state.let_go();
            Ok(Flow::Exit(watch(state, pid, &signals)))
        }
    }
}

/// Exit code of a first process that could not confine itself; the session ends with it.
const EXIT_UNCONFINED: i32 = 125;

fn watch(state: &State, command: Pid, signals: &OwnedFd) -> i32 {
    let control = state.control.as_fd();
    let raw = command.as_raw_nonzero().get();
    if confine_self(state).is_err() || send(control, &FromChild::Command { pid: raw }, &[]).is_err()
    {
        return EXIT_UNCONFINED;
    }
    let mut binder = state.binder.as_ref();
    loop {
        let Ok([from_parent, from_kernel, address]) = wait(control, signals, binder) else {
            return EXIT_UNCONFINED;
        };
        if from_kernel {
            drain(signals);
            match reap_all(command) {
                Ok(None) => {}
                Ok(Some(exit)) => {
                    // This message gives the supervisor the result; everything else in the
                    // namespace dies with this process.
                    ignored(
                        send(control, &FromChild::Ended { exit }, &[]),
                        "a supervisor that is gone has ended the session",
                    );
                    return 0;
                }
                Err(_) => return EXIT_UNCONFINED,
            }
        }
        if address && !binder.is_some_and(binder::serve) {
            // No requester is left; the supervisor itself is on the other channel.
            binder = None;
        }
        if from_parent && !obey(control, command) {
            return EXIT_UNCONFINED;
        }
    }
}

/// Waits for the supervisor, the kernel, or a request to the binder; returns which of them is
/// ready.
fn wait(
    control: BorrowedFd<'_>,
    signals: &OwnedFd,
    binder: Option<&OwnedFd>,
) -> rustix::io::Result<[bool; 3]> {
    let mut fds = vec![
        PollFd::new(&control, PollFlags::IN),
        PollFd::new(signals, PollFlags::IN),
    ];
    fds.extend(binder.map(|binder| PollFd::new(binder, PollFlags::IN)));
    match rustix::event::poll(&mut fds, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno),
    }
    let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
    Ok([ready(0), ready(1), ready(2)])
}

/// Removes from process 1 itself the privileges that the command loses too.
fn confine_self(state: &State) -> Outcome<()> {
    // Its standard streams are the command's; if they stayed open here, a pipe would never end.
    fd::replace_standard_streams()?;
    identity::forbid_inspection()?;
    confine::drop_capabilities()?;
    capability::set_no_new_privileges()?;
    let set = CallSet {
        debuggers: Debuggers::None,
        namespaces: false,
        notify: false,
        root: false,
    };
    confine::filter_calls(set, state.control.as_fd())
}

fn drain(signals: &OwnedFd) {
    let mut buffer = [0_u8; 1024];
    while rustix::io::read(signals, &mut buffer).is_ok_and(|count| count > 0) {}
}

/// Reaps every ended process; returns how the command ended if it was among them.
fn reap_all(command: Pid) -> Outcome<Option<Exit>> {
    loop {
        match process::reap(None, WaitMode::Poll)? {
            Waited::NoneEnded => return Ok(None),
            Waited::NoChildren => {
                return Err(SysError::new(
                    "wait",
                    std::io::Error::other("the command was lost"),
                ));
            }
            Waited::Child(pid, ended) if pid == command => {
                return Ok(Some(match ended {
                    Ended::Code(code) => Exit::Code(code),
                    Ended::Signal(signal) => Exit::Signal(signal),
                }));
            }
            Waited::Child(..) => {}
        }
    }
}

/// Carries out an order of the supervisor; `false` when the supervisor is gone.
fn obey(control: BorrowedFd<'_>, command: Pid) -> bool {
    match receive::<FromParent>(control) {
        Ok(Some((FromParent::Signal { number }, _))) => {
            ignored(
                process::kill_group(command, number),
                "a command that just ended is reported by the next SIGCHLD",
            );
            true
        }
        Ok(Some((FromParent::Go | FromParent::Plan { .. }, _))) => true,
        Ok(None) | Err(_) => false,
    }
}
