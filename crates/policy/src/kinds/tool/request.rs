//! The known facts about a tool call before the tool runs.

use serde::{Deserialize, Serialize};
use stockade_types::{Digest, RawText, Subject, Target, ToolEffect};

use super::{ToolArguments, tool_effect};
use crate::canonical::Canonical;

/// Most bytes of a name of a tool or of a server. Protocols allow 64 to 128; a longer one is cut, gets
/// the mark of the whole, and counts as one that is not known.
pub(super) const NAME_BYTES_MAX: usize = 256;

/// An agent is about to use a tool. All of it is what the agent says.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ToolRequest {
    /// The name by which the agent calls it.
    pub tool: RawText,
    /// The MCP server that has it; `None` for a tool of the agent itself.
    #[serde(default)]
    pub server: Option<RawText>,
    /// What it is called with.
    pub arguments: ToolArguments,
    /// What the tool is for.
    pub effect: ToolEffect,
    /// The workspace as the session sees it, to which relative paths may refer.
    #[serde(default)]
    pub workspace: Option<RawText>,
    /// The process that asks: the agent, or what it lets ask.
    #[serde(default)]
    pub subject: Subject,
}

impl ToolRequest {
    /// Takes a call with its arguments as the agent sent them, in JSON. What the tool is for is looked
    /// up by its name; of a tool of a server it is not known.
    pub fn new(tool: &[u8], server: Option<&[u8]>, arguments: &[u8], subject: Subject) -> Self {
        let effect = match server {
            Some(_) => ToolEffect::Unknown,
            None => tool_effect(tool),
        };
        Self {
            tool: name(tool),
            server: server.map(name),
            arguments: ToolArguments::read(arguments),
            effect,
            workspace: None,
            subject,
        }
    }

    pub(crate) fn target(&self) -> Target {
        Target {
            tool: Some(self.tool.clone()),
            server: self.server.clone(),
            ..Target::default()
        }
    }

    /// Adds the parts that an answer for longer covers: the tool, with any arguments, by any program.
    pub(crate) fn hash_shape(&self, hash: &mut Canonical) {
        hash.field(b"tool").field(self.tool.as_bytes());
        match &self.server {
            Some(server) => hash.field(b"of").field(server.as_bytes()),
            None => hash.field(b"own"),
        };
    }

    /// Adds everything that identifies this exact request.
    pub(crate) fn hash(&self, hash: &mut Canonical) {
        self.hash_shape(hash);
        hash.field(self.arguments.digest().as_bytes())
            .field(self.subject.exe.as_bytes());
    }
}

/// Returns a name, cut if it is too long; different names stay different.
fn name(bytes: &[u8]) -> RawText {
    match bytes.get(..NAME_BYTES_MAX) {
        Some(beginning) if bytes.len() > NAME_BYTES_MAX => {
            let mark = format!("~{}", Digest::of(bytes));
            RawText::from_bytes([beginning, mark.as_bytes()].concat())
        }
        _ => RawText::from_bytes(bytes),
    }
}
