//! The data that goes into and comes out of the desk.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stockade_policy::{Approvals, Decision, GrantError, LastingRule, Request, Scope};
use stockade_trust::{Envelope, Granted};
use stockade_types::{
    Answerer, ApprovalId, Authorisation, Circumstance, DecisionId, Digest, Person, Risk,
    UnixMillis, Verdict,
};

use super::question::Question;
use crate::CoveredBy;

/// What happened at the desk.
#[derive(Clone, Copy, Debug)]
pub enum DeskEvent<'a> {
    /// A question is about to be shown.
    Requested {
        /// The question.
        question: &'a Question,
    },
    /// A question is about to be settled.
    Decided {
        /// The question.
        question: &'a Question,
        /// Allow or deny.
        verdict: Verdict,
        /// How far an allow reaches.
        scope: Option<Scope>,
        /// Who answered.
        by: &'a Answerer,
        /// A reason for a deny.
        reason: Option<&'a str>,
        /// What people in roles have signed.
        statement: Option<&'a Envelope>,
    },
    /// A statement of people in roles was not valid; the question stays open.
    GrantRefused {
        /// The question.
        approval: &'a ApprovalId,
        /// Who brought it.
        by: Person,
        /// What is wrong with it.
        why: &'a str,
    },
    /// The automatic reviewer has said something about a question.
    Reviewed {
        /// The question.
        question: &'a Question,
        /// What it said.
        opinion: &'a Opinion,
        /// What that comes to: an allow or deny, or people are asked.
        verdict: Option<Verdict>,
    },
    /// The automatic reviewer has denied so much that people answer from now on.
    ReviewerOff {
        /// How much.
        denials: u32,
    },
    /// A grant is about to be used.
    Used {
        /// The grant.
        approval: &'a ApprovalId,
        /// The decision it is used for.
        decision: DecisionId,
    },
    /// A grant was revoked; what it opened must be closed.
    Revoked {
        /// The grant.
        approval: &'a ApprovalId,
        /// Who revoked it.
        by: Person,
    },
}

/// A request whose decision was ask, and what the desk needs to know about it.
pub struct Asker<'a> {
    /// What is asked for.
    pub request: &'a Request,
    /// The decision, whose verdict is ask.
    pub decision: &'a Decision,
    /// Its number in the session.
    pub decision_id: DecisionId,
    /// The policy that decided.
    pub revision: Digest,
    /// What the agent says it is doing.
    pub intent: Option<String>,
    /// Decides the request again with approvals; only an allow lets a grant be used.
    pub decide: &'a (dyn Fn(&Approvals) -> Decision + Sync),
    /// Returns whether the program still waits for the answer (the process may be gone).
    pub wanted: &'a (dyn Fn() -> bool + Sync),
    /// What permits the asking process's command, if that covers the request.
    pub covered: Option<CoveredBy>,
    /// The rule that would answer the same in later sessions, if there is one.
    pub lasting: Option<LastingRule>,
}

/// How an ask ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A grant covers the request and one use of it is recorded.
    Granted {
        /// All approvals that cover it; `Policy::permit` turns them into a proof.
        approvals: Approvals,
        /// The one that was used.
        id: ApprovalId,
    },
    /// The request must not happen.
    Refused {
        /// The question, if one was asked.
        id: Option<ApprovalId>,
        /// Who refused.
        by: Answerer,
        /// Why, for the agent.
        reason: String,
    },
}

impl Outcome {
    /// A refusal for which no person is asked.
    pub(super) fn refused(id: Option<ApprovalId>, by: Circumstance, reason: &str) -> Self {
        Self::Refused {
            id,
            by: by.into(),
            reason: reason.to_owned(),
        }
    }
}

/// Checks what people in roles have signed about a question, at this time. It may read files; no lock is
/// held. The error says what is wrong.
pub type Verify =
    Box<dyn Fn(&Question, &Envelope, UnixMillis) -> Result<Granted, String> + Send + Sync>;

/// How far the people in roles are whom a question asks. It is only shown, and decides nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The stage that is open, by its name in the question.
    pub stage: String,
    /// How many have said yes in it.
    pub have: u32,
    /// How many must.
    pub need: u32,
    /// Until when they can, if that is sooner than the question expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMillis>,
    /// The role that is asked too, because the others took long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also: Option<String>,
}

/// Takes a question to the automatic reviewer; `false` if it takes no more now. It must be quick.
pub type Hand = Box<dyn Fn(&Arc<Question>) -> bool + Send + Sync>;

/// What the automatic reviewer says about a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// Allow or deny; `None` passes the question on to people.
    pub verdict: Option<Verdict>,
    /// How much harm it sees.
    pub risk: Option<Risk>,
    /// Whether it sees that the person has asked for it.
    pub authorisation: Option<Authorisation>,
    /// Who says so: `checks`, or `model NAME`.
    pub reviewer: String,
    /// Why, in its words.
    pub rationale: String,
}

impl Opinion {
    /// Passes a question on.
    pub fn pass(reviewer: &str, why: impl Into<String>) -> Self {
        Self {
            verdict: None,
            risk: None,
            authorisation: None,
            reviewer: reviewer.to_owned(),
            rationale: why.into(),
        }
    }
}

/// Why an answer was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// There is no such question.
    #[error("no question has the id `{0}`; list the open ones with `stockade approvals list`")]
    Unknown(ApprovalId),
    /// It was already answered.
    #[error("question {id} was already answered {verdict} by {by}; an answer is final")]
    Settled {
        /// The question.
        id: ApprovalId,
        /// The answer it has.
        verdict: Verdict,
        /// Who gave it.
        by: Answerer,
    },
    /// Another person's answer is being recorded.
    #[error("question {0} is being answered by another person just now; an answer is final")]
    Settling(ApprovalId),
    /// The automatic reviewer has it.
    #[error("question {0} is with the automatic reviewer; people are asked if it does not decide")]
    Reviewing(ApprovalId),
    /// It has expired.
    #[error("question {0} has expired and is denied")]
    Expired(ApprovalId),
    /// The scope is wider than what was shown or than the rule allows.
    #[error("{} is wider than this question offers; the widest is {}", .asked.in_words(), .max.in_words())]
    TooWide {
        /// What was asked for.
        asked: Scope,
        /// The widest possible.
        max: Scope,
    },
    /// Only people in roles can allow it; the question stays open.
    #[error("question {id} is answered by people in roles: {who}; here it can only be denied")]
    NeedsPeople {
        /// The question.
        id: ApprovalId,
        /// Who has to say yes.
        who: String,
    },
    /// What people in roles have signed does not allow it; the question stays open.
    #[error("this does not allow question {id}, which stays open: {why}")]
    NotGranted {
        /// The question.
        id: ApprovalId,
        /// What is wrong.
        why: String,
    },
    /// The scope would end at once; the question stays open.
    #[error("the scope ends in the past; the question is still open")]
    Past,
    /// The policy's state machine refused it.
    #[error("the grant was refused, so the request is denied: {0}")]
    Grant(GrantError),
    /// The program that asked is gone; an answer would benefit another one.
    #[error("question {0} is withdrawn: the program that asked no longer waits")]
    Withdrawn(ApprovalId),
    /// The answer could not be recorded.
    #[error("the answer could not be recorded, so the request is denied: {0}")]
    NotRecorded(String),
}
