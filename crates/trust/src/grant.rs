//! The statement that people have allowed what was asked, and how the machine that asked checks it.

use serde::{Deserialize, Serialize};
use stockade_policy::{Review, Scope, Strength};
use stockade_types::{ApprovalId, Digest, SessionId, UnixMillis};

use crate::{
    envelope::{Envelope, EnvelopeError, Keys, Statement},
    nonce::Nonce,
    passkey::RelyingParty,
    people::{Directory, User, UserId},
    standing::{Choice, Counted, Standing, TurnError, opened, turn},
    vote::{Ballot, Proof, ProofError, Vote},
};

/// Votes of one grant; each is checked.
const VOTES_MAX: usize = 64;
/// How far the clock of who took a vote may be ahead, in milliseconds.
const AHEAD_MAX_MS: u64 = 120_000;

/// What the server says: these people have voted so about this question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The organisation.
    pub org: String,
    /// The machine that asked.
    pub node: String,
    /// Its session.
    pub session: SessionId,
    /// The question.
    pub approval: ApprovalId,
    /// What the machine drew for the question.
    pub nonce: Nonce,
    /// The exact request.
    pub request: Digest,
    /// The policy that asked.
    pub revision: Digest,
    /// The text that the voters saw.
    pub rendered: Digest,
    /// How far it reaches.
    pub scope: Scope,
    /// Until when it holds.
    pub not_after: UnixMillis,
    /// One person overrode the stages.
    pub broken_glass: bool,
    /// All votes, in the order in which they came.
    pub votes: Vec<Vote>,
}

impl Statement for Grant {
    const TYPE: &'static str = "application/vnd.stockade.grant.1+json";
}

/// A question of this machine, with everything by which it judges a grant. Nothing of it comes from
/// whoever delivers the grant.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The question: of this machine and session, with the policy in force and the text that the machine
    /// made itself.
    pub ballot: Ballot<'a>,
    /// Who has to say yes.
    pub review: &'a Review,
    /// People who have no vote: who owns the session, the machine or the pipeline.
    pub requesters: &'a [UserId],
    /// Whether it is known who they are. Where it is not, nobody can be excluded.
    pub requesters_are_known: bool,
    /// The people, as the machine has pinned them.
    pub directory: &'a Directory,
    /// Who may say that there is a grant.
    pub servers: &'a Keys,
    /// Where people vote.
    pub party: &'a RelyingParty,
    /// When it was asked, by the clock of this machine.
    pub since: UnixMillis,
    /// The time of this machine.
    pub now: UnixMillis,
}

/// What a machine may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// How far the answer reaches.
    pub scope: Scope,
    /// Until when it holds.
    pub not_after: UnixMillis,
    /// Who said yes.
    pub by: Vec<UserId>,
    /// One person overrode the stages, for this reason; somebody has to look at it afterwards.
    pub broken_glass: Option<String>,
}

/// Why a grant is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// It is not signed by the server.
    #[error("the grant: {0}")]
    Envelope(#[from] EnvelopeError),
    /// It is about another question.
    #[error("the grant is for another {0}")]
    Other(&'static str),
    /// It reaches further than the rule lets any answer reach.
    #[error("the grant's scope {scope} is wider than {max}")]
    Wide {
        /// What it says.
        scope: Scope,
        /// What may be.
        max: Scope,
    },
    /// It does not hold any more.
    #[error("the grant has expired")]
    Expired,
    /// There are too many votes.
    #[error("the grant has {count} votes; at most {VOTES_MAX} are checked")]
    TooManyVotes {
        /// How many there are.
        count: usize,
    },
    /// The people that the machine knows may not be used any more.
    #[error("the directory of people is of another organisation or has expired")]
    Directory,
    /// It is not known whose session it is.
    #[error("it is not known who asks, so that nobody can be kept from answering his own question")]
    Requester,
    /// A vote is not valid.
    #[error("the vote of {user}: {why}")]
    Vote {
        /// Whose it says it is.
        user: String,
        /// What is wrong.
        why: VoteError,
    },
    /// Somebody has said no often enough.
    #[error("stage `{0}` has denied it")]
    Denied(String),
    /// Not enough people have said yes.
    #[error("stage `{0}` is not complete")]
    Incomplete(String),
    /// The rule lets nobody override.
    #[error("the rule has no `break_glass`")]
    NoGlass,
}

/// What is wrong with a vote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoteError {
    /// Nobody of that name may vote.
    #[error("nobody of that name is in the directory")]
    Unknown,
    /// The person asks.
    #[error("the person asks, and cannot answer")]
    Requester,
    /// It is the second one.
    #[error("the person has voted before")]
    Twice,
    /// There is no such stage.
    #[error("there is no such stage")]
    Stage,
    /// The person is not asked there, or was not then.
    #[error(transparent)]
    Turn(#[from] TurnError),
    /// It has to say why.
    #[error("it gives no reason")]
    Reason,
    /// It holds for less than the grant.
    #[error("it reaches less far than the grant, or holds for a shorter time")]
    Narrow,
    /// It was given in the future.
    #[error("it was given in the future")]
    Time,
    /// It is not known to be the person's.
    #[error("{0}")]
    Proof(#[from] ProofError),
}

impl Asked<'_> {
    /// Checks a grant, and returns what it allows.
    ///
    /// # Errors
    /// The first thing that does not fit; then it allows nothing.
    pub fn verify(&self, envelope: &Envelope) -> Result<Granted, GrantError> {
        let grant: Grant = envelope.open(self.servers)?;
        self.is_about_this(&grant)?;
        if !grant.scope.is_within(self.review.scope_max) {
            return Err(GrantError::Wide {
                scope: grant.scope,
                max: self.review.scope_max,
            });
        }
        if grant.not_after <= self.now {
            return Err(GrantError::Expired);
        }
        if grant.votes.len() > VOTES_MAX {
            let count = grant.votes.len();
            return Err(GrantError::TooManyVotes { count });
        }
        if self.directory.org != self.ballot.org || self.directory.not_after <= self.now {
            return Err(GrantError::Directory);
        }
        if !self.requesters_are_known {
            return Err(GrantError::Requester);
        }
        let by = if grant.broken_glass {
            self.overridden(&grant)?
        } else {
            self.voted(&grant)?
        };
        let reason = grant.votes.first().and_then(|vote| vote.reason.clone());
        Ok(Granted {
            scope: grant.scope,
            not_after: grant.not_after,
            by,
            broken_glass: grant.broken_glass.then(|| reason.unwrap_or_default()),
        })
    }

    fn is_about_this(&self, grant: &Grant) -> Result<(), GrantError> {
        let own = &self.ballot;
        for (is_equal, what) in [
            (grant.org == own.org, "organisation"),
            (grant.node == own.node, "machine"),
            (grant.session == *own.session, "session"),
            (grant.approval == *own.approval, "question"),
            (grant.nonce == own.nonce, "asking of the question"),
            (grant.request == own.request, "request"),
            (grant.revision == own.revision, "policy"),
            (grant.rendered == own.rendered, "text"),
        ] {
            if !is_equal {
                return Err(GrantError::Other(what));
            }
        }
        Ok(())
    }

    /// Checks all votes, and that they suffice; returns who said yes.
    fn voted(&self, grant: &Grant) -> Result<Vec<UserId>, GrantError> {
        let count = |vote: &Vote| Counted {
            user: vote.user.clone(),
            stage: vote.stage.clone(),
            choice: vote.choice,
            at: vote.at,
        };
        let counted: Vec<Counted> = grant.votes.iter().map(count).collect();
        for (index, vote) in grant.votes.iter().enumerate() {
            let mut earlier = counted.iter().take(index);
            let checked = if earlier.any(|one| one.user == vote.user) {
                Err(VoteError::Twice)
            } else {
                self.stage_vote(grant, vote, &counted)
            };
            checked.map_err(|why| wrong(vote, why))?;
        }
        match Standing::of(self.review, &counted) {
            Standing::Granted => {
                let yes = counted.into_iter();
                let yes = yes.filter(|vote| vote.choice == Choice::Allow);
                Ok(yes.map(|vote| vote.user).collect())
            }
            Standing::Denied(stage) => Err(GrantError::Denied(stage.name.clone())),
            Standing::Open(stages) => {
                let first = stages.first().map(|stage| stage.name.clone());
                Err(GrantError::Incomplete(first.unwrap_or_default()))
            }
        }
    }

    /// Checks the vote that overrides the stages: it is alone, and it holds for a short time.
    fn overridden(&self, grant: &Grant) -> Result<Vec<UserId>, GrantError> {
        let glass = self.review.break_glass.as_ref();
        let glass = glass.ok_or(GrantError::NoGlass)?;
        let [vote] = grant.votes.as_slice() else {
            return Err(GrantError::Incomplete("break_glass".to_owned()));
        };
        let check = || {
            let user = self.voter(vote)?;
            if !vote.stage.is_empty() || vote.choice != Choice::Allow {
                return Err(VoteError::Stage);
            }
            if !user.has(&glass.role) {
                return Err(VoteError::Turn(TurnError::Role));
            }
            if vote
                .reason
                .as_deref()
                .is_none_or(|why| why.trim().is_empty())
            {
                return Err(VoteError::Reason);
            }
            let longest = vote.at.0.saturating_add(glass.max_ms);
            if grant.not_after.0 > longest {
                return Err(VoteError::Narrow);
            }
            self.content(grant, vote, user, glass.strength)
        };
        check().map_err(|why| wrong(vote, why))?;
        Ok(vec![vote.user.clone()])
    }

    /// Checks one vote. Others are asked too, and a yes counts, only after a time: since the votes say when
    /// they were given in the words of whoever took them, that much time must also have passed on the clock
    /// of this machine.
    fn stage_vote(&self, grant: &Grant, vote: &Vote, all: &[Counted]) -> Result<(), VoteError> {
        let user = self.voter(vote)?;
        let stage = self.review.stage(&vote.stage).ok_or(VoteError::Stage)?;
        let never = UnixMillis(u64::MAX);
        let opened = opened(self.review, &stage.name, all, self.since).unwrap_or(never);
        turn(stage, user, vote.choice, (opened, vote.at))?;
        turn(stage, user, vote.choice, (self.since, self.now))?;
        let has_reason = vote
            .reason
            .as_deref()
            .is_some_and(|why| !why.trim().is_empty());
        if self.review.reason_required && !has_reason {
            return Err(VoteError::Reason);
        }
        self.content(grant, vote, user, stage.strength)
    }

    /// Finds the person, who must not be one of those who ask.
    fn voter(&self, vote: &Vote) -> Result<&User, VoteError> {
        if self.requesters.contains(&vote.user) {
            return Err(VoteError::Requester);
        }
        self.directory.user(&vote.user).ok_or(VoteError::Unknown)
    }

    /// Checks how far a vote reaches, and whose it is.
    fn content(
        &self,
        grant: &Grant,
        vote: &Vote,
        user: &User,
        strength: Strength,
    ) -> Result<(), VoteError> {
        let reaches = grant.scope.is_within(vote.scope) && grant.not_after <= vote.not_after;
        if vote.choice == Choice::Allow && !reaches {
            return Err(VoteError::Narrow);
        }
        if vote.at.0 > self.now.0.saturating_add(AHEAD_MAX_MS) {
            return Err(VoteError::Time);
        }
        if let Proof::Key { key, .. } = &vote.proof
            && self.directory.is_shared(*key)
        {
            return Err(ProofError::Shared.into());
        }
        Ok(self.ballot.check(vote, user, strength, self.party)?)
    }
}

fn wrong(vote: &Vote, why: VoteError) -> GrantError {
    GrantError::Vote {
        user: vote.user.0.chars().take(80).collect(),
        why,
    }
}
