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
    mcp,
    pins::Comparing,
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

/// The sockets of a session's hooks, and of what agents and servers of tools say to each other.
pub(crate) struct Hooks {
    hooks: UnixListener,
    servers: UnixListener,
}

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
        let wrong = |name: &str| {
            let path = inside.join(name);
            move |source| RunError::SessionDirectory { path, source }
        };
        let hooks = inside_socket::listen(inside, SOCKET).map_err(wrong(SOCKET))?;
        let servers = mcp::open(inside).map_err(wrong(mcp::SOCKET))?;
        Ok(Some(Self { hooks, servers }))
    }

    /// Starts to answer.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(crate) fn start(
        self,
        answers: Answers,
        comparing: Arc<Comparing>,
    ) -> Result<[Serving; 2], RunError> {
        let answers = Arc::new(answers);
        let staff = Staff {
            names: ("hooks", "hook"),
            clients_max: CLIENTS_MAX,
            stack_bytes: STACK_BYTES,
        };
        let service = Service::new(Arc::clone(&answers));
        let hooks = Serving::start(self.hooks, staff, move |stream| service.answer(stream));
        let hooks = hooks.map_err(RunError::Supervisor)?;
        let servers = mcp::start(self.servers, answers, comparing);
        Ok([hooks, servers.map_err(RunError::Supervisor)?])
    }
}
