//! One question and its answer.

use serde::{Deserialize, Serialize};
use stockade_policy::{Below, Decision, LastingRule, Request, Scope};
use stockade_types::{Answerer, ApprovalId, Circumstance, DecisionId, Digest, UnixMillis};

use super::patience;

/// Most uses of one counted grant: a person who wants more means the session.
pub(super) const USES_MAX: u32 = 100;

/// One request that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Names the approval.
    pub id: ApprovalId,
    /// What is asked for, exactly.
    pub request: Request,
    /// The decision that asked.
    pub decision: Decision,
    /// The number of that decision in the session.
    pub decision_id: DecisionId,
    /// The policy that decided.
    pub revision: Digest,
    /// When it was asked.
    pub asked: UnixMillis,
    /// When it becomes a deny by itself.
    pub expires: UnixMillis,
    /// The agent, by the name of its preset or command.
    pub agent: String,
    /// What the agent says it is doing; its own words, never checked.
    pub intent: Option<String>,
    /// The rule that would answer the same in later sessions, if there is one.
    pub lasting: Option<LastingRule>,
    /// The workspace of the session.
    pub workspace: String,
}

impl Question {
    /// Returns the widest scope that may be granted, or `None` if none may.
    ///
    /// A program without a digest is known only by its path, so no grant may outlive counted uses.
    pub fn scope_max(&self) -> Option<Scope> {
        let max = self.decision.stage.as_ref()?.scope_max;
        let anonymous = matches!(&self.request, Request::Exec(exec) if !exec.is_known_by_content());
        Some(match max {
            Scope::Session if anonymous => Scope::Uses(USES_MAX),
            Scope::Until(_) if anonymous => Scope::Once,
            Scope::Uses(n) => Scope::Uses(n.min(USES_MAX)),
            other => other,
        })
    }

    /// Returns the requests that the answer `paths` covers, if it may be given.
    pub fn paths(&self) -> Option<Below> {
        self.request.below().filter(|_| self.offers(Scope::Paths))
    }

    /// Returns when the program that asks usually gives up, if that is known and comes before the
    /// question expires.
    pub fn gives_up(&self) -> Option<UnixMillis> {
        let patience = patience::of(&self.request)?;
        let millis = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let end = UnixMillis(self.asked.0.saturating_add(millis));
        (end < self.expires).then_some(end)
    }

    /// Returns whether an answer may have the scope `scope`.
    pub fn offers(&self, scope: Scope) -> bool {
        let bounded = !matches!(scope, Scope::Uses(n) if n > USES_MAX);
        let exists = scope != Scope::Paths || self.request.below().is_some();
        bounded && exists && self.scope_max().is_some_and(|max| scope.is_within(max))
    }
}

/// A person's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Answer {
    /// The request may happen.
    Allow {
        /// How far the answer reaches.
        scope: Scope,
    },
    /// The request must not happen.
    Deny {
        /// A reason, which the agent sees.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The request must not happen, and the same is not asked again in this session.
    #[serde(rename = "deny-session")]
    DenySession,
}

/// A question with its final answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Names the approval.
    pub id: ApprovalId,
    /// The answer.
    pub answer: Answer,
    /// Who gave it.
    pub by: Answerer,
}

impl Settled {
    /// Says why a question disappeared that its viewer did not answer; `None` if there is nothing
    /// to say because the session ends with it.
    pub fn gone_in_words(&self) -> Option<String> {
        let id = &self.id;
        let by = &self.by;
        match by {
            Answerer::Circumstance(Circumstance::SessionEnd) => None,
            Answerer::Circumstance(Circumstance::Timeout) => {
                Some(format!("{id} has expired and is denied"))
            }
            Answerer::Circumstance(Circumstance::Withdrawn) => Some(format!(
                "{id} is withdrawn: the program that asked no longer waits"
            )),
            Answerer::Circumstance(
                Circumstance::NoOne
                | Circumstance::DeniedBefore
                | Circumstance::Journal
                | Circumstance::Policy
                | Circumstance::Desk,
            )
            | Answerer::Person(_)
            | Answerer::Approval(_)
            | Answerer::Rule(_) => Some(format!("{id} was answered by {by}")),
        }
    }
}
