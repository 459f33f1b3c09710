//! The parts that are made when a session starts, and used while it runs.

use std::{
    fs::File,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::Arc,
};

use stockade_plan::LaunchPlan;
use stockade_plan::ShareFact;
use stockade_policy::Policy;
use stockade_sandbox::Session;
use stockade_sys::net::{HeldConnections, SocketDiagnosis};
use stockade_types::AbsPath;

use crate::{
    agent_sockets::AgentSockets, credentials::HeldLogins, egress_process::EgressProcess,
    enrolment::Enrolment, in_use::InUse, publish::Published, reviewing::Key, ssh::agent::Agent,
};
use stockade_supervise::{Replaced, places::Places, repository::GitShare};
use stockade_types::{AskMode, SessionId};

/// The caller's ends of the command's standard streams that are pipes.
#[derive(Debug, Default)]
pub struct PipeEnds {
    /// Write end of its standard input.
    pub stdin: Option<OwnedFd>,
    /// Read end of its standard output.
    pub stdout: Option<OwnedFd>,
    /// Read end of its standard error, if that is not the pipe of its standard output.
    pub stderr: Option<OwnedFd>,
}

/// The parts of a started session.
pub(crate) struct Parts {
    pub(crate) session: Session,
    pub(crate) egress: Option<(EgressProcess, UnixStream)>,
    pub(crate) diagnosis: Option<SocketDiagnosis>,
    pub(crate) held: Option<HeldConnections>,
    /// The agent of ssh that the session sees.
    pub(crate) ssh: Option<Agent>,
    /// The socket of the hooks of agents.
    pub(crate) hooks: Option<AgentSockets>,
    /// Ports that are reserved on this machine.
    pub(crate) published: Vec<Published>,
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) pipes: PipeEnds,
    pub(crate) plan: LaunchPlan,
    pub(crate) workspace: AbsPath,
    pub(crate) state_dir: AbsPath,
    /// Paths that policy makes writable apart from the workspace.
    pub(crate) shares: Vec<ShareFact>,
    /// The git directories among them.
    pub(crate) git: Vec<GitShare>,
    pub(crate) places: Arc<Places>,
    pub(crate) replaced: Arc<Replaced>,
    /// Held while the overlays over caches are in use.
    pub(crate) caches: Option<File>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) ask: AskMode,
    /// The agent's name in questions.
    pub(crate) agent: String,
    /// The agent's kept state, as long as this session uses it.
    pub(crate) in_use: Option<InUse>,
    /// Logins whose tokens stay outside.
    pub(crate) logins: Arc<HeldLogins>,
    /// What this machine knows of its organisation, if it belongs to one.
    pub(crate) enrolment: Option<Enrolment>,
    /// The key of the model that the automatic reviewer asks.
    pub(crate) reviewer_key: Key,
    /// The session.
    pub(crate) id: SessionId,
}
