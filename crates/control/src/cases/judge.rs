//! What counts in a case, without IO: who may vote, what a vote is, and what votes come to.

use stockade_api::node::StageStanding;
use stockade_policy::{Scope, Stage, Strength};
use stockade_trust::{
    Asked, Ballot, Choice, Counted, Directory, Envelope, Grant, GrantError, Granted, Keys, Proof,
    ProofError, RelyingParty, Role, Standing, TurnError, User, UserId, Vote, opened, turn,
};
use stockade_types::{Digest, UnixMillis};

use super::{FRESH_MS, Voter, clock};
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
    /// The person is asked only if the others take long.
    #[error("the question asks you only if the others do not answer; wait until {} UTC", clock(*.0))]
    NotYet(UnixMillis),
    /// A yes does not count yet.
    #[error("a yes counts from {} UTC on; a no counts now", clock(*.0))]
    Early(UnixMillis),
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

/// What a question asks of a person now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The stages that wait for the person's vote.
    pub stages: Vec<&'a Stage>,
    /// Whether the person may override all stages.
    pub glass: bool,
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
        let stage = self.stage(person, votes, choosing, now)?;
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
        now: UnixMillis,
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
        let mut named = open.iter().copied();
        let named: Vec<&Stage> = match &choosing.stage {
            None => named.collect(),
            Some(name) => {
                let stage = named.find(|stage| stage.name == *name);
                let unknown = || CaseError::Stage(name.chars().take(80).collect());
                vec![stage.ok_or_else(unknown)?]
            }
        };
        // Of several reasons why the person cannot vote the one that passes says most.
        let mut why = CaseError::Role;
        for stage in named {
            let since = self.opened(stage, &counted);
            match turn(stage, person, choosing.choice, (since, now)) {
                Ok(()) => return Ok(stage.name.clone()),
                Err(TurnError::Role) => {}
                Err(TurnError::NotYet) => {
                    let then = stage.escalation.as_ref().map_or(0, |then| then.after_ms);
                    why = CaseError::NotYet(UnixMillis(since.0.saturating_add(then)));
                }
                Err(TurnError::Early) => {
                    why = CaseError::Early(UnixMillis(since.0.saturating_add(stage.wait_ms)));
                }
            }
        }
        Err(why)
    }

    /// Returns when the question was asked: by the later of both clocks, so that no machine finds a vote
    /// early that the server has taken.
    fn since(&self) -> UnixMillis {
        self.row.asked.max(self.row.sent.question.asked)
    }

    /// Returns since when a stage waits.
    fn opened(&self, stage: &Stage, votes: &[Counted]) -> UnixMillis {
        let opened = opened(&self.row.sent.review, &stage.name, votes, self.since());
        opened.unwrap_or(UnixMillis(u64::MAX))
    }

    /// Returns what the question asks of a person with these roles now.
    pub fn wants(
        &self,
        user: &UserId,
        roles: &[Role],
        votes: &[Vote],
        now: UnixMillis,
    ) -> Wanted<'a> {
        let is_over = self.row.state != QuestionState::Open || self.row.expires <= now;
        let has_voted = votes.iter().any(|vote| vote.user == *user);
        if is_over || has_voted || self.may_answer(user).is_err() {
            return Wanted::default();
        }
        let review = &self.row.sent.review;
        let counted = counted(votes);
        let person = User {
            id: user.clone(),
            name: String::new(),
            roles: roles.to_vec(),
            passkeys: Vec::new(),
            keys: Vec::new(),
        };
        // A no counts whenever the person is asked at all.
        let is_asked = |stage: &&Stage| {
            let times = (self.opened(stage, &counted), now);
            turn(stage, &person, Choice::Deny, times).is_ok()
        };
        let stages = match Standing::of(review, &counted) {
            Standing::Open(open) => open.into_iter().filter(is_asked).collect(),
            Standing::Granted | Standing::Denied(_) => Vec::new(),
        };
        let glass = review.break_glass.as_ref();
        Wanted {
            stages,
            glass: glass.is_some_and(|glass| roles.contains(&glass.role)),
        }
    }

    /// Returns when a stage that waits asks others too for the first time after `now`.
    pub fn escalates(&self, votes: &[Vote], now: UnixMillis) -> Option<UnixMillis> {
        let counted = counted(votes);
        let Standing::Open(open) = Standing::of(&self.row.sent.review, &counted) else {
            return None;
        };
        let time = |stage: &Stage| {
            let then = stage.escalation.as_ref()?;
            let since = self.opened(stage, &counted);
            Some(UnixMillis(since.0.saturating_add(then.after_ms)))
        };
        let times = open.into_iter().filter_map(time);
        times
            .filter(|time| *time > now && *time < self.row.expires)
            .min()
    }

    /// Makes the vote of a person and counts it, as far as that can be told without the state: who votes
    /// by being signed in must have signed in lately.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn cast(
        &self,
        (directory, party): (&Directory, &RelyingParty),
        voter: &Voter,
        votes: &[Vote],
        choosing: &Choosing,
        proof: Proof,
        now: UnixMillis,
    ) -> Result<(Vote, Counting), CaseError> {
        let is_fresh = now.0.saturating_sub(voter.signed_in.0) <= FRESH_MS;
        if matches!(proof, Proof::Session {}) && !is_fresh {
            return Err(CaseError::Stale);
        }
        let vote = self.draft(directory, &voter.user, votes, choosing, proof, now)?;
        self.proved(directory, &vote, party)?;
        let mut all = votes.to_vec();
        all.push(vote.clone());
        Ok((vote, self.count((directory, party), &all)))
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

    /// Counts votes. A vote of a person who is not in the directory any more, does not have the role any more,
    /// or whose passkey or key was revoked, does not count: the machine would not take it either.
    pub fn count(
        &self,
        (directory, party): (&Directory, &RelyingParty),
        votes: &[Vote],
    ) -> Counting {
        let review = &self.row.sent.review;
        if let Some(glass) = votes.iter().find(|vote| vote.stage.is_empty()) {
            return Counting::Granted {
                votes: vec![glass.clone()],
            };
        }
        let valid = self.valid((directory, party), votes);
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

    /// Returns those votes that [`Self::count`] counts.
    pub fn valid(
        &self,
        (directory, party): (&Directory, &RelyingParty),
        votes: &[Vote],
    ) -> Vec<Vote> {
        let review = &self.row.sent.review;
        let all = counted(votes);
        let holds = |vote: &&Vote| {
            let person = directory.user(&vote.user);
            let stage = review.stage(&vote.stage);
            person.zip(stage).is_some_and(|(person, stage)| {
                let times = (self.opened(stage, &all), vote.at);
                turn(stage, person, vote.choice, times).is_ok()
            }) && self.proved(directory, vote, party).is_ok()
        };
        votes.iter().filter(holds).cloned().collect()
    }

    /// Returns the stages that wait for votes, for those who wait.
    pub fn waiting(&self, votes: &[Vote], now: UnixMillis) -> Vec<StageStanding> {
        let counted = counted(votes);
        let Standing::Open(open) = Standing::of(&self.row.sent.review, &counted) else {
            return Vec::new();
        };
        let also = |stage: &Stage| {
            let then = stage.escalation.as_ref()?;
            let waited = now.0.checked_sub(self.opened(stage, &counted).0)?;
            (waited >= then.after_ms).then(|| then.role.0.clone())
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
                also: also(stage),
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
            since: self.row.sent.question.asked,
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
        at: vote.at,
    };
    votes.iter().map(one).collect()
}
