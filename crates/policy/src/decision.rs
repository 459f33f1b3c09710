//! What was decided, and the proof of it.

use std::fmt;

use serde::{Deserialize, Serialize};
use stockade_types::{
    Answerer, DecisionId, DecisionRecord, Digest, Risk, RuleId, SessionId, Span, UnixMillis,
    Verdict,
};

use crate::{NetRequest, Origin, Request, Review, RuleName, Scope, Terms, ToolRequest};

/// The answer to one [`Request`].
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What was decided.
    pub verdict: Verdict,
    /// The rule that decided; `None` if no rule matches the request.
    pub rule: Option<RuleId>,
    /// All rules that contributed.
    pub rules: Vec<RuleName>,
    /// The layer of `rule`.
    pub origin: Option<Origin>,
    /// Why, in the words of the rule's author or of the built-in control.
    pub reason: String,
    /// Who said no, if a question was answered with no or could not be answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Answerer>,
    /// The condition of the nearest allow rule that was not met (`host`, `port`, `method`, …).
    pub failed_condition: Option<String>,
    /// The nearest thing that is allowed.
    pub nearest_allow: Option<String>,
    /// The one step that would change this answer; empty for an allow.
    pub remedy: String,
    /// Who is asked and for how long, if the verdict is ask.
    pub stage: Option<AskStage>,
    /// The terms on which the rules open a host; none if they open nothing.
    #[serde(flatten)]
    pub terms: Terms,
    /// Only readable HTTP may pass, with each request judged by itself; any other traffic on the
    /// connection (TLS, opaque bytes) must be refused, because the rule has conditions on requests.
    #[serde(default)]
    pub http_only: bool,
}

/// Who answers an ask, and within what bounds.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct AskStage {
    /// Who is asked.
    pub reviewer: Reviewer,
    /// How long the question stays open before it is a deny.
    pub expires: Span,
    /// The widest scope that may be granted.
    pub scope_max: Scope,
    /// Which people in roles have to say yes; nobody else can. Without it, whoever is at the terminal or
    /// at the inbox answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
    /// The highest risk that the automatic reviewer may allow; without it, it may only deny or pass on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviewer_allows: Option<Risk>,
}

impl AskStage {
    /// How long a question stays open by default: long enough to come back from the next room,
    /// short enough that a build does not hang unnoticed.
    pub(crate) const EXPIRES: Span = Span::from_millis(5 * 60 * 1000);
}

/// Who answers an ask.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Reviewer {
    /// The automatic reviewer alone: what it does not allow is denied.
    Bot,
    /// A person.
    Human,
    /// The automatic reviewer first, people if it does not decide.
    BotThenHuman,
}

impl Reviewer {
    /// Returns who answers two questions at once: people before anybody else.
    pub(crate) const fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Human, _) | (_, Self::Human) => Self::Human,
            (Self::BotThenHuman, _) | (_, Self::BotThenHuman) => Self::BotThenHuman,
            (Self::Bot, Self::Bot) => Self::Bot,
        }
    }

    /// Returns the word used in policy files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bot => "bot",
            Self::Human => "human",
            Self::BotThenHuman => "bot-then-human",
        }
    }
}

impl fmt::Display for Reviewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Decision {
    /// Makes a decision with only the deciding rule, the reason, and the remedy.
    pub(crate) fn plain(
        verdict: Verdict,
        by: Option<(RuleId, Origin)>,
        reason: impl Into<String>,
        remedy: &str,
    ) -> Self {
        let named = by.clone().map(|(id, origin)| RuleName { id, origin });
        let (rule, origin) = by.unzip();
        Self {
            verdict,
            rules: named.into_iter().collect(),
            rule,
            origin,
            reason: reason.into(),
            answered: None,
            failed_condition: None,
            nearest_allow: None,
            remedy: remedy.to_owned(),
            stage: None,
            terms: Terms::default(),
            http_only: false,
        }
    }

    /// Returns which people in roles have to say yes, if the verdict is ask.
    pub fn review(&self) -> Option<&Review> {
        self.stage.as_ref()?.review.as_ref()
    }

    /// Makes the object that denials, events, approvals and HTTP bodies share.
    pub fn record(
        &self,
        id: DecisionId,
        request: &Request,
        revision: Digest,
        session: SessionId,
        time: UnixMillis,
    ) -> DecisionRecord {
        DecisionRecord {
            decision: id,
            verdict: self.verdict,
            kind: request.kind(),
            subject: request.subject().clone(),
            target: request.target(),
            rule: self.rule.clone(),
            answered: self.answered.clone(),
            reason: self.reason.clone(),
            failed_condition: self.failed_condition.clone(),
            nearest_allow: self.nearest_allow.clone(),
            remedy: self.remedy.clone(),
            policy_revision: revision,
            session,
            time,
        }
    }
}

/// A value that represents an effect on which policy can decide.
pub trait AsRequest {
    /// Returns the request that the value represents.
    fn as_request(&self) -> Request;
}

impl AsRequest for Request {
    fn as_request(&self) -> Request {
        self.clone()
    }
}

impl AsRequest for NetRequest {
    fn as_request(&self) -> Request {
        Request::Net(self.clone())
    }
}

impl AsRequest for ToolRequest {
    fn as_request(&self) -> Request {
        Request::Tool(self.clone())
    }
}

/// The proof that policy allowed the effect of the value; only this crate can make one.
#[derive(Debug)]
pub struct Permitted<T>(T);

impl<T> Permitted<T> {
    /// Wraps a value that was just allowed.
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }

    /// Returns the value.
    pub const fn get(&self) -> &T {
        &self.0
    }

    /// Returns the value and gives up the proof.
    pub fn into_inner(self) -> T {
        self.0
    }
}
