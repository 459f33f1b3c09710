//! Rules for many targets of a record at once.

use stockade_types::{RequestKind, Target, Verdict};

use super::PIN;
use super::{LastingRule, Width, draft::Draft, tool};
use crate::{Approvals, Policy, Request};

/// Rules that are proposed at once: more than a person reads, and each is tried with the whole policy.
const PROPOSED_MAX: usize = 64;

/// A rule that would allow targets of a record, and which of them by their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// The rule.
    pub rule: LastingRule,
    /// Places in the list of targets, ascending.
    pub targets: Vec<usize>,
}

/// A rule that may still take in more requests.
pub(super) enum Open {
    Draft(Draft),
    Fixed(LastingRule),
}

impl Open {
    pub(super) fn rule(&self) -> LastingRule {
        match self {
            Self::Draft(draft) => draft.rule(),
            Self::Fixed(rule) => rule.clone(),
        }
    }

    fn merge(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::Draft(own), Self::Draft(other)) => own.merge(other),
            (Self::Fixed(own), Self::Fixed(other)) => own == other,
            (Self::Draft(_), Self::Fixed(_)) | (Self::Fixed(_), Self::Draft(_)) => false,
        }
    }
}

impl Policy {
    /// Returns the narrowest rules of the user that would allow targets which this policy asks about or
    /// does not allow, as few as that takes. What no such rule would allow is left out.
    pub fn propose(&self, targets: &[(RequestKind, &Target)], width: Width) -> Vec<Proposed> {
        if self.settings().require.contains_key(PIN) {
            return Vec::new();
        }
        let mut left: Vec<(usize, Request, Vec<Open>)> = Vec::new();
        for (place, (kind, target)) in targets.iter().enumerate() {
            let Some(request) = Request::of_target(*kind, target) else {
                continue;
            };
            let decision = self.decide(&request, &Approvals::none());
            if decision.verdict != Verdict::Allow {
                let rules = candidates(&request, width);
                left.push((place, request, rules));
            }
        }
        let mut proposed = Vec::new();
        // A rule about the meaning is tried before one about the path.
        while left.iter().any(|(.., rules)| !rules.is_empty()) {
            left.retain(|(.., rules)| !rules.is_empty());
            let mut groups: Vec<(Open, Vec<usize>)> = Vec::new();
            for (at, (.., rules)) in left.iter_mut().enumerate() {
                let rule = rules.remove(0);
                let place = groups.iter_mut().position(|(open, _)| open.merge(&rule));
                let is_full = groups.len() >= PROPOSED_MAX;
                match place.and_then(|place| groups.get_mut(place)) {
                    Some((_, all)) => all.push(at),
                    None if !is_full => groups.push((rule, vec![at])),
                    None => {}
                }
            }
            let mut done = Vec::new();
            for (open, all) in groups {
                let rule = open.rule();
                let Some(with) = self.with(&rule.to_toml("proposed", "proposed")) else {
                    continue;
                };
                let allowed = |at: &usize| {
                    let request = left.get(*at).map(|(_, request, _)| request);
                    request.is_some_and(|request| {
                        with.decide(request, &Approvals::none()).verdict == Verdict::Allow
                    })
                };
                if all.iter().all(allowed) {
                    let places = all.iter().filter_map(|at| Some(left.get(*at)?.0));
                    proposed.push(Proposed {
                        rule,
                        targets: places.collect(),
                    });
                    done.extend(all);
                }
            }
            let mut at = 0;
            left.retain(|_| {
                at += 1;
                !done.contains(&(at - 1))
            });
        }
        proposed.sort_by_key(|one| one.targets.first().copied());
        proposed
    }
}

/// Returns rules that could allow a request, the narrowest kind first.
pub(super) fn candidates(request: &Request, width: Width) -> Vec<Open> {
    match request {
        Request::Http(http) => {
            let drafts = Draft::of(&request.target(), http.shown_meaning(), width);
            drafts.into_iter().map(Open::Draft).collect()
        }
        Request::Tool(tool) => tool::rule(tool).map(Open::Fixed).into_iter().collect(),
        Request::Exec(_)
        | Request::Net(_)
        | Request::Name(_)
        | Request::File(_)
        | Request::Port(_)
        | Request::Definition(_) => {
            let rule = LastingRule::for_target(request.kind(), &request.target());
            rule.map(Open::Fixed).into_iter().collect()
        }
    }
}
