//! What agents and servers of tools say to each other: messages of JSON-RPC 2.0, as the Model Context
//! Protocol has them.
//!
//! What goes to a server is read by [`Messages`], strictly: where two readers could see another call, it
//! says so. What comes back is read by [`Answers`]: only an answer is taken, whatever else a server says.

mod answers;
mod messages;
mod refusal;

use stockade_types::RawText;

use crate::{
    claims::Bounded,
    content::Content,
    definitions::{Definition, Unread},
    hooks::Arguments,
    intent::Intent,
};

pub use answers::Answers;
pub use messages::{Messages, Read};
pub use refusal::refusal;

/// The program that passes on what an agent and a server say to each other, as a session sees it.
pub const SHIM_PROGRAM: &str = "/run/stockade/mcp";

/// A message to a server, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Calls a tool.
    Call(ToolCall),
    /// Wants to know which tools there are.
    List {
        /// Its id.
        id: Option<Id>,
    },
    /// Takes a request back.
    Cancel {
        /// The id of that request.
        of: Id,
    },
    /// Anything else, such as a notification, or the answer to what the server asked.
    Other {
        /// Its id, if it is a request.
        id: Option<Id>,
    },
}

/// The id of a request, as JSON: a text or a number. Ids are unique for one client of one server.
pub type Id = RawText;

/// A tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Its id; without one no answer comes.
    pub id: Option<Id>,
    /// The tool, by its server's name for it.
    pub tool: RawText,
    /// What it is called with.
    pub arguments: Arguments,
    /// The id by which the agent's model knows the call, if the agent says it.
    pub use_id: Option<RawText>,
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The request.
    pub id: Id,
    /// The tools that it says it has.
    pub defined: Option<Defined>,
    /// Bytes of all texts of the result, or of the error.
    pub bytes: u64,
    /// The texts of the result, if there was room for them.
    pub content: Option<Content>,
    /// It says that it failed.
    pub is_error: bool,
}

/// Tools of one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defined {
    /// Those that were read.
    pub tools: Vec<Definition>,
    /// Why there may be more.
    pub unread: Option<Unread>,
}

impl Message {
    /// Returns the id by which it is answered.
    pub const fn id(&self) -> Option<&Id> {
        match self {
            Self::Call(ToolCall { id, .. }) | Self::List { id } | Self::Other { id } => id.as_ref(),
            Self::Cancel { .. } => None,
        }
    }
}

impl ToolCall {
    /// Says what the call names.
    pub fn intent(&self) -> Intent {
        Intent::of_arguments(&self.arguments.json)
    }

    /// Returns the name that agents have for the tool of a server.
    pub fn name(&self, server: &RawText) -> RawText {
        let parts = [b"mcp__", server.as_bytes(), b"__", self.tool.as_bytes()];
        crate::content::name(&parts.concat())
    }
}

/// Answers that are remembered until somebody takes them: those of one piece of a body.
type Taken = Bounded<Answer>;

#[cfg(test)]
mod tests;
