//! What an effect came of: the agent's half of the record, joined to the kernel's.

use serde::{Deserialize, Serialize};
use stockade_types::{Certainty, Digest, RawText};

/// What an event came of, as far as it was known when it was recorded. The numbers are those of events
/// of the same session. What an agent said is a claim; which processes belong to a command is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The `prompt.submitted` that the agent worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<u64>,
    /// The `tool.called` whose effect it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<u64>,
    /// How that is known.
    pub certainty: Certainty,
}

/// A text that somebody said, as far as `record.content` lets it into the record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Its beginning, with what was found secret replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<RawText>,
}
