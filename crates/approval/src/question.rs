//! One question and its answer.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use stockade_policy::{Decision, LastingRule, Request, Scope};
use stockade_shown::{Grounds, Matter};
use stockade_trust::Nonce;
use stockade_types::{Answerer, ApprovalId, Circumstance, DecisionId, Digest, UnixMillis};

use super::view::{Lasting, QuestionView};

/// One request that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Names the approval.
    pub id: ApprovalId,
    /// Drawn for this question alone: an answer that came from outside names it.
    pub nonce: Nonce,
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
    /// Returns what it is about.
    pub fn matter(&self) -> Matter<'_> {
        Matter {
            request: &self.request,
            grounds: Cow::Owned(Grounds::of(&self.decision)),
            agent: &self.agent,
            intent: self.intent.as_deref(),
            asked: self.asked,
            expires: self.expires,
        }
    }

    /// Returns what a terminal or another program needs in order to show the question.
    pub fn view(&self, waiting: u32) -> QuestionView {
        let matter = self.matter();
        QuestionView {
            id: self.id.clone(),
            agent: self.agent.clone(),
            asked: self.asked,
            expires: self.expires,
            gives_up: matter.gives_up(),
            waiting,
            scope_max: matter.scope_max(),
            paths: matter.paths().map(|below| below.to_string()),
            lasting: self.lasting.clone().map(|rule| Lasting {
                rule,
                workspace: self.workspace.clone(),
            }),
            request_digest: self.request.digest(),
            shown: matter.shown(),
        }
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
