//! The parts of the first and the last event of a session: layers, outcome, totals.

use serde::{Deserialize, Serialize};
use stockade_types::{Digest, RolloutArm};

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum SessionOutcome {
    /// The command exited by itself.
    Exited {
        /// Its exit code, 0 to 255.
        code: i32,
    },
    /// A signal that was not ours ended the command.
    Signaled {
        /// Number of the signal.
        signal: i32,
    },
    /// Stockade ended the session.
    Killed {
        /// Why, for example the limit that was hit.
        reason: String,
    },
    /// Nothing ran.
    NotStarted {
        /// The step that failed.
        step: String,
        /// Why it failed.
        reason: String,
    },
}

/// Totals of a session, folded from the events before them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Programs that were permitted to run.
    pub processes: u64,
    /// Those of them whose execution was not verified.
    pub unconfirmed: u64,
    /// First-level commands: those that the agent itself started, or was refused.
    pub commands: u64,
    /// Decisions whose final verdict was allow or deny, including those that were only counted.
    pub decisions: u64,
    /// Those of them that were `deny`.
    pub denials: u64,
    /// Approvals that were requested.
    pub asks: u64,
    /// Connections that were permitted and have ended.
    pub connections: u64,
    /// Changes of files that were permitted.
    pub file_changes: u64,
    /// Events that could not be recorded.
    pub events_lost: u64,
}

/// The policy that an organisation has published to the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleSeen {
    /// Which machines it is for, in the organisation's words.
    pub channel: String,
    /// Grows by each publication.
    pub serial: u64,
    /// Digest of its text that was loaded, as in the layers.
    pub digest: Digest,
    /// Where its rollout stood, if it has a candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSeen>,
}

/// Where the rollout of a policy stood on a machine when a session began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutSeen {
    /// The rollout.
    pub rollout: String,
    /// Its step; 0 if it has not begun or was taken back.
    pub step: u32,
    /// Which policy decides in the session.
    pub arm: RolloutArm,
}

/// How often a candidate was compared with the policy in force, and what each said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShadowCounts {
    /// Decisions that were compared.
    pub compared: u64,
    /// Those in which verdict or rule differ.
    pub differed: u64,
    /// Those that the policy in force denies.
    pub denied: u64,
    /// Those that the candidate denies.
    pub candidate_denied: u64,
    /// Those about which the policy in force asks.
    pub asked: u64,
    /// Those about which the candidate asks.
    pub candidate_asked: u64,
}

/// What a session came to under its policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyUse {
    /// The policy that the organisation has published, as the session began with it.
    pub bundle: Option<BundleSeen>,
    /// How the candidate of a rollout compares with it.
    pub shadow: ShadowCounts,
    /// Decisions whose final verdict was allow or deny.
    pub decisions: u64,
    /// Those of them that were deny, including those that were only counted.
    pub denied: u64,
    /// The time of the last event, nanoseconds since the epoch.
    pub last_unix_ns: u64,
}

/// One layer of the policy that was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSeen {
    /// `builtin`, `organisation`, `user` or `session`.
    pub origin: String,
    /// File or preset it came from.
    pub name: String,
    /// Digest of its text.
    pub digest: Digest,
}
