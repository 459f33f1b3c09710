//! One checked rule, of any kind.

use std::fmt;

use stockade_types::{RequestKind, RuleId, Verdict};

use crate::{
    AskStage, Decision, Origin, RuleName,
    kinds::{Body, Features, Fit, Miss, net::NetBody},
};

/// A checked rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) id: RuleId,
    pub(crate) effect: Verdict,
    pub(crate) origin: Origin,
    /// The place, as `file:line`.
    pub(crate) place: String,
    pub(crate) reason: String,
    pub(crate) stage: Option<AskStage>,
    /// Its refusals are counted in one line, not reported one by one.
    pub(crate) quiet: bool,
    pub(crate) body: Body,
}

impl Rule {
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.origin, self.id)
    }

    pub(crate) fn name(&self) -> RuleName {
        RuleName {
            id: self.id.clone(),
            origin: self.origin,
        }
    }

    /// Returns whether it could deny a tool call or cause a question about one.
    pub(crate) fn restricts_tools(&self) -> bool {
        match &self.body {
            Body::Tool(_) => self.effect != Verdict::Allow,
            Body::Cedar(body) => body.is_about(RequestKind::Tool),
            Body::Net(_) | Body::Exec(_) | Body::File(_) | Body::Control => false,
        }
    }

    pub(crate) fn has_name(&self, name: &RuleName) -> bool {
        self.origin == name.origin && self.id == name.id
    }

    /// Returns whether the rule contributed to a decision.
    pub(crate) fn has_part(&self, decision: &Decision) -> bool {
        decision.rules.iter().any(|name| self.has_name(name))
    }

    pub(crate) const fn net(&self) -> Option<&NetBody> {
        match &self.body {
            Body::Net(body) => Some(body),
            Body::Exec(_) | Body::File(_) | Body::Tool(_) | Body::Cedar(_) | Body::Control => None,
        }
    }

    /// Returns whether the rule opens nothing, even if its question is answered.
    pub(crate) const fn only_tightens(&self) -> bool {
        matches!(self.body, Body::Cedar(_))
    }

    pub(crate) fn is_private(&self) -> bool {
        self.net().is_some_and(|body| body.terms.private)
    }

    /// Returns whether the approval of a connection answers this rule for the requests on it.
    pub(crate) fn is_about_connections(&self) -> bool {
        match &self.body {
            Body::Net(body) => !body.has_request_conditions(),
            Body::Cedar(body) => body.is_about(RequestKind::Net),
            Body::Exec(_) | Body::File(_) | Body::Tool(_) | Body::Control => false,
        }
    }

    /// Judges the request by one of the rule's patterns.
    pub(crate) fn fit(&self, pattern: usize, features: &Features<'_>) -> Result<Fit, Miss> {
        self.body.fit(self.effect, pattern, features)
    }

    /// Returns whether this allow rule, matched by `pattern`, is an exception to an ask that was
    /// matched by `asked`. The crate documentation defines exceptions.
    pub(crate) fn answers(&self, pattern: usize, ask: &Self, asked: &[usize]) -> bool {
        let default = ask.origin == Origin::Builtin && self.origin != Origin::Builtin;
        if self.origin.authority() < ask.origin.authority() {
            return false;
        }
        let within = asked
            .iter()
            .all(|q| self.body.lies_within(pattern, &ask.body, *q));
        if default {
            return within && self.body.is_explicit(pattern);
        }
        within
            && !asked
                .iter()
                .any(|q| ask.body.lies_within(*q, &self.body, pattern))
    }

    /// Returns whether part of this rule lies within the other one, but not the other way round.
    pub(crate) fn is_narrower_than(&self, other: &Self) -> bool {
        let within = |a: &Self, b: &Self| {
            (0..a.body.patterns())
                .any(|x| (0..b.body.patterns()).any(|y| a.body.lies_within(x, &b.body, y)))
        };
        within(self, other) && !within(other, self)
    }

    /// Returns whether `outer` certainly matches everything that this rule matches.
    pub(crate) fn is_covered_by(&self, outer: &Self) -> bool {
        self.body.is_covered_by(&outer.body)
    }
}

impl fmt::Display for Rule {
    /// Writes the conditions for people, for example `net good.test on 443, 80; methods GET`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.body.fmt(f)
    }
}
