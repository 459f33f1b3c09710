//! Proposals: who writes a policy is not who approves it.

use std::collections::BTreeSet;

use stockade_policy::diff::PolicyDiff;
use stockade_trust::{PlanStep, UserId};
use stockade_types::Digest;

use super::{
    CHANNEL, MESSAGE_BYTES_MAX, POLICY_BYTES_MAX, Publication, PublishError, compared, review_act,
};
use crate::{
    Changed, ControlError, Server,
    act::{Act, Action},
    clock::now,
    random,
    state::{BundleRow, ProposalRow, ProposalState, Reviewed},
};

/// Proposals that wait for a review at once.
const OPEN_MAX: u64 = 100;

/// Why a proposal is not taken, or not reviewed.
#[derive(Debug, thiserror::Error)]
pub enum ProposalError {
    /// There is none.
    #[error("there is no such proposal")]
    Unknown,
    /// It is not open any more.
    #[error("the proposal is {0}")]
    Settled(&'static str),
    /// Its author reviews it.
    #[error("nobody approves a proposal of his own; another person has to")]
    Own,
    /// Somebody else withdraws it.
    #[error("only its author withdraws a proposal")]
    NotOwn,
    /// Another policy was published since it was made.
    #[error("serial {found} was published since it was made on {base}; propose it again")]
    Behind {
        /// What is in force now.
        found: u64,
        /// What it was made on.
        base: u64,
    },
    /// It lets more happen, and whoever approves it has not said so of each change.
    #[error("{0} of its changes let more happen, and you did not acknowledge {1} of them")]
    Unacknowledged(usize, usize),
    /// Too many wait.
    #[error("{OPEN_MAX} proposals wait for a review already")]
    TooMany,
    /// It is too long, or cannot be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// What the person says who approves a proposal.
#[derive(Clone, Debug, Default)]
pub struct Review {
    /// In words; others see it.
    pub reason: String,
    /// The changes that let more happen, by their digests, or one digest for all of them
    /// (`PolicyDiff::acknowledges`).
    pub acknowledged: BTreeSet<Digest>,
    /// How the policy reaches the machines; without steps at once.
    pub steps: Vec<PlanStep>,
}

impl Server {
    /// Keeps a proposal. Its text need not be right: what is wrong with it is shown to everyone.
    ///
    /// # Errors
    /// The inner error says why it is not taken; the outer one is of the server.
    pub async fn propose(
        &self,
        text: &str,
        message: &str,
        author: &str,
        base: u64,
    ) -> Result<Result<ProposalRow, ProposalError>, ControlError> {
        if text.len() > POLICY_BYTES_MAX || message.len() > MESSAGE_BYTES_MAX {
            return Ok(Err(PublishError::TooLong.into()));
        }
        let now = now();
        let mut writing = self.state.write().await?;
        let found = self.state.bundle_serial(&mut writing, CHANNEL).await?;
        if found != base {
            return Ok(Err(ProposalError::Behind { found, base }));
        }
        if self.state.open_proposals(&mut writing).await? >= OPEN_MAX {
            return Ok(Err(ProposalError::TooMany));
        }
        let row = ProposalRow {
            id: random::name("p-")?,
            base,
            text: text.to_owned(),
            message: message.to_owned(),
            author: author.to_owned(),
            created: now,
            state: ProposalState::Open,
            reviewer: None,
            reviewed: None,
            reason: None,
            serial: None,
        };
        self.state.add_proposal(&mut writing, &row).await?;
        let act = Act::new(Action::ProposalMade)
            .by(author)
            .about(&row.id)
            .digest(Digest::of(text.as_bytes()))
            .detail(message);
        self.state.note(&mut writing, &act, now).await?;
        self.state.commit(writing).await?;
        self.hub.changed(Changed::Policy);
        Ok(Ok(row))
    }

    /// Approves a proposal, which publishes it. Each change that lets more happen than the policy in force has to
    /// be acknowledged.
    ///
    /// # Errors
    /// The inner error says why it is not; the outer one is of the server.
    pub async fn approve(
        &self,
        id: &str,
        by: &UserId,
        review: Review,
    ) -> Result<Result<BundleRow, ProposalError>, ControlError> {
        let row = match self.open_proposal(id).await? {
            Ok(row) => row,
            Err(error) => return Ok(Err(error)),
        };
        if row.author == by.0 {
            return Ok(Err(ProposalError::Own));
        }
        let said = match self.acknowledged(&row, &review).await? {
            Ok(said) => said,
            Err(error) => return Ok(Err(error)),
        };
        let publication = Publication {
            text: &row.text,
            message: &row.message,
            by: &by.0,
            after: row.base,
            steps: review.steps,
            reviewed: Some((&row.id, &said)),
        };
        let published = self.publish_as(&publication).await?;
        if let Err(PublishError::Changed { found }) = published {
            let base = row.base;
            return Ok(Err(ProposalError::Behind { found, base }));
        }
        Ok(published.map_err(ProposalError::Publish))
    }

    /// Returns what the record says of a review: its reason, and what was acknowledged. A policy that cannot be
    /// loaded is refused when it is published.
    async fn acknowledged(
        &self,
        row: &ProposalRow,
        review: &Review,
    ) -> Result<Result<String, ProposalError>, ControlError> {
        // If another policy was published since, `publish_as` refuses this one.
        let (_, before) = self.in_force().await?.unwrap_or_default();
        let after = row.text.clone();
        let diff = self.blocking(move || compared(&before, &after)).await?;
        let loosening = diff.as_ref().map(PolicyDiff::loosening).unwrap_or_default();
        let Some(all) = diff.as_ref().and_then(PolicyDiff::acknowledges) else {
            return Ok(Ok(review.reason.clone()));
        };
        let is_missing = |digest: &Digest| !review.acknowledged.contains(digest);
        let missing = loosening.iter().filter(|change| is_missing(&change.digest));
        let missing = missing.count();
        if missing > 0 && is_missing(&all) {
            return Ok(Err(ProposalError::Unacknowledged(loosening.len(), missing)));
        }
        let count = loosening.len();
        let noted = format!("acknowledged {count} changes that let more happen ({all})");
        Ok(Ok(match review.reason.as_str() {
            "" => noted,
            reason => format!("{reason}; {noted}"),
        }))
    }

    /// Rejects a proposal, or takes back one's own.
    ///
    /// # Errors
    /// The inner error says why it is not; the outer one is of the server.
    pub async fn turn_down(
        &self,
        id: &str,
        by: &UserId,
        state: ProposalState,
        reason: &str,
    ) -> Result<Result<(), ProposalError>, ControlError> {
        let row = match self.open_proposal(id).await? {
            Ok(row) => row,
            Err(error) => return Ok(Err(error)),
        };
        if state == ProposalState::Withdrawn && row.author != by.0 {
            return Ok(Err(ProposalError::NotOwn));
        }
        let reviewed = Reviewed {
            state,
            by: &by.0,
            reason,
            serial: None,
            at: now(),
        };
        let mut writing = self.state.write().await?;
        if !self.state.review(&mut writing, id, &reviewed).await? {
            return Ok(Err(ProposalError::Settled("not open any more")));
        }
        let act = review_act(id, &reviewed);
        self.state.note(&mut writing, &act, reviewed.at).await?;
        self.state.commit(writing).await?;
        self.hub.changed(Changed::Policy);
        Ok(Ok(()))
    }

    async fn open_proposal(
        &self,
        id: &str,
    ) -> Result<Result<ProposalRow, ProposalError>, ControlError> {
        Ok(match self.state.proposal(id).await? {
            None => Err(ProposalError::Unknown),
            Some(row) if row.state != ProposalState::Open => {
                Err(ProposalError::Settled(row.state.word()))
            }
            Some(row) => Ok(row),
        })
    }
}
