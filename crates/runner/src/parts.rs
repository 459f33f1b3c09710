//! What bringing a session up makes, and running it uses.

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

use crate::{egress_process::EgressProcess, in_use::InUse, publish::Published};
use stockade_supervise::{Replaced, places::Places, repository::GitShare};
use stockade_types::AskMode;

/// The caller's ends of those standard streams of the command that are pipes.
#[derive(Debug, Default)]
pub struct PipeEnds {
    /// Write end of its standard input.
    pub stdin: Option<OwnedFd>,
    /// Read end of its standard output.
    pub stdout: Option<OwnedFd>,
    /// Read end of its standard error, where that is not the pipe of its standard output.
    pub stderr: Option<OwnedFd>,
}

/// What a started session consists of.
pub(crate) struct Parts {
    pub(crate) session: Session,
    pub(crate) egress: Option<(EgressProcess, UnixStream)>,
    pub(crate) diagnosis: Option<SocketDiagnosis>,
    pub(crate) held: Option<HeldConnections>,
    /// Ports that are taken on this machine.
    pub(crate) published: Vec<Published>,
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) pipes: PipeEnds,
    pub(crate) plan: LaunchPlan,
    pub(crate) workspace: AbsPath,
    pub(crate) state_dir: AbsPath,
    /// What policy lets write beside the workspace.
    pub(crate) shares: Vec<ShareFact>,
    /// Which of them are directories of git.
    pub(crate) git: Vec<GitShare>,
    pub(crate) places: Arc<Places>,
    pub(crate) replaced: Arc<Replaced>,
    /// Held while the overlays over caches are in use.
    pub(crate) caches: Option<File>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) ask: AskMode,
    /// Name that questions show.
    pub(crate) agent: String,
    /// What the agent keeps between its sessions, as long as this one uses it.
    pub(crate) in_use: Option<InUse>,
}
