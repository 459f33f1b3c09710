//! Tools of servers whose definition a model is about to read. No rule is about them, so one file is
//! enough.

use serde::{Deserialize, Serialize};
use stockade_types::{Digest, RawText, Subject, Target};

use crate::canonical::Canonical;

/// What a model has not read before of the tools of one server.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct DefinitionRequest {
    /// The server, by the name that the agent has for it; empty if no server can be named.
    pub server: RawText,
    /// Whose form it was read in, for example `messages`: agents write the same definition in different
    /// ways.
    pub form: String,
    /// The tools, those that there is room for.
    pub tools: Vec<ToolSeen>,
    /// How many more there are.
    #[serde(default)]
    pub more: u64,
    /// Digest of all of them.
    pub digest: Digest,
    /// Why there may be definitions that nobody could read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
    /// The agent.
    #[serde(default)]
    pub subject: Subject,
}

/// One tool that differs from what was seen of it before.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ToolSeen {
    /// Its name, without the server; empty for what is said of the server itself.
    pub tool: RawText,
    /// The digest that was seen before; none if there was no such tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Digest>,
    /// What was read before, if it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<RawText>,
    /// What is to be read, if it is short enough to be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<RawText>,
}

impl DefinitionRequest {
    /// Tells whether a tool that was seen before is another one now.
    pub fn is_changed(&self) -> bool {
        self.tools.iter().any(|tool| tool.before.is_some())
    }

    pub(crate) fn target(&self) -> Target {
        let mut text = self.server.as_bytes().to_vec();
        if let Some(first) = self.tools.first() {
            text.push(b'/');
            text.extend_from_slice(first.tool.as_bytes());
        }
        let kept = u64::try_from(self.tools.len()).unwrap_or(u64::MAX);
        let others = kept.saturating_add(self.more).saturating_sub(1);
        if others > 0 {
            text.extend_from_slice(format!(" and {others} more").as_bytes());
        }
        Target {
            path: Some(RawText::from_bytes(text)),
            ..Target::default()
        }
    }

    /// Adds everything that identifies this exact request.
    pub(crate) fn hash(&self, hash: &mut Canonical) {
        self.hash_shape(hash);
        hash.field(self.subject.exe.as_bytes());
    }

    /// Adds the parts that were shown: the same definitions, whoever sends them.
    pub(crate) fn hash_shape(&self, hash: &mut Canonical) {
        hash.field(b"definition").field(self.form.as_bytes());
        hash.field(self.server.as_bytes());
        hash.field(self.digest.as_bytes());
        hash.field(self.unread.as_deref().unwrap_or_default().as_bytes());
    }
}
