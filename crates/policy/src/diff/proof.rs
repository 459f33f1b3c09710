//! What is certain about a rule without trying any request.

use std::cell::Cell;

use stockade_types::Verdict;

use super::{limits::PAIRS_MAX, pair::Pairs, parts::Part};
use crate::{
    Origin,
    kinds::{Body, net::NetBody},
};

/// The parts that proofs rest on.
pub(super) struct Proof<'a, 'p> {
    /// Parts that both policies have.
    same: &'a [Part<'p>],
    /// Every ask of either policy.
    asks: Vec<&'a Part<'p>>,
    /// Every allow of either policy.
    allows: Vec<&'a Part<'p>>,
    /// Pairs of parts that may still be compared.
    left: Cell<usize>,
}

impl<'a, 'p> Proof<'a, 'p> {
    pub(super) fn new(pairs: &'a Pairs<'p>) -> Self {
        let both = pairs.regrouped.iter().chain(&pairs.altered);
        let both = both.flat_map(|(old, new)| [old, new]);
        let one = pairs.removed.iter().chain(&pairs.added);
        let all: Vec<&Part<'p>> = pairs.same.iter().chain(both).chain(one).collect();
        let of = |effect| {
            let all = all.iter().copied();
            all.filter(move |part| part.effect() == effect).collect()
        };
        Self {
            same: &pairs.same,
            asks: of(Verdict::Ask),
            allows: of(Verdict::Allow),
            left: Cell::new(PAIRS_MAX),
        }
    }

    /// Takes as many comparisons as `count` from what is left; nothing is proved without.
    fn has_left(&self, count: usize) -> bool {
        match self.left.get().checked_sub(count) {
            Some(left) => {
                self.left.set(left);
                true
            }
            None => false,
        }
    }

    /// Tells whether a part that only one policy has certainly changes nothing.
    pub(super) fn is_harmless(&self, part: &Part<'_>) -> bool {
        if !self.has_left(self.same.len()) {
            return false;
        }
        match part.effect() {
            Verdict::Deny | Verdict::Ask => self.is_denied(part),
            Verdict::Allow => {
                self.is_denied(part) || (self.is_allowed(part) && !self.could_answer(part))
            }
        }
    }

    /// Tells whether both policies deny all that the part is about.
    fn is_denied(&self, part: &Part<'_>) -> bool {
        let denies = |other: &&Part<'_>| {
            let applies = other.effect() == Verdict::Deny && is_within(part, other);
            // A deny with conditions on requests, or on programs, leaves the connection or the name open.
            applies
                && match &other.body {
                    Body::Net(body) => is_plain(body),
                    Body::Exec(_) | Body::File(_) | Body::Tool(_) => true,
                    Body::Cedar(_) | Body::Control => false,
                }
        };
        self.same.iter().any(|other| denies(&other))
    }

    /// Tells whether both policies have an allow of at least this trust for all that the part is about, on the
    /// same terms.
    fn is_allowed(&self, part: &Part<'_>) -> bool {
        let allows = |other: &Part<'_>| {
            let terms = match (part.rule.net(), other.rule.net()) {
                (Some(own), Some(other)) => own.terms == other.terms && !own.terms.is_shared(),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            // In an allow a star ends at a colon, which containment does not know of.
            let has_colon = matches!(part.body, Body::Exec(_)) && part.words().contains(':');
            other.effect() == Verdict::Allow
                && !has_colon
                && other.rule.origin.authority() >= part.rule.origin.authority()
                && terms
                && is_within(part, other)
        };
        self.same.iter().any(allows)
    }

    /// Tells whether an allow could be an exception to some ask.
    pub(super) fn could_answer(&self, allow: &Part<'_>) -> bool {
        !self.has_left(self.asks.len()) || self.asks.iter().any(|ask| answers(allow, ask))
    }

    /// Tells whether some allow could be an exception to an ask.
    pub(super) fn could_be_answered(&self, ask: &Part<'_>) -> bool {
        !self.has_left(self.allows.len()) || self.allows.iter().any(|allow| answers(allow, ask))
    }

    /// Tells whether, without this ask, both policies certainly allow all that it is about, unless another rule
    /// denies it or asks. Then the ask can only tighten.
    pub(super) fn is_allowed_otherwise(&self, ask: &Part<'_>) -> bool {
        let is_total = |allow: &Part<'_>| match (&ask.body, &allow.body) {
            (Body::Net(own), Body::Net(other)) => {
                let private = !own.terms.private || other.terms.private;
                // Without conditions it matters not in which way a request is read.
                private && is_plain(other) && is_within(ask, allow)
            }
            (Body::Exec(_), Body::Exec(other)) => {
                let any = |command: &crate::pattern::CommandPattern| command.is_any();
                other.commands.iter().all(any)
                    && other.programs.is_none()
                    && other.cwd.is_none()
                    && other.environment.is_none()
            }
            (Body::Net(_) | Body::Exec(_), _) => false,
            // Without a rule, a change of a file and a tool call are allowed or denied by a control, and no ask
            // lifts that; a rule in Cedar opens nothing.
            (Body::File(_) | Body::Tool(_) | Body::Cedar(_) | Body::Control, _) => true,
        };
        match &ask.body {
            Body::File(_) | Body::Tool(_) | Body::Cedar(_) | Body::Control => true,
            Body::Net(_) | Body::Exec(_) => {
                let mut allows = self.same.iter();
                self.has_left(self.same.len())
                    && allows.any(|part| part.effect() == Verdict::Allow && is_total(part))
            }
        }
    }
}

/// Tells whether `allow` could be an exception to `ask`.
fn answers(allow: &Part<'_>, ask: &Part<'_>) -> bool {
    let is_default = ask.rule.origin == Origin::Builtin;
    let has_trust = allow.rule.origin.authority() >= ask.rule.origin.authority();
    (is_default || has_trust) && allow.body.lies_within(0, &ask.body, 0)
}

/// Tells whether a rule has no conditions but hosts and ports.
const fn is_plain(body: &NetBody) -> bool {
    !body.has_request_conditions() && body.programs.is_none()
}

/// Tells whether the other part certainly matches all that this one matches.
fn is_within(part: &Part<'_>, other: &Part<'_>) -> bool {
    part.body.is_pattern_covered_by(0, &other.body, 0)
}

/// Tells whether some request could match both parts.
pub(super) fn may_meet(part: &Part<'_>, other: &Part<'_>) -> bool {
    match (&part.body, &other.body) {
        (Body::Net(a), Body::Net(b)) => {
            let (a, b) = (a.hosts.first(), b.hosts.first());
            a.zip(b).is_none_or(|(a, b)| a.pattern.meets(&b.pattern))
        }
        (Body::Exec(_), Body::Exec(_))
        | (Body::File(_), Body::File(_))
        | (Body::Tool(_), Body::Tool(_)) => true,
        (
            Body::Net(_)
            | Body::Exec(_)
            | Body::File(_)
            | Body::Tool(_)
            | Body::Cedar(_)
            | Body::Control,
            _,
        ) => false,
    }
}
