//! The answer or rule that a cover is based on.

use stockade_types::{ApprovalId, RuleId};

/// The basis of a cover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoveredBy {
    /// The answer to a question.
    Approval(ApprovalId),
    /// A rule that allows the command.
    Rule(RuleId),
}

impl CoveredBy {
    /// Returns two words for it, as in records.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::Approval(id) => format!("approval {id}"),
            Self::Rule(id) => format!("rule {id}"),
        }
    }
}
