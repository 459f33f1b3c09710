//! One question and its answer.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use stockade_policy::{Decision, LastingRule, Request, Scope};
use stockade_shown::{CanonicalQuestion, Grounds, Matter};
use stockade_trust::{Envelope, Nonce, Review};
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

    /// Returns which people in roles have to say yes, if it is not whoever is at the terminal.
    pub fn review(&self) -> Option<&Review> {
        self.decision.review()
    }

    /// Returns what a terminal or another program needs in order to show the question. If it asks people
    /// in roles, only a deny is offered there, and `waits_for` says who is asked and how far they are.
    pub fn view(&self, waiting: u32, waits_for: Option<String>) -> QuestionView {
        let matter = self.matter();
        let here = self.review().is_none();
        QuestionView {
            id: self.id.clone(),
            agent: self.agent.clone(),
            asked: self.asked,
            expires: self.expires,
            gives_up: matter.gives_up(),
            waiting,
            scope_max: matter.scope_max().filter(|_| here),
            paths: matter
                .paths()
                .filter(|_| here)
                .map(|below| below.to_string()),
            lasting: self.lasting.clone().filter(|_| here).map(|rule| Lasting {
                rule,
                workspace: self.workspace.clone(),
            }),
            waits_for,
            request_digest: self.request.digest(),
            shown: matter.shown(),
        }
    }
}

/// A question with what people in roles, or their server, need to answer it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Names the approval.
    pub id: ApprovalId,
    /// What this machine drew for the question.
    pub nonce: Nonce,
    /// The policy that asks.
    pub revision: Digest,
    /// The question; its text is made of it alone.
    pub question: CanonicalQuestion,
    /// Who has to say yes.
    pub review: Review,
    /// Digest of the text that this machine makes of the question: whoever makes another one cannot vote.
    pub rendered: Digest,
}

impl Question {
    /// Returns what leaves the machine with the question; `None` if it asks nobody but whoever is at the
    /// terminal.
    pub fn case(&self) -> Option<Case> {
        let review = self.review()?.clone();
        let matter = self.matter();
        Some(Case {
            id: self.id.clone(),
            nonce: self.nonce,
            revision: self.revision,
            question: matter.canonical(),
            review,
            rendered: matter.shown().digest(),
        })
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Answer {
    /// The request may happen.
    Allow {
        /// How far the answer reaches.
        scope: Scope,
    },
    /// People in roles have said that it may happen; the session checks their statement itself. It is the
    /// only yes to a question that asks them.
    Granted {
        /// The statement and their votes, signed.
        envelope: Box<Envelope>,
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
                | Circumstance::Desk
                | Circumstance::Reviewer,
            )
            | Answerer::Person(_)
            | Answerer::People(_)
            | Answerer::Approval(_)
            | Answerer::Rule(_) => Some(format!("{id} was answered by {by}")),
        }
    }
}
