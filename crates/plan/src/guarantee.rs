//! What a session promises, in one word each.

use serde::{Deserialize, Serialize};

/// The guarantees that a policy or `--require` can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuaranteeName {
    /// Only the planned files exist inside; protected ones cannot be changed.
    Files,
    /// Other processes cannot be seen, signalled or traced; nothing survives the session.
    Processes,
    /// Nothing leaves but through the egress process.
    Network,
    /// The caller's secrets (home, environment, descriptors) are absent.
    Secrets,
    /// Processes, open files and core dumps are limited.
    Limits,
    /// Memory, processes and processor time of the whole session are limited by cgroups.
    GroupLimits,
    /// Bytes written to disk are limited.
    DiskQuota,
    /// Every program is judged before it runs.
    ExecDecisions,
    /// Events are chained and signed; verdicts are written before their effect.
    Record,
}

impl GuaranteeName {
    /// Returns the word of the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Processes => "processes",
            Self::Network => "network",
            Self::Secrets => "secrets",
            Self::Limits => "limits",
            Self::GroupLimits => "group-limits",
            Self::DiskQuota => "disk-quota",
            Self::ExecDecisions => "exec-decisions",
            Self::Record => "record",
        }
    }
}

/// Whether one guarantee holds in this session, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarantee {
    /// Which.
    pub name: GuaranteeName,
    /// Whether it holds.
    pub holds: bool,
    /// By which mechanisms.
    pub how: String,
    /// What is missing, where it does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// The caller's reason for doing without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiver: Option<String>,
}
