//! On what an answer that was given before rests.

use stockade_types::{ApprovalId, RuleId};

/// What a cover rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoveredBy {
    /// The answer to a question.
    Approval(ApprovalId),
    /// A rule that allows the command.
    Rule(RuleId),
}

impl CoveredBy {
    /// Says it in two words, as records have it.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::Approval(id) => format!("approval {id}"),
            Self::Rule(id) => format!("rule {id}"),
        }
    }
}
