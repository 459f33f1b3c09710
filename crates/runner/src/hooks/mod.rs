//! Hooks of agents: what they tell before and after a tool call, and what they are answered.
//!
//! Agents start `/run/stockade/hook`, which passes on what they tell through a socket. The supervisor
//! records it as a claim, decides about the call, and answers. All of it is the agent's cooperation: a
//! program that the agent runs can start the same program and say anything, and an agent that is made to
//! forget its hooks tells nothing. What a call really does is judged where it does it.

pub(crate) mod claims;
mod client;
pub(crate) mod limits;
pub(crate) mod peers;
mod reply;
mod serve;

use std::{io, os::unix::net::UnixListener, path::Path, sync::Arc};

use stockade_approval::Desk;
use stockade_policy::Policy;
use stockade_supervise::{Processes, Recorder};
use stockade_types::RawText;

use self::{
    limits::{CLIENTS_MAX, STACK_BYTES},
    serve::Service,
};
use crate::inside_socket::{self, Serving, Staff};

pub use client::hook_main;

/// The socket, in the directory that the session sees as `/run/stockade`.
pub(crate) const SOCKET: &str = "hooks";
/// The same, inside.
const PLACE: &str = "/run/stockade/hooks";

/// Tells whether a session has hooks: its agent is told of them, or a rule is about tools.
pub(crate) fn is_wanted(policy: &Policy) -> bool {
    policy.settings().preset.hooks.is_some() || policy.restricts_tools()
}

/// What clients are answered with.
pub(crate) struct Answers {
    pub(crate) policy: Arc<Policy>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) processes: Arc<Processes>,
    /// As the session sees it.
    pub(crate) workspace: RawText,
    pub(crate) abort: Box<dyn Fn(&str) + Send + Sync>,
}

/// Opens the socket in the directory that the session sees.
pub(crate) fn open(inside: &Path) -> io::Result<UnixListener> {
    inside_socket::listen(inside, SOCKET)
}

/// Starts to answer hooks.
pub(crate) fn start(listener: UnixListener, answers: Arc<Answers>) -> io::Result<Serving> {
    let staff = Staff {
        names: ("hooks", "hook"),
        clients_max: CLIENTS_MAX,
        stack_bytes: STACK_BYTES,
    };
    let service = Service::new(answers);
    Serving::start(listener, staff, move |stream| service.answer(stream))
}
