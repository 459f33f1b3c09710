//! The server: its parts.

use std::{path::PathBuf, sync::Arc};

use stockade_api::NodeId;
use stockade_trust::RelyingParty;
use stockade_types::ignored;
use tokio::{
    sync::{RwLock, Semaphore, watch},
    task::{JoinError, spawn_blocking},
};

use crate::{
    ControlError,
    authority::Authority,
    data::{DataDir, Lease, Running, Settings},
    evidence::Evidence,
    following::Following,
    hub::Hub,
    index::Index,
    intake::Intake,
    keys::SigningKeys,
    known::{Senders, Tips},
    metrics::Metrics,
    oidc,
    outbound::Outbounds,
    samples::Samples,
    state::{DirectoryRow, State},
    stories::Stories,
    summaries::Summaries,
    turns::{Allowance, Turns},
};

/// Takes what fails while a server runs on.
pub type Report = Box<dyn Fn(&ControlError) + Send + Sync>;

/// The server.
pub struct Server {
    /// Its directory.
    pub data: DataDir,
    /// What it was told.
    pub settings: Settings,
    /// What it knows.
    pub state: State,
    /// What can be looked for in journals.
    pub(crate) index: Index,
    /// Whom it tells.
    pub hub: Hub,
    /// Its keys.
    pub keys: SigningKeys,
    /// Its authority.
    pub authority: Arc<Authority>,
    /// Where people vote.
    pub party: RelyingParty,
    /// Where it listens.
    pub running: Running,
    /// How many blocking jobs may run at once: hashing and the disk never run on the reactor.
    pub(crate) gate: Arc<Semaphore>,
    /// Which pieces of journals are taken.
    pub(crate) intake: Arc<Intake>,
    /// The journals themselves.
    pub(crate) evidence: Evidence,
    /// Whose turn it is to write a journal.
    pub(crate) turns: Turns,
    pub(crate) summaries: Summaries,
    /// How far journals are here.
    pub(crate) tips: Tips,
    /// Which machines send.
    pub(crate) senders: Senders,
    /// Which sessions have grown.
    pub(crate) following: Following,
    /// The directory of people as it was signed last.
    pub(crate) known_directory: RwLock<Option<DirectoryRow>>,
    /// What it counts.
    pub(crate) metrics: Metrics,
    /// What sessions come to that are in a rollout.
    pub(crate) samples: Samples,
    /// Sessions that people look at.
    pub(crate) stories: Stories,
    /// How often it is noted that an enrolment was refused: anybody can try one.
    pub(crate) refusals: Allowance,
    /// What makes requests to receivers of channels.
    pub(crate) receivers: Outbounds,
    /// The provider at which people sign in, if there is one.
    pub(crate) oidc: Option<oidc::Client>,
    /// Issuers of the tokens of jobs.
    pub(crate) issuers: oidc::Issuers,
    pub(crate) report: Option<Report>,
    pub(crate) over: watch::Sender<bool>,
    pub(crate) _lease: Lease,
}

impl std::fmt::Debug for Server {
    /// Shows nothing of the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("data", &self.data)
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Returns the directory with the journals of a machine.
    pub fn node_dir(&self, node: &NodeId) -> PathBuf {
        let org = self.data.evidence_path().join(&self.settings.org);
        org.join(node.as_str())
    }

    /// Returns what becomes true when the server ends.
    pub(crate) fn ended(&self) -> watch::Receiver<bool> {
        self.over.subscribe()
    }

    /// Ends the server.
    pub(crate) fn end(&self) {
        ignored(
            self.over.send(true),
            "it fails only if nothing runs any more",
        );
    }

    /// Reports what failed to who runs the server.
    pub(crate) fn failed(&self, error: &ControlError) {
        if let Some(report) = &self.report {
            report(error);
        }
    }

    /// Runs what hashes, or waits for the disk, beside the reactor; no more at once than there are cores.
    ///
    /// # Errors
    /// When it panics, or the server ends.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ControlError> {
        let _place = self.gate.acquire().await;
        let done = spawn_blocking(work).await;
        done.map_err(|error: JoinError| ControlError::Work(error.to_string()))
    }
}
