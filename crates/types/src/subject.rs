//! The process of a session that wants something, as the kernel knows it.

use serde::{Deserialize, Serialize};

use crate::{RawText, Words};

/// A process within one session: its id alone can be reused, but not together with the start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// Process id as the supervisor sees it.
    pub pid: u32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`, proc(5)).
    pub start: u64,
}

/// A process, identified by what the kernel says about it, not by what it says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The process, if it could still be found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ProcessId>,
    /// Path of the running executable inside the boundary.
    #[serde(default)]
    pub exe: RawText,
    /// Argument vector of the process.
    #[serde(default)]
    pub argv: Words,
    /// Working directory inside the boundary.
    #[serde(default)]
    pub cwd: RawText,
    /// Parents from the nearest to the session's first process, as one line each; bounded.
    #[serde(default, skip_serializing_if = "no_words")]
    pub ancestry: Words,
}

fn no_words(words: &Words) -> bool {
    words.is_empty()
}
