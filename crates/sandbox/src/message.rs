//! The messages between the two halves of a launch over their socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use stockade_plan::StepName;
use stockade_sys::{Outcome, SysError, pass};
use stockade_types::Digest;

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// Why a launch stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("step `{step}`{} failed: {reason}", index.map(|i| format!(" ({i})")).unwrap_or_default())]
pub struct LaunchFailure {
    /// The step.
    pub step: StepName,
    /// Its place in the plan.
    pub index: Option<usize>,
    /// The error with its causes.
    pub reason: String,
    /// The kernel's error number, if there is one.
    pub errno: Option<i32>,
    /// What a person can do.
    pub remedy: String,
}

/// From `__init` to the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub(crate) enum FromChild {
    /// Write these maps for me.
    Map { uids: Vec<u32>, gids: Vec<u32> },
    /// The first process of the session has this id outside.
    First { pid: i32 },
    /// Descriptors, in this order: a listener per port, the name socket, the socket query, the held
    /// connections, the terminal's master.
    HandOver {
        ports: Vec<u16>,
        names: bool,
        diagnosis: bool,
        held: bool,
        terminal: bool,
    },
    /// The listener of the system call filter; the next call of the command's process goes to it.
    Notifier,
    /// The command's process exists and has this id inside.
    Command { pid: i32 },
    /// The command ended.
    Ended { exit: Exit },
    /// The launch stopped.
    Failed { failure: LaunchFailure },
}

/// From the supervisor to `__init`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub(crate) enum FromParent {
    /// Carry out the plan in the one descriptor, which has this digest.
    Plan { digest: Digest },
    /// Continue. After the hand-over this has one descriptor: the channel to the binder.
    Go,
    /// Send this signal to the command's process group.
    Signal { number: i32 },
}

pub(crate) fn send<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> Outcome<()> {
    let bytes = serde_json::to_vec(message).map_err(|e| SysError::new("encode message", e))?;
    pass::send(socket, &bytes, fds)
}

/// Receives a message; `None` when the other half is gone.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
) -> Outcome<Option<(T, Vec<OwnedFd>)>> {
    let (bytes, fds) = pass::receive(socket)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let message = serde_json::from_slice(&bytes).map_err(|e| SysError::new("decode message", e))?;
    Ok(Some((message, fds)))
}
