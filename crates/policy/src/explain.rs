//! The words of a decision: which rule, why, which rule nearly allowed it, and the one next step.

use stockade_types::{Span, Verdict};

use crate::{
    AskStage, Decision, Origin, Request, Review, ReviewError, Terms, WorkspaceSettings,
    controls::{CONTENT, METADATA, NEVER, PRIVATE, PROTECTED},
    engine::{EngineError, Tally},
    kinds::{Features, Miss, index::Index},
    rule::Rule,
};

/// The file in which a user writes rules, as messages name it.
const USER_FILE: &str = "~/.config/stockade/policy.toml";

/// The remedy if the path of a request has more than one meaning.
const PLAINLY: &str =
    "send the path in its plain spelling, or have the rule mean the whole host, without `paths`";

/// Most allow rules that are compared to find the narrowest; that only decides which is shown
/// first.
const SHOWN_MAX: usize = 16;

/// A decision that needs its words.
pub(crate) struct Explain<'p> {
    pub(crate) rules: &'p [Rule],
    pub(crate) index: &'p Index,
    pub(crate) workspace: &'p WorkspaceSettings,
    pub(crate) request: &'p Request,
    pub(crate) features: &'p Features<'p>,
    pub(crate) tally: &'p Tally,
}

/// The engine's result.
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) http_only: bool,
}

/// An allow rule that nearly matched.
struct Near {
    text: String,
    miss: Miss,
}

impl Explain<'_> {
    pub(crate) fn decision(&self, outcome: &Outcome) -> Decision {
        match outcome.verdict {
            Verdict::Allow => self.allow(outcome.http_only),
            Verdict::Ask => self.ask(),
            Verdict::Deny => self.deny(),
        }
    }

    /// A request that could not be evaluated is denied.
    pub(crate) fn error(error: &EngineError) -> Decision {
        let reason = format!("the policy could not be evaluated, so nothing is allowed: {error}");
        let remedy = "report this; `stockade policy check` shows the policy";
        Decision::plain(Verdict::Deny, None, reason, remedy)
    }

    fn taking_part(&self, effect: Verdict) -> Vec<(usize, &Rule)> {
        let matched = self.tally.matched.iter().chain(&self.tally.later);
        let mut rules: Vec<(usize, &Rule)> = matched
            .filter_map(|number| Some((*number, self.rules.get(*number)?)))
            .filter(|(_, rule)| rule.effect == effect)
            .collect();
        // The most trusted layer comes first; within it the rule's name decides, never the order of
        // rules.
        rules.sort_by(|(a, x), (b, y)| {
            let controls = (*b <= PROTECTED).cmp(&(*a <= PROTECTED));
            let layer = y.origin.authority().cmp(&x.origin.authority());
            controls.then(layer).then_with(|| x.id.cmp(&y.id))
        });
        rules
    }

    fn blank(&self, verdict: Verdict, rules: &[(usize, &Rule)]) -> Decision {
        let names = rules.iter().map(|(_, rule)| rule.name()).collect();
        let first = rules.first().map(|(_, rule)| *rule);
        let considered = self.tally.matched.iter().chain(&self.tally.later);
        let opening = considered
            .filter_map(|number| self.rules.get(*number))
            .filter(|rule| verdict != Verdict::Deny && rule.effect != Verdict::Deny);
        let opening = opening.filter_map(|rule| Some((&rule.id, rule.net()?.terms, rule.origin)));
        let terms = Terms::of(opening);
        let by = first.map(|rule| (rule.id.clone(), rule.origin));
        let reason = first.map(|rule| rule.reason.clone()).unwrap_or_default();
        Decision {
            rules: names,
            terms,
            ..Decision::plain(verdict, by, reason, "")
        }
    }

    fn allow(&self, http_only: bool) -> Decision {
        let approved: Vec<(usize, &Rule)> = self
            .taking_part(Verdict::Ask)
            .into_iter()
            .filter(|(number, _)| self.tally.approved.contains(number))
            .collect();
        if !approved.is_empty() {
            let decision = self.blank(Verdict::Allow, &approved);
            let reason = format!("approved: {}", decision.reason);
            return Decision {
                reason,
                ..only_http(decision, http_only)
            };
        }
        let mut rules = self.taking_part(Verdict::Allow);
        if rules.is_empty() {
            // A connection that is open only so that a person can be asked about its requests.
            rules = self.taking_part(Verdict::Ask);
        }
        // People want to see the narrowest of several rules.
        let narrowest = rules.iter().position(|(_, rule)| {
            !rules
                .iter()
                .take(SHOWN_MAX)
                .any(|(_, other)| other.is_narrower_than(rule))
        });
        if let Some(place) = narrowest.filter(|place| *place < SHOWN_MAX) {
            rules.swap(0, place);
        }
        only_http(self.blank(Verdict::Allow, &rules), http_only)
    }

    fn ask(&self) -> Decision {
        let open: Vec<(usize, &Rule)> = self
            .taking_part(Verdict::Ask)
            .into_iter()
            .filter(|(number, _)| {
                self.tally.matched.contains(number)
                    && !self.tally.approved.contains(number)
                    && !self.tally.excepted.contains(number)
            })
            .collect();
        let near = self.near();
        let stage = match strictest(open.iter().filter_map(|(_, rule)| rule.stage.as_ref())) {
            Ok(stage) => stage,
            Err(error) => return self.unanswerable(&open, &error),
        };
        let review = stage.as_ref().and_then(|stage| stage.review.as_ref());
        let owner = open
            .first()
            .map_or(Origin::Builtin, |(_, rule)| rule.origin);
        let remedy = if open.iter().any(|(number, _)| *number == CONTENT) {
            "allow it when asked, or make this change yourself, outside the session".to_owned()
        } else if let Some(review) = review {
            format!("wait for the answer: it asks {}", review.in_words())
        } else if owner == Origin::Builtin {
            format!(
                "allow it when asked, or add {} to {USER_FILE}",
                self.features.suggestion()
            )
        } else {
            format!("allow it when asked; the {owner} layer wants the question")
        };
        let blank = self.blank(Verdict::Ask, &open);
        let reason = match open.first().and_then(|(_, rule)| self.doubt(rule)) {
            Some(what) => format!(
                "{what}, so it could be what is asked about: {}",
                blank.reason
            ),
            None => blank.reason.clone(),
        };
        Decision {
            stage,
            remedy,
            reason,
            failed_condition: near.as_ref().map(|near| near.miss.as_str().to_owned()),
            nearest_allow: near.map(|near| near.text),
            ..blank
        }
    }

    /// Denies what several rules ask of more people than one question can have.
    fn unanswerable(&self, open: &[(usize, &Rule)], error: &ReviewError) -> Decision {
        let ids: Vec<String> = open
            .iter()
            .map(|(_, rule)| format!("`{}`", rule.id))
            .collect();
        Decision {
            reason: format!(
                "the stages of the rules {} do not fit into one question: {error}",
                ids.join(", ")
            ),
            remedy: "have the rules name fewer stages or alternatives".to_owned(),
            ..self.blank(Verdict::Deny, open)
        }
    }

    fn deny(&self) -> Decision {
        let rules = self.taking_part(Verdict::Deny);
        let near = self.near();
        let nearest_allow = near.as_ref().map(|near| near.text.clone());
        let Some((number, rule)) = rules.first() else {
            let miss = near.map_or(self.features.subject_matter(), |near| near.miss);
            let (reason, remedy) = match self.ambiguity().filter(|_| miss == Miss::RequestPath) {
                Some(what) => (
                    format!("{what}, so no `paths` allow it"),
                    PLAINLY.to_owned(),
                ),
                None => (
                    self.features
                        .unmatched(&self.request.target().summary(), miss),
                    format!("add {} to {USER_FILE}", self.features.suggestion()),
                ),
            };
            return Decision {
                reason: format!("no rule allows it: {reason}"),
                failed_condition: Some(miss.as_str().to_owned()),
                nearest_allow,
                remedy,
                ..self.blank(Verdict::Deny, &rules)
            };
        };
        let remedy = match *number {
            METADATA => "none: cloud metadata is never reachable".to_owned(),
            NEVER => "none: it is never dialled".to_owned(),
            PRIVATE => format!(
                "name this address with `private = true` in an [[allow]] rule of {USER_FILE}"
            ),
            PROTECTED => "make this change yourself, outside the session".to_owned(),
            _ if rule.origin == Origin::Organisation || rule.origin == Origin::Builtin => {
                "ask a policy owner; this rule is absolute".to_owned()
            }
            _ => format!(
                "change the rule at {}; no approval lifts a deny",
                rule.place
            ),
        };
        let decision = self.blank(Verdict::Deny, &rules);
        let (reason, remedy) = match (
            self.protecting_pattern().filter(|_| *number == PROTECTED),
            self.doubt(rule),
        ) {
            (Some(pattern), _) => (
                format!("`{pattern}` is protected: {}", decision.reason),
                remedy,
            ),
            (None, Some(what)) => (
                format!(
                    "{what}, so it could be what this rule denies: {}",
                    decision.reason
                ),
                PLAINLY.to_owned(),
            ),
            (None, None) => (decision.reason.clone(), remedy),
        };
        let condition = if self.doubt(rule).is_some() {
            Miss::RequestPath
        } else {
            self.features.subject_matter()
        };
        Decision {
            reason,
            failed_condition: Some(condition.as_str().to_owned()),
            nearest_allow,
            remedy,
            ..decision
        }
    }

    /// Says which part of the path of a request is ambiguous.
    fn ambiguity(&self) -> Option<String> {
        match self.features {
            Features::Net(net) => net.ambiguity(),
            Features::Exec(_) | Features::File(_) | Features::Tool(_) => None,
        }
    }

    /// The same, if the rule is about paths.
    fn doubt(&self, rule: &Rule) -> Option<String> {
        rule.net()?.paths.as_ref()?;
        self.ambiguity()
    }

    fn protecting_pattern(&self) -> Option<&str> {
        let Features::File(file) = self.features else {
            return None;
        };
        let relative = file.request.workspace_relative.as_ref()?.as_bytes();
        let workspace = self.workspace;
        workspace
            .protects(relative)
            .or_else(|| workspace.protects_below(relative))
    }

    /// Finds, among the rules near the request in the index, the allow rule that fails at the last
    /// check.
    fn near(&self) -> Option<Near> {
        let candidates = self.index.near(self.features).into_iter();
        let nearest = candidates
            .filter_map(|candidate| {
                let rule = self.rules.get(candidate.rule)?;
                let miss = rule.fit(candidate.pattern, self.features).err()?;
                (rule.effect == Verdict::Allow).then_some((miss, rule, candidate.pattern))
            })
            .max_by(|(a, x, _), (b, y, _)| a.cmp(b).then_with(|| y.id.cmp(&x.id)));
        let (miss, rule, pattern) = nearest?;
        Some(Near {
            text: rule.body.example(pattern)?,
            miss,
        })
    }
}

/// Combines several asks into one question, with the strictest of their limits and all people that they
/// ask.
fn strictest<'s>(
    stages: impl Iterator<Item = &'s AskStage>,
) -> Result<Option<AskStage>, ReviewError> {
    let mut all: Option<AskStage> = None;
    for stage in stages {
        all = Some(match all {
            None => stage.clone(),
            Some(before) => both(&before, stage)?,
        });
    }
    Ok(all)
}

fn both(a: &AskStage, b: &AskStage) -> Result<AskStage, ReviewError> {
    let scope_max = a.scope_max.narrower(b.scope_max);
    let review = match (&a.review, &b.review) {
        (Some(a), Some(b)) => Some(a.and(b)?),
        (Some(one), None) | (None, Some(one)) => Some(one.clone()),
        (None, None) => None,
    };
    Ok(AskStage {
        reviewer: a.reviewer.stricter(b.reviewer),
        expires: Span::from_millis(a.expires.millis().min(b.expires.millis())),
        scope_max,
        review: review.map(|review| Review {
            scope_max,
            ..review
        }),
        // One that may allow nothing of the one may allow nothing of both.
        reviewer_allows: a
            .reviewer_allows
            .zip(b.reviewer_allows)
            .map(|(a, b)| a.min(b)),
    })
}

/// Opens a connection for requests alone, where rules look at them or at what they have in them.
fn only_http(decision: Decision, http_only: bool) -> Decision {
    Decision {
        http_only: http_only || !decision.terms.content_denied.is_empty(),
        ..decision
    }
}
