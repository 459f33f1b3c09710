//! The sockets through which agents tell of their tool calls: their hooks, and what they and the servers of
//! tools that they start say to each other.

use std::{os::unix::net::UnixListener, path::Path, sync::Arc};

use stockade_policy::Policy;

use crate::{
    RunError,
    hooks::{self, Answers},
    inside_socket::Serving,
    mcp,
    pins::Comparing,
};

/// Both, of one session.
pub(crate) struct AgentSockets {
    hooks: UnixListener,
    servers: UnixListener,
}

impl AgentSockets {
    /// Opens them in the directory that the session sees; nothing if no agent is told of hooks and no rule
    /// is about tools.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub(crate) fn open(policy: &Policy, inside: &Path) -> Result<Option<Self>, RunError> {
        if !hooks::is_wanted(policy) {
            return Ok(None);
        }
        let wrong = |name: &str| {
            let path = inside.join(name);
            move |source| RunError::SessionDirectory { path, source }
        };
        let hooks = hooks::open(inside).map_err(wrong(hooks::SOCKET))?;
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
        let hooks = hooks::start(self.hooks, Arc::clone(&answers));
        let hooks = hooks.map_err(RunError::Supervisor)?;
        let servers = mcp::start(self.servers, answers, comparing);
        Ok([hooks, servers.map_err(RunError::Supervisor)?])
    }
}
