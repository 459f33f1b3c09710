//! Grants: the approved requests, as a pure state machine. The supervisor owns it.
//!
//! `Granted → Used(n) | Expired | Revoked`, or `Denied`; no path leads from a denied approval to a
//! granted one. `once` and `n-uses` bind [`Request::digest`] (exactly this, by this program), the
//! others [`Request::shape`], and `paths` what [`Request::below`] says; all bind the policy revision, so a changed policy voids every grant.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stockade_types::{ApprovalId, Digest, RequestKind, RuleId, UnixMillis, Verdict};

use crate::{Below, Decision, Request, Review, RuleName, Scope};

/// Most grants and denials kept in one session: far more than a person answers, little memory.
const SETTLED_MAX: usize = 65_536;

/// Why a grant was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The decision was not an ask, so there is nothing to grant.
    #[error("the decision was `{0}`, and only an ask can be granted")]
    NotAsked(Verdict),
    /// The rule does not allow a scope this wide.
    #[error("{} is wider than {}, the widest that the rule allows", .asked.in_words(), .max.in_words())]
    TooWide {
        /// What was asked for.
        asked: Scope,
        /// What the rule allows.
        max: Scope,
    },
    /// The approval already has an answer.
    #[error("approval {0} was answered before; an answer is final")]
    Settled(ApprovalId),
    /// Without a digest of the program a wide grant would also cover another program.
    #[error("the program has no digest, so {} would bind only its name; grant it `once`", .0.in_words())]
    NoIdentity(Scope),
    /// The request has no paths beside it that an answer could cover.
    #[error(
        "this is no request whose path has one meaning, so `paths` covers nothing; grant it `once`"
    )]
    NoPaths,
    /// The end is not in the future.
    #[error("the scope ends in the past")]
    Past,
    /// Only people in roles can answer.
    #[error("only people in roles can allow this: it asks {0}")]
    Reviewed(String),
    /// The session has settled as many approvals as it may.
    #[error("this session already has {SETTLED_MAX} answers; start a new one")]
    Full,
}

/// The approvals that are valid for one request and for the connection that it opens.
///
/// Empty means none. Only [`Grants::matching`] and [`Grants::lend`] make it; it can be serialised
/// so that the supervisor can hand it to the egress process over their private channel.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Approvals {
    entries: Vec<Approved>,
}

/// One approval with the request that it binds.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
struct Approved {
    id: ApprovalId,
    revision: Digest,
    rules: Vec<RuleName>,
    bound: Bound,
    connection: Option<Digest>,
}

/// What a grant is bound to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Bound {
    Exact(Digest),
    Shape(Digest),
    Below(Below),
}

impl Bound {
    fn of(request: &Request, scope: Scope) -> Result<Self, GrantError> {
        match scope {
            Scope::Once | Scope::Uses(_) => Ok(Self::Exact(request.digest())),
            Scope::Session | Scope::Until(_) => Ok(Self::Shape(request.shape())),
            Scope::Paths => request.below().map(Self::Below).ok_or(GrantError::NoPaths),
        }
    }

    fn covers(&self, request: &Request) -> bool {
        match self {
            Self::Exact(digest) => *digest == request.digest(),
            Self::Shape(shape) => *shape == request.shape(),
            Self::Below(below) => request.is_below(below),
        }
    }
}

/// How an approval covers a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The request itself was approved.
    Request,
    /// The connection that carries the request was approved.
    Connection,
}

impl Approvals {
    /// Returns no approvals.
    pub const fn none() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Iterates over the ids.
    pub fn ids(&self) -> impl Iterator<Item = &ApprovalId> {
        self.entries.iter().map(|e| &e.id)
    }

    /// Iterates over the rules that are answered for `request` under `revision`.
    pub(crate) fn answered(
        &self,
        request: &Request,
        revision: Digest,
    ) -> impl Iterator<Item = (&RuleName, Reach)> {
        self.entries
            .iter()
            .filter(move |entry| entry.revision == revision)
            .filter_map(|entry| entry.reach(request).map(|reach| (entry, reach)))
            .flat_map(|(entry, reach)| entry.rules.iter().map(move |rule| (rule, reach)))
    }
}

impl Approved {
    fn reach(&self, request: &Request) -> Option<Reach> {
        if self.bound.covers(request) {
            return Some(Reach::Request);
        }
        let carried = request.kind() == RequestKind::Http
            && self.connection.is_some()
            && self.connection == request.connection_shape();
        carried.then_some(Reach::Connection)
    }
}

/// One grant as lists show it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ListedGrant {
    /// The approval.
    pub id: ApprovalId,
    /// The rules whose question it answered.
    pub rules: Vec<RuleId>,
    /// What sort of effect.
    pub kind: RequestKind,
    /// What was approved, escaped for a terminal.
    pub target: String,
    /// How far it reaches.
    pub scope: Scope,
    /// Uses left, if they are counted.
    pub uses_left: Option<u32>,
    /// How often it was used.
    pub used: u64,
    /// When it was granted.
    pub granted: UnixMillis,
    /// Whether it was revoked.
    pub revoked: bool,
}

fn ids(rules: &[RuleName]) -> Vec<RuleId> {
    let mut ids: Vec<RuleId> = rules.iter().map(|rule| rule.id.clone()).collect();
    ids.dedup();
    ids
}

#[derive(Clone, Debug)]
struct Grant {
    approved: Approved,
    kind: RequestKind,
    target: String,
    scope: Scope,
    /// Until when people in roles have allowed it.
    not_after: Option<UnixMillis>,
    /// Who had to allow it.
    review: Option<Review>,
    uses_left: Option<u32>,
    used: u64,
    granted: UnixMillis,
    revoked: bool,
}

impl Grant {
    fn is_live(&self, revision: Digest, now: UnixMillis) -> bool {
        let in_scope = match self.scope {
            Scope::Until(end) => now < end,
            Scope::Once | Scope::Uses(_) | Scope::Session | Scope::Paths => true,
        };
        let in_time = in_scope && self.not_after.is_none_or(|end| now < end);
        !self.revoked && self.uses_left != Some(0) && in_time && self.approved.revision == revision
    }
}

/// All answers of one session.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    answered: BTreeMap<ApprovalId, Grant>,
    denied: BTreeSet<ApprovalId>,
    denials: BTreeMap<Digest, u32>,
    /// Shapes about which the person does not want to be asked again.
    denied_always: BTreeSet<Digest>,
}

impl Grants {
    /// Makes an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Grants the request with the scope `scope`.
    ///
    /// # Errors
    /// When the decision was not an ask or asks people in roles, the scope is wider than the rule allows,
    /// the approval already has an answer, a wide grant has no program digest to bind, or the scope has
    /// already ended.
    pub fn grant(
        &mut self,
        id: ApprovalId,
        request: &Request,
        decision: &Decision,
        scope: Scope,
        revision: Digest,
        now: UnixMillis,
    ) -> Result<(), GrantError> {
        if let Some(review) = decision.review() {
            return Err(GrantError::Reviewed(review.in_words()));
        }
        self.settle(id, request, decision, (scope, None), revision, now)
    }

    /// Grants what people in roles have allowed until `not_after`. The caller has checked what they say:
    /// nothing here knows them.
    ///
    /// # Errors
    /// As with [`Self::grant`], and when the time has passed.
    pub fn grant_reviewed(
        &mut self,
        id: ApprovalId,
        request: &Request,
        decision: &Decision,
        (scope, not_after): (Scope, UnixMillis),
        revision: Digest,
        now: UnixMillis,
    ) -> Result<(), GrantError> {
        if not_after <= now {
            return Err(GrantError::Past);
        }
        self.settle(
            id,
            request,
            decision,
            (scope, Some(not_after)),
            revision,
            now,
        )
    }

    fn settle(
        &mut self,
        id: ApprovalId,
        request: &Request,
        decision: &Decision,
        (scope, not_after): (Scope, Option<UnixMillis>),
        revision: Digest,
        now: UnixMillis,
    ) -> Result<(), GrantError> {
        let Some(stage) = decision
            .stage
            .as_ref()
            .filter(|_| decision.verdict == Verdict::Ask)
        else {
            return Err(GrantError::NotAsked(decision.verdict));
        };
        if self.denied.contains(&id) || self.answered.contains_key(&id) {
            return Err(GrantError::Settled(id));
        }
        if self.answered.len() + self.denied.len() >= SETTLED_MAX {
            return Err(GrantError::Full);
        }
        if !scope.is_within(stage.scope_max) {
            return Err(GrantError::TooWide {
                asked: scope,
                max: stage.scope_max,
            });
        }
        if matches!(scope, Scope::Until(end) if end <= now) {
            return Err(GrantError::Past);
        }
        let anonymous = matches!(request, Request::Exec(exec) if !exec.is_known_by_content());
        if anonymous && !scope.is_exact() {
            return Err(GrantError::NoIdentity(scope));
        }
        let bound = Bound::of(request, scope)?;
        let target = match &bound {
            Bound::Exact(_) | Bound::Shape(_) => request.target().summary(),
            Bound::Below(below) => below.to_string(),
        };
        let connection = if request.kind() == RequestKind::Net {
            request.connection_shape()
        } else {
            None
        };
        let uses_left = match scope {
            Scope::Once => Some(1),
            Scope::Uses(n) => Some(n),
            Scope::Session | Scope::Until(_) | Scope::Paths => None,
        };
        let grant = Grant {
            approved: Approved {
                id: id.clone(),
                revision,
                rules: decision.rules.clone(),
                bound,
                connection,
            },
            kind: request.kind(),
            target,
            scope,
            not_after,
            review: stage.review.clone(),
            uses_left,
            used: 0,
            granted: now,
            revoked: false,
        };
        self.answered.insert(id, grant);
        Ok(())
    }

    /// Returns the approvals that cover `request` now.
    pub fn matching(&self, request: &Request, revision: Digest, now: UnixMillis) -> Approvals {
        let live = self
            .answered
            .values()
            .filter(|grant| grant.is_live(revision, now));
        // The approval of a connection covers its requests only if it outlives the connection;
        // `once` covers them through the approvals with which the connection itself was opened.
        let covering = live.filter(|grant| match grant.approved.reach(request) {
            Some(Reach::Request) => true,
            Some(Reach::Connection) => !grant.scope.is_exact(),
            None => false,
        });
        Approvals {
            entries: covering.map(|grant| grant.approved.clone()).collect(),
        }
    }

    /// Extends an answer to a request of the command that it permitted; `None` if the answer is no
    /// longer in force, or if the request asks people who have not given it. The result covers exactly this request, and the requests on the connection
    /// that it opens.
    pub fn lend(
        &self,
        id: &ApprovalId,
        request: &Request,
        decision: &Decision,
        revision: Digest,
        now: UnixMillis,
    ) -> Option<Approvals> {
        let grant = self.answered.get(id)?;
        // It need not have a use left: the command is already running.
        let holds = Grant {
            uses_left: None,
            ..grant.clone()
        };
        let is_answered = match (&grant.review, decision.review()) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(given), Some(wanted)) => given.answers(wanted),
        };
        let asked = decision.verdict == Verdict::Ask && holds.is_live(revision, now);
        (asked && is_answered).then(|| Approvals {
            entries: vec![Approved {
                id: id.clone(),
                revision,
                rules: decision.rules.clone(),
                bound: Bound::Exact(request.digest()),
                connection: match request.kind() {
                    // Each other request is judged by itself.
                    RequestKind::Http => None,
                    _ => request.connection_shape(),
                },
            }],
        })
    }

    /// Returns whether a grant was given and not revoked.
    pub fn is_held(&self, id: &ApprovalId) -> bool {
        self.answered.get(id).is_some_and(|grant| !grant.revoked)
    }

    /// Uses one of `approvals` for `request`; one without a count first.
    ///
    /// `None` means that none of them is in force any more: the effect must not happen.
    pub fn consume(
        &mut self,
        request: &Request,
        approvals: &Approvals,
        now: UnixMillis,
    ) -> Option<ApprovalId> {
        let usable = |entry: &&Approved| {
            entry.reach(request).is_some()
                && self.answered.get(&entry.id).is_some_and(|grant| {
                    grant.approved == **entry && grant.is_live(entry.revision, now)
                })
        };
        let counted = |id: &ApprovalId| {
            self.answered
                .get(id)
                .is_some_and(|grant| grant.uses_left.is_some())
        };
        let id = approvals
            .entries
            .iter()
            .filter(usable)
            .min_by_key(|entry| counted(&entry.id))
            .map(|entry| entry.id.clone())?;
        let grant = self.answered.get_mut(&id)?;
        grant.uses_left = grant.uses_left.map(|left| left.saturating_sub(1));
        grant.used = grant.used.saturating_add(1);
        Some(id)
    }

    /// Revokes a grant; the caller must close what it opened.
    pub fn revoke(&mut self, id: &ApprovalId) -> bool {
        self.answered
            .get_mut(id)
            .is_some_and(|grant| !std::mem::replace(&mut grant.revoked, true))
    }

    /// Revokes a counted grant that was never used: the program it was for is gone.
    pub fn withdraw(&mut self, id: &ApprovalId) -> bool {
        let unused = |grant: &Grant| grant.uses_left.is_some() && grant.used == 0;
        self.answered.get(id).is_some_and(unused) && self.revoke(id)
    }

    /// Lists all grants of the session by id.
    pub fn list(&self) -> Vec<ListedGrant> {
        self.answered
            .values()
            .map(|grant| ListedGrant {
                id: grant.approved.id.clone(),
                rules: ids(&grant.approved.rules),
                kind: grant.kind,
                target: grant.target.clone(),
                scope: grant.scope,
                uses_left: grant.uses_left,
                used: grant.used,
                granted: grant.granted,
                revoked: grant.revoked,
            })
            .collect()
    }

    /// Records that an approval was denied, and returns how often this shape was denied by now.
    ///
    /// # Errors
    /// When the approval was answered before.
    pub fn deny(&mut self, id: ApprovalId, request: &Request) -> Result<u32, GrantError> {
        if self.answered.contains_key(&id) || self.denied.contains(&id) {
            return Err(GrantError::Settled(id));
        }
        if self.answered.len() + self.denied.len() >= SETTLED_MAX {
            return Err(GrantError::Full);
        }
        self.denied.insert(id);
        let count = self.denials.entry(request.shape()).or_insert(0);
        *count = count.saturating_add(1);
        Ok(*count)
    }

    /// Records that the person does not want to be asked about this shape again.
    pub fn deny_always(&mut self, request: &Request) {
        if self.denied_always.len() < SETTLED_MAX {
            self.denied_always.insert(request.shape());
        }
    }

    /// Returns whether the person does not want to be asked about this shape again.
    pub fn is_denied_always(&self, request: &Request) -> bool {
        self.denied_always.contains(&request.shape())
    }

    /// Returns how often the shape of `request` was denied.
    pub fn denied_count(&self, request: &Request) -> u32 {
        self.denials.get(&request.shape()).copied().unwrap_or(0)
    }
}
