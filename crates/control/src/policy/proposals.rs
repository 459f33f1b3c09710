//! Proposals: who writes a policy is not who approves it.

use stockade_trust::{PlanStep, UserId};
use stockade_types::Digest;

use super::{CHANNEL, MESSAGE_BYTES_MAX, POLICY_BYTES_MAX, Publication, PublishError, review_act};
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
    /// Too many wait.
    #[error("{OPEN_MAX} proposals wait for a review already")]
    TooMany,
    /// It is too long, or cannot be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
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

    /// Approves a proposal, which publishes it with these steps.
    ///
    /// # Errors
    /// The inner error says why it is not; the outer one is of the server.
    pub async fn approve(
        &self,
        id: &str,
        by: &UserId,
        reason: &str,
        steps: Vec<PlanStep>,
    ) -> Result<Result<BundleRow, ProposalError>, ControlError> {
        let row = match self.open_proposal(id).await? {
            Ok(row) => row,
            Err(error) => return Ok(Err(error)),
        };
        if row.author == by.0 {
            return Ok(Err(ProposalError::Own));
        }
        let publication = Publication {
            text: &row.text,
            message: &row.message,
            by: &by.0,
            after: row.base,
            steps,
            reviewed: Some((&row.id, reason)),
        };
        let published = self.publish_as(&publication).await?;
        if let Err(PublishError::Changed { found }) = published {
            let base = row.base;
            return Ok(Err(ProposalError::Behind { found, base }));
        }
        Ok(published.map_err(ProposalError::Publish))
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
