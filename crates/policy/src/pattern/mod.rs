//! The patterns of which rules consist. Each is parsed once and can say whether it contains another
//! one.
//!
//! Containment is sound but not complete: if it is not obvious, the answer is "no", which leaves an
//! ask unanswered.

pub(crate) mod command;
pub(crate) mod glob;
pub(crate) mod host;
pub(crate) mod path;
pub(crate) mod program;
pub(crate) mod protected;
pub(crate) mod tools;

pub(crate) use command::CommandPattern;
pub(crate) use glob::Glob;
pub(crate) use host::HostPattern;
pub(crate) use path::PathPattern;
pub(crate) use program::{ProgramPattern, VariablePattern};
pub use protected::ProtectedPattern;

/// Why a text is not a pattern; the message names the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct PatternError(pub(crate) String);

impl PatternError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}
