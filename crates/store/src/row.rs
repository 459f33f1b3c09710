//! One line of the list of sessions.

use serde::{Deserialize, Serialize};
use stockade_event::{SessionOutcome, Summary};
use stockade_types::{RawText, SessionId};

/// A session as the list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// The session.
    pub id: SessionId,
    /// Name given with `--name`.
    pub name: Option<String>,
    /// Start, nanoseconds since the epoch; `None` if the journal has no event.
    pub started_unix_ns: Option<u64>,
    /// End, nanoseconds since the epoch.
    pub ended_unix_ns: Option<u64>,
    /// From start to end, in milliseconds.
    pub duration_ms: Option<u64>,
    /// The command and its arguments.
    pub command: Vec<RawText>,
    /// The workspace on the host.
    pub workspace: RawText,
    /// The outcome; `None` while it runs and after the supervisor was killed.
    pub outcome: Option<SessionOutcome>,
    /// Events.
    pub events: u64,
    /// Processes that were started.
    pub processes: u64,
    /// First-level commands that ran.
    pub commands: u64,
    /// Approvals that were requested.
    pub asks: u64,
    /// Refusals, repeats included.
    pub denials: u64,
    /// Connections that ended.
    pub connections: u64,
    /// Paths that were changed.
    pub changed_files: u64,
    /// Lines of the journal that could not be read; `stockade log verify` says why.
    pub unreadable: u64,
    /// Whether the journal that this row came from is gone.
    pub missing: bool,
    /// Whether a file at the journal's place cannot be read as a journal.
    pub unindexed: bool,
}

impl SessionRow {
    pub(crate) fn new(id: SessionId, summary: &Summary, unreadable: u64) -> Self {
        let kept = u64::try_from(summary.changed_files.len()).unwrap_or(u64::MAX);
        Self {
            id,
            name: summary.name.clone(),
            started_unix_ns: summary.started_unix_ns,
            ended_unix_ns: summary.ended_unix_ns,
            duration_ms: summary.duration_ms,
            command: summary.command.clone(),
            workspace: summary.workspace.clone(),
            outcome: summary.outcome.clone(),
            events: summary.events,
            processes: summary.processes,
            commands: summary.commands,
            asks: summary.asked,
            denials: summary.denials(),
            connections: summary.traffic().connections,
            changed_files: kept.saturating_add(summary.changed_files_more),
            unreadable,
            missing: false,
            unindexed: false,
        }
    }
}
