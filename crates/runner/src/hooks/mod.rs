//! Hooks of agents: what they tell before and after a tool call, and what they are answered.
//!
//! Agents start `/run/stockade/hook`, which passes on what they tell through a socket. The supervisor
//! records it as a claim, decides about the call, and answers. All of it is the agent's cooperation: a
//! program that the agent runs can start the same program and say anything, and an agent that is made to
//! forget its hooks tells nothing. What a call really does is judged where it does it.

mod claims;
mod client;
mod limits;
mod peers;
mod reply;
mod serve;

use std::{os::unix::net::UnixListener, path::Path, sync::Arc};

use stockade_approval::Desk;
use stockade_policy::Policy;
use stockade_supervise::{Processes, Recorder};
use stockade_types::RawText;

use self::{
    limits::{CLIENTS_MAX, STACK_BYTES},
    serve::Service,
};
use crate::{
    RunError,
    inside_socket::{self, Serving, Staff},
};

pub use client::hook_main;

/// The socket, in the directory that the session sees as `/run/stockade`.
const SOCKET: &str = "hooks";
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

/// The socket of a session's hooks.
pub(crate) struct Hooks(UnixListener);

impl Hooks {
    /// Opens the socket in the directory that the session sees; nothing if no agent is told of hooks
    /// and no rule is about tools.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn open(policy: &Policy, inside: &Path) -> Result<Option<Self>, RunError> {
        if !is_wanted(policy) {
            return Ok(None);
        }
        let listener = inside_socket::listen(inside, SOCKET);
        let listener = listener.map_err(|source| RunError::SessionDirectory {
            path: inside.join(SOCKET),
            source,
        })?;
        Ok(Some(Self(listener)))
    }

    /// Starts to answer.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(crate) fn start(self, answers: Answers) -> Result<Serving, RunError> {
        let staff = Staff {
            names: ("hooks", "hook"),
            clients_max: CLIENTS_MAX,
            stack_bytes: STACK_BYTES,
        };
        let service = Service::new(answers);
        Serving::start(self.0, staff, move |stream| service.answer(stream))
            .map_err(RunError::Supervisor)
    }
}
