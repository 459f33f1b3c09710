//! The agent of ssh inside: programs log in with keys that stay outside (ADR 0035).
//!
//! It lists the keys that policy names, and signs logins on connections that the egress process made to
//! the hosts of a key. Such a connection is known by what its host proved when it began: the egress
//! process saw the host's key and signature, the client says them again together with the connection's
//! id, and the signature holds for that id alone.

mod frames;
mod host_keys;
mod judge;
mod keys;
mod limits;
mod proofs;
mod serve;

use std::{os::unix::net::UnixListener, sync::Arc};

use stockade_plan::{HostFacts, Network};
use stockade_policy::Policy;
use stockade_supervise::{Processes, Recorder};
use stockade_types::ignored;

use self::{
    keys::Held,
    limits::{CLIENTS_MAX, STACK_BYTES},
    serve::Service,
};
use crate::{
    RunError,
    caller::Caller,
    inside_socket::{self, Serving, Staff},
    session_dir::{INSIDE, SessionDir},
};

pub(crate) use proofs::Proofs;

/// The variable inside that leads to the socket.
const VARIABLE: &str = "SSH_AUTH_SOCK";
/// The socket, in the directory that the session sees as `/run/stockade`.
const SOCKET: &str = "ssh-agent";
/// The same, inside.
const PLACE: &str = "/run/stockade/ssh-agent";

/// Tells whether programs inside have an agent: without a network there is nobody to log in at.
fn is_wanted(policy: &Policy, network: Network) -> bool {
    network == Network::Proxied && !policy.ssh_keys().is_empty()
}

/// Tells programs inside where the agent is.
pub(crate) fn tell(policy: &Policy, network: Network, facts: &mut HostFacts) {
    if is_wanted(policy, network) {
        let place = (VARIABLE.to_owned(), PLACE.to_owned());
        facts.credentials.placeholders.push(place);
    }
}

/// The keys of a session, and the socket that it sees.
pub(crate) struct Agent {
    keys: Vec<Held>,
    listener: UnixListener,
    known_hosts: String,
    proofs: Arc<Proofs>,
}

impl Agent {
    /// Finds the keys of a policy, and opens the socket; nothing if the session has no agent.
    ///
    /// # Errors
    /// When a key cannot be used, or the socket not be opened.
    pub(crate) fn open(
        (policy, network): (&Policy, Network),
        caller: &Caller,
        directory: &SessionDir,
    ) -> Result<Option<Self>, RunError> {
        if !is_wanted(policy, network) {
            return Ok(None);
        }
        let inside = directory.join(INSIDE);
        let directory = directory.path().as_path();
        let keys = keys::find(policy.ssh_keys(), caller, directory)?;
        let listener = inside_socket::listen(&inside, SOCKET).map_err(|source| {
            RunError::SessionDirectory {
                path: inside.join(SOCKET),
                source,
            }
        })?;
        Ok(Some(Self {
            keys,
            listener,
            known_hosts: super::known_hosts(caller),
            proofs: Arc::default(),
        }))
    }

    /// Returns where the egress process's proofs go.
    pub(crate) fn proofs(&self) -> Arc<Proofs> {
        Arc::clone(&self.proofs)
    }

    /// Starts to answer programs.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(crate) fn start(
        self,
        recorder: &Arc<Recorder>,
        processes: &Arc<Processes>,
        abort: Box<dyn Fn(&str) + Send + Sync>,
    ) -> Result<Serving, RunError> {
        let Self {
            keys,
            listener,
            known_hosts,
            proofs,
        } = self;
        let service = Service {
            keys,
            known_hosts,
            proofs,
            recorder: Arc::clone(recorder),
            processes: Arc::clone(processes),
            abort,
        };
        let staff = Staff {
            names: ("ssh-keys", "ssh-key"),
            clients_max: CLIENTS_MAX,
            stack_bytes: STACK_BYTES,
        };
        // Once the session's processes are gone, dropping it ends the keys' own agents.
        Serving::start(listener, staff, move |stream| {
            ignored(service.answer(stream), "the client is gone");
        })
        .map_err(RunError::Supervisor)
    }
}
