//! How a message that passes already is stopped.

use stockade_policy::Decision;

use super::Answer;

/// Why the rest of a message does not pass.
pub(crate) enum Stop {
    /// It is refused, which is still to be recorded.
    Refused(Box<Decision>),
    /// It is refused, which is recorded: the client is told this.
    Answered(Box<Answer>),
}
