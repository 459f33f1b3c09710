//! A question as it leaves the supervisor.

use serde::{Deserialize, Serialize};
use stockade_policy::{LastingRule, Scope};
use stockade_shown::Shown;
use stockade_types::{ApprovalId, Digest, UnixMillis};

/// A rule that would answer the same in later sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lasting {
    /// The rule.
    pub rule: LastingRule,
    /// The workspace of the session.
    pub workspace: String,
}

/// A question as it leaves the supervisor: it has all that is shown, and nothing that decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionView {
    /// Names the approval.
    pub id: ApprovalId,
    /// The agent, by the name of its preset or command.
    pub agent: String,
    /// When it was asked.
    pub asked: UnixMillis,
    /// When it becomes a deny by itself.
    pub expires: UnixMillis,
    /// When the program that asked usually gives up, if that is known and comes sooner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gives_up: Option<UnixMillis>,
    /// How many requests wait for this answer.
    pub waiting: u32,
    /// The widest scope that may be granted; `None` if only a deny is possible.
    pub scope_max: Option<Scope>,
    /// The requests that the answer `paths` covers; `None` if it is not possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<String>,
    /// The rule that `always` keeps, and the workspace it is kept for; `None` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasting: Option<Lasting>,
    /// Which people in roles it waits for, and how far they are, if whoever is at the terminal can only
    /// deny it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Hash of the exact request.
    pub request_digest: Digest,
    /// The text.
    pub shown: Shown,
}

impl QuestionView {
    /// Returns whether `scope` may be offered.
    pub fn offers(&self, scope: Scope) -> bool {
        let exists = scope != Scope::Paths || self.paths.is_some();
        exists && self.scope_max.is_some_and(|max| scope.is_within(max))
    }

    /// Returns the scope, in this session, of an answer that is kept.
    pub fn kept_scope(&self) -> Scope {
        if self.offers(Scope::Session) {
            Scope::Session
        } else {
            Scope::Once
        }
    }
}
