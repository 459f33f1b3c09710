//! A question with everything that its text is made of, and nothing else.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use stockade_policy::{Below, Decision, Origin, Published, Request, Review, Scope};
use stockade_types::{Digest, RuleId, UnixMillis};

use crate::{patience, text::Shown};

/// Most uses of one counted grant: a person who wants more means the session.
pub const USES_MAX: u32 = 100;
/// The version of the form and of the text: two programs that know the same one make the same text.
const VERSION: u32 = 1;

/// Why it is asked, and within what bounds: what a question says of the decision behind it.
///
/// It is what the machine says. Who has the policy can decide [`CanonicalQuestion::request`] again and
/// compare; of a rule of a lower layer, which nobody else has, there is only the machine's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grounds {
    /// The rule that asks; `None` if no rule names the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleId>,
    /// The layer of the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Why, in the words of the rule's author or of the control.
    pub reason: String,
    /// The nearest thing that is allowed without asking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest_allow: Option<String>,
    /// An answer opens private addresses of the host too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub private: bool,
    /// The widest answer by the rule; `None` if it can only be denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_max: Option<Scope>,
    /// The people in roles who have to say yes, if not whoever is at the terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
}

impl Grounds {
    /// Takes what a question says of a decision.
    pub fn of(decision: &Decision) -> Self {
        Self {
            rule: decision.rule.clone(),
            origin: decision.origin,
            reason: decision.reason.clone(),
            nearest_allow: decision.nearest_allow.clone(),
            private: decision.terms.private,
            scope_max: decision.stage.as_ref().map(|stage| stage.scope_max),
            review: decision.review().cloned(),
        }
    }
}

/// What a question is about: everything that its text is made of.
#[derive(Clone, Debug)]
pub struct Matter<'q> {
    /// What is asked for, exactly.
    pub request: &'q Request,
    /// Why it is asked.
    pub grounds: Cow<'q, Grounds>,
    /// The agent, by the name of its preset or command.
    pub agent: &'q str,
    /// What the agent says it is doing; its own words, never checked.
    pub intent: Option<&'q str>,
    /// When it was asked.
    pub asked: UnixMillis,
    /// When it becomes a deny by itself.
    pub expires: UnixMillis,
}

impl Matter<'_> {
    /// Returns the widest scope that may be granted, or `None` if none may.
    ///
    /// A program without a digest is known only by its path, so no grant may outlive counted uses.
    pub fn scope_max(&self) -> Option<Scope> {
        let max = self.grounds.scope_max?;
        let anonymous = matches!(self.request, Request::Exec(exec) if !exec.is_known_by_content());
        Some(match max {
            Scope::Session if anonymous => Scope::Uses(USES_MAX),
            Scope::Until(_) if anonymous => Scope::Once,
            Scope::Uses(n) => Scope::Uses(n.min(USES_MAX)),
            other => other,
        })
    }

    /// Returns whether an answer may have the scope `scope`.
    pub fn offers(&self, scope: Scope) -> bool {
        let bounded = !matches!(scope, Scope::Uses(n) if n > USES_MAX);
        let exists = scope != Scope::Paths || self.request.below().is_some();
        bounded && exists && self.scope_max().is_some_and(|max| scope.is_within(max))
    }

    /// Returns the requests that the answer `paths` covers, if it may be given.
    pub fn paths(&self) -> Option<Below> {
        self.request.below().filter(|_| self.offers(Scope::Paths))
    }

    /// Returns when the program that asks usually gives up, if that is known and comes before the
    /// question expires.
    pub fn gives_up(&self) -> Option<UnixMillis> {
        let patience = patience::of(self.request)?;
        let millis = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let end = UnixMillis(self.asked.0.saturating_add(millis));
        (end < self.expires).then_some(end)
    }

    /// Returns the question in the form in which it leaves the machine.
    pub fn canonical(&self) -> CanonicalQuestion {
        CanonicalQuestion {
            version: VERSION,
            request: Published::new(self.request.clone()),
            grounds: self.grounds.clone().into_owned(),
            agent: self.agent.to_owned(),
            intent: self.intent.map(str::to_owned),
            asked: self.asked,
            expires: self.expires,
        }
    }
}

/// A question in the form in which it leaves the machine.
///
/// What is read is refused if it has another version, a field that this program does not know, or a
/// request that is not what its digest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanonicalQuestion {
    #[serde(deserialize_with = "known_version")]
    version: u32,
    /// What is asked for.
    pub request: Published,
    /// Why it is asked; the machine's word.
    pub grounds: Grounds,
    /// The agent, by the name of its preset or command.
    pub agent: String,
    /// What the agent says it is doing; its own words, never checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    /// When it was asked, by the clock of the machine.
    pub asked: UnixMillis,
    /// When it becomes a deny by itself.
    pub expires: UnixMillis,
}

impl CanonicalQuestion {
    /// Returns what it is about.
    pub fn matter(&self) -> Matter<'_> {
        Matter {
            request: self.request.request(),
            grounds: Cow::Borrowed(&self.grounds),
            agent: &self.agent,
            intent: self.intent.as_deref(),
            asked: self.asked,
            expires: self.expires,
        }
    }

    /// Returns its text.
    pub fn shown(&self) -> Shown {
        self.matter().shown()
    }

    /// Returns the hash of the exact request.
    pub const fn request_digest(&self) -> Digest {
        self.request.digest()
    }
}

fn known_version<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let version = u32::deserialize(from)?;
    if version == VERSION {
        return Ok(version);
    }
    Err(serde::de::Error::custom(format!(
        "the question has the form {version}; this program knows {VERSION}: bring both programs to one version"
    )))
}
