//! What counts in a case, without IO: who may vote, what a vote is, and what votes come to.

use stockade_api::node::StageStanding;
use stockade_policy::{Scope, Stage, Strength};
use stockade_trust::{
    Asked, Ballot, Choice, Counted, Directory, Envelope, Grant, GrantError, Granted, Keys, Proof,
    ProofError, RelyingParty, Standing, User, UserId, Vote,
};
use stockade_types::{Digest, UnixMillis};

use crate::state::{QuestionRow, QuestionState};

/// Bytes of a reason.
const REASON_BYTES_MAX: usize = 2_000;
/// How long an answer holds that is used at once: the machine has to take it, and its program to go on.
const ONCE_MS: u64 = 10 * 60 * 1_000;
/// How long an answer for a session holds at most.
const SESSION_MS: u64 = 24 * 60 * 60 * 1_000;

/// What a person chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choosing {
    /// The stage; `None` for the first open one that the person may answer.
    pub stage: Option<String>,
    /// Override all stages (`break_glass`).
    pub breaks_glass: bool,
    /// Yes or no.
    pub choice: Choice,
    /// How far a yes reaches.
    pub scope: Scope,
    /// Until when a yes holds; `None` for as long as the scope lets it. What was signed names it.
    pub not_after: Option<UnixMillis>,
    /// Why.
    pub reason: Option<String>,
    /// The text that the person saw.
    pub rendered: Digest,
}

/// Why a vote is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaseError {
    /// There is no such question.
    #[error("there is no such question")]
    Unknown,
    /// It is answered, or nobody answered in time.
    #[error("the question is not open any more")]
    Over,
    /// The person saw another text.
    #[error("the question has another text now; read it again")]
    Text,
    /// The person is not one of those who may answer.
    #[error("you have no role that this question asks")]
    Role,
    /// The person asks.
    #[error("the session is yours: another person has to answer")]
    Requester,
    /// It is not known who asks.
    #[error(
        "it is not known whose session this is, so nobody can be kept from answering his own question; the machine needs an owner"
    )]
    RequesterUnknown,
    /// The person has voted.
    #[error("you have voted on this question")]
    Twice,
    /// The stage is not one that waits.
    #[error("stage `{0}` does not wait for votes")]
    Stage(String),
    /// It has to say why.
    #[error("a vote on this question needs a reason of at most 2000 bytes")]
    Reason,
    /// It reaches too far.
    #[error("the answer may reach as far as {0}")]
    Scope(String),
    /// The rule lets nobody override.
    #[error("nobody can override the stages of this question")]
    NoGlass,
    /// The person has signed in too long ago.
    #[error("sign in again: a vote needs a sign-in of the last five minutes")]
    Stale,
    /// It is not known to be the person's.
    #[error("{0}")]
    Proof(ProofError),
    /// The machine would not believe the grant.
    #[error("the grant would not be believed: {0}")]
    Grant(GrantError),
}

/// What the votes come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counting {
    /// More votes are needed.
    Open,
    /// It is denied.
    Denied {
        /// Why, in the words of who denied it.
        why: Option<String>,
    },
    /// It is allowed by these.
    Granted {
        /// The votes that the grant names.
        votes: Vec<Vote>,
    },
}

/// A question with what is judged about it.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    org: &'a str,
    row: &'a QuestionRow,
}

impl<'a> Case<'a> {
    /// Takes a question.
    pub const fn new(org: &'a str, row: &'a QuestionRow) -> Self {
        Self { org, row }
    }

    /// Returns the question.
    pub const fn row(&self) -> &'a QuestionRow {
        self.row
    }

    /// Returns what votes are about.
    pub fn ballot(&self) -> Ballot<'a> {
        Ballot {
            org: self.org,
            node: self.row.key.node.as_str(),
            session: &self.row.key.session,
            approval: &self.row.approval,
            nonce: self.row.sent.nonce,
            request: self.row.sent.question.request_digest(),
            revision: self.row.sent.revision,
            rendered: self.row.sent.rendered,
        }
    }

    /// Makes a person's vote, if the person may vote so; [`Self::proved`] checks its proof.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn draft(
        &self,
        directory: &Directory,
        user: &UserId,
        votes: &[Vote],
        choosing: &Choosing,
        proof: Proof,
        now: UnixMillis,
    ) -> Result<Vote, CaseError> {
        let sent = &self.row.sent;
        if self.row.state != QuestionState::Open || self.row.expires <= now {
            return Err(CaseError::Over);
        }
        if choosing.rendered != sent.rendered {
            return Err(CaseError::Text);
        }
        let person = directory.user(user).ok_or(CaseError::Role)?;
        self.may_answer(user)?;
        if votes.iter().any(|vote| vote.user == *user) {
            return Err(CaseError::Twice);
        }
        let stage = self.stage(person, votes, choosing)?;
        let reason = choosing.reason.as_deref().map(str::trim);
        let reason = reason.filter(|reason| !reason.is_empty());
        let needs_reason = sent.review.reason_required || choosing.breaks_glass;
        let is_long = reason.is_some_and(|reason| reason.len() > REASON_BYTES_MAX);
        if is_long || (needs_reason && reason.is_none()) {
            return Err(CaseError::Reason);
        }
        let longest = self.longest(choosing, now);
        let not_after = choosing.not_after.unwrap_or(longest);
        if choosing.choice == Choice::Allow {
            let max = sent.review.scope_max;
            let is_offered = sent.question.matter().offers(choosing.scope);
            let ends_in_time = not_after > now && not_after <= longest;
            if !choosing.scope.is_within(max) || !is_offered || !ends_in_time {
                return Err(CaseError::Scope(max.to_string()));
            }
        }
        Ok(Vote {
            user: user.clone(),
            stage,
            choice: choosing.choice,
            scope: choosing.scope,
            not_after,
            reason: reason.map(str::to_owned),
            at: now,
            proof,
        })
    }

    fn may_answer(&self, user: &UserId) -> Result<(), CaseError> {
        if self.row.requesters.is_empty() {
            return Err(CaseError::RequesterUnknown);
        }
        if self.row.requesters.contains(user) {
            return Err(CaseError::Requester);
        }
        Ok(())
    }

    /// Returns the stage that a vote is for: one that waits, and that the person has the role of.
    fn stage(
        &self,
        person: &User,
        votes: &[Vote],
        choosing: &Choosing,
    ) -> Result<String, CaseError> {
        let review = &self.row.sent.review;
        if choosing.breaks_glass {
            let glass = review.break_glass.as_ref().ok_or(CaseError::NoGlass)?;
            if choosing.choice == Choice::Deny || choosing.stage.is_some() {
                return Err(CaseError::NoGlass);
            }
            return person
                .has(&glass.role)
                .then(String::new)
                .ok_or(CaseError::Role);
        }
        let counted = counted(votes);
        let Standing::Open(open) = Standing::of(review, &counted) else {
            return Err(CaseError::Over);
        };
        let mine = |stage: &&&Stage| person.has(&stage.role);
        match &choosing.stage {
            None => {
                let first = open.iter().find(mine);
                let first = first.ok_or(CaseError::Role)?;
                Ok(first.name.clone())
            }
            Some(name) => {
                let stage = open.iter().find(|stage| stage.name == *name);
                let stage =
                    stage.ok_or_else(|| CaseError::Stage(name.chars().take(80).collect()))?;
                mine(&stage)
                    .then(|| stage.name.clone())
                    .ok_or(CaseError::Role)
            }
        }
    }

    /// Returns until when a yes may hold at most.
    fn longest(&self, choosing: &Choosing, now: UnixMillis) -> UnixMillis {
        let by_scope = match choosing.scope {
            Scope::Once | Scope::Uses(_) => self.row.expires.0.saturating_add(ONCE_MS),
            Scope::Session | Scope::Paths => now.0.saturating_add(SESSION_MS),
            Scope::Until(end) => end.0,
        };
        let glass = self.row.sent.review.break_glass.as_ref();
        let glass = glass.filter(|_| choosing.breaks_glass);
        let by_glass = glass.map_or(u64::MAX, |glass| now.0.saturating_add(glass.max_ms));
        UnixMillis(by_scope.min(by_glass))
    }

    /// Checks that a vote is its person's, as strongly as its stage needs it.
    ///
    /// # Errors
    /// What does not fit.
    pub fn proved(
        &self,
        directory: &Directory,
        vote: &Vote,
        party: &RelyingParty,
    ) -> Result<(), CaseError> {
        let review = &self.row.sent.review;
        let strength = if vote.stage.is_empty() {
            review.break_glass.as_ref().map(|glass| glass.strength)
        } else {
            review.stage(&vote.stage).map(|stage| stage.strength)
        };
        // Nothing that the rule does not have is weaker than what it has.
        let strength = strength.unwrap_or(Strength::Passkey);
        let person = directory.user(&vote.user).ok_or(CaseError::Role)?;
        let checked = self.ballot().check(vote, person, strength, party);
        checked.map_err(CaseError::Proof)
    }

    /// Counts votes. A vote of a person who is not in the directory any more, or does not have the role any
    /// more, does not count.
    pub fn count(&self, directory: &Directory, votes: &[Vote]) -> Counting {
        let review = &self.row.sent.review;
        let role_of = |stage: &str| review.stage(stage).map(|stage| &stage.role);
        if let Some(glass) = votes.iter().find(|vote| vote.stage.is_empty()) {
            return Counting::Granted {
                votes: vec![glass.clone()],
            };
        }
        let holds = |vote: &&Vote| {
            let person = directory.user(&vote.user);
            let role = role_of(&vote.stage);
            person
                .zip(role)
                .is_some_and(|(person, role)| person.has(role))
        };
        let valid: Vec<Vote> = votes.iter().filter(holds).cloned().collect();
        match Standing::of(review, &counted(&valid)) {
            Standing::Open(_) => Counting::Open,
            Standing::Granted => Counting::Granted { votes: valid },
            Standing::Denied(stage) => {
                let no = |vote: &&Vote| vote.stage == stage.name && vote.choice == Choice::Deny;
                let why = valid.iter().filter(no).find_map(|vote| vote.reason.clone());
                Counting::Denied { why }
            }
        }
    }

    /// Returns the stages that wait for votes, for those who wait.
    pub fn waiting(&self, votes: &[Vote]) -> Vec<StageStanding> {
        let Standing::Open(open) = Standing::of(&self.row.sent.review, &counted(votes)) else {
            return Vec::new();
        };
        let one = |stage: &&Stage| {
            let yes = votes
                .iter()
                .filter(|vote| vote.stage == stage.name && vote.choice == Choice::Allow);
            StageStanding {
                name: stage.name.clone(),
                have: u32::try_from(yes.count()).unwrap_or(u32::MAX),
                need: stage.need,
                until: self.row.expires,
            }
        };
        open.iter().map(one).collect()
    }

    /// Makes the grant: it reaches as far as each yes, and no further.
    pub fn grant(&self, votes: Vec<Vote>) -> Grant {
        let ballot = self.ballot();
        let yes: Vec<&Vote> = votes
            .iter()
            .filter(|vote| vote.choice == Choice::Allow)
            .collect();
        let scopes = || yes.iter().map(|vote| vote.scope);
        let narrowest = scopes().find(|one| scopes().all(|other| one.is_within(other)));
        let end = yes.iter().map(|vote| vote.not_after.0).min();
        Grant {
            org: self.org.to_owned(),
            node: ballot.node.to_owned(),
            session: ballot.session.clone(),
            approval: ballot.approval.clone(),
            nonce: ballot.nonce,
            request: ballot.request,
            revision: ballot.revision,
            rendered: ballot.rendered,
            // Two that do not contain each other have `once` in common.
            scope: narrowest.unwrap_or(Scope::Once),
            not_after: UnixMillis(end.unwrap_or_default()),
            broken_glass: votes.iter().any(|vote| vote.stage.is_empty()),
            votes,
        }
    }

    /// Checks a grant as the machine does.
    ///
    /// # Errors
    /// Why the machine would not believe it.
    pub fn verify(
        &self,
        envelope: &Envelope,
        directory: &Directory,
        servers: &Keys,
        party: &RelyingParty,
        now: UnixMillis,
    ) -> Result<Granted, GrantError> {
        let requesters = &self.row.requesters;
        let asked = Asked {
            ballot: self.ballot(),
            review: &self.row.sent.review,
            requesters_are_known: !requesters.is_empty(),
            requesters,
            directory,
            servers,
            party,
            now,
        };
        asked.verify(envelope)
    }
}

fn counted(votes: &[Vote]) -> Vec<Counted> {
    let one = |vote: &Vote| Counted {
        user: vote.user.clone(),
        stage: vote.stage.clone(),
        choice: vote.choice,
    };
    votes.iter().map(one).collect()
}
