//! What a record lacks for an exact verdict.

use std::fmt;

use serde::{Serialize, Serializer};
use stockade_policy::Unrecorded;

/// What a record lacks for an exact verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// A fact of the request.
    Fact(Unrecorded),
    /// The programs that take part beside the one that was judged: interpreters of scripts, loaders.
    Interpreter,
    /// The requests on a connection: nothing looked at them.
    Requests,
    /// A layer of the session's policy that is not there any more.
    Layer,
    /// The hosts of a host set, of a workspace that is not there any more.
    HostSets,
    /// A part of a record that was too long.
    Cut,
    /// What was said on the connection.
    Bytes,
    /// To which addresses a name leads.
    Addresses,
    /// What a path, or a link on it, leads to.
    Place,
}

impl Missing {
    /// Returns the word of reports in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fact(Unrecorded::ProgramNames) => "program-names",
            Self::Fact(Unrecorded::ProgramContent) => "program-content",
            Self::Fact(Unrecorded::Variables) => "variables",
            Self::Fact(Unrecorded::Meaning) => "meaning",
            Self::Fact(Unrecorded::HiddenText) => "hidden-text",
            Self::Fact(Unrecorded::FileContent) => "file-content",
            Self::Fact(Unrecorded::ToolArguments) => "tool-arguments",
            Self::Interpreter => "interpreter",
            Self::Requests => "requests",
            Self::Layer => "layer",
            Self::HostSets => "host-sets",
            Self::Cut => "cut",
            Self::Bytes => "bytes",
            Self::Addresses => "addresses",
            Self::Place => "place",
        }
    }

    /// Says what is missing, for people.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Fact(fact) => fact.in_words(),
            Self::Interpreter => "the interpreter or loader of the program",
            Self::Requests => "the requests on the connection",
            Self::Layer => "a policy that was given to the session alone",
            Self::HostSets => "the host sets of a workspace that is gone",
            Self::Cut => "a part that was too long for the record",
            Self::Bytes => "what was said on the connection",
            Self::Addresses => "the addresses of the name",
            Self::Place => "what the path leads to",
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.in_words())
    }
}

impl Serialize for Missing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
