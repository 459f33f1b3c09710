//! What a machine knows of itself and of its organisation, from its enrolment on.

use serde::{Deserialize, Serialize};
use stockade_types::{Digest, UnixMillis};

use crate::{
    envelope::{Envelope, EnvelopeError, Statement},
    passkey::RelyingParty,
    people::{Directory, UserId},
    plan::{Candidate, PlanError},
    root::Root,
};

/// A machine of an organisation; nobody signs it: it is the machine's own file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The organisation.
    pub org: String,
    /// Names the machine.
    pub node: String,
    /// Whose sessions run here: this person never answers their questions. Unknown, no rule with stages
    /// is answered, because nobody can be excluded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// Where people vote.
    pub party: RelyingParty,
}

/// A policy of the organisation, as it is published to machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The organisation.
    pub org: String,
    /// Which machines it is for, in the organisation's words.
    pub channel: String,
    /// Grows by each publication; a machine refuses a lower one than it has.
    pub serial: u64,
    /// When it was published.
    pub created: UnixMillis,
    /// The name of the policy, for messages.
    pub name: String,
    /// The policy in force.
    pub text: String,
    /// The policy that is to replace it step by step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
}

impl Statement for Bundle {
    const TYPE: &'static str = "application/vnd.stockade.bundle.1+json";
}

/// Why a statement of the organisation is not used on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// It is not signed by those who may.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// It is of another organisation.
    #[error("it is of the organisation `{found}`; this machine belongs to `{expected}`")]
    Organisation {
        /// What it says.
        found: String,
        /// What it has to be.
        expected: String,
    },
    /// It is about another machine.
    #[error("it is about the machine `{found}`")]
    Machine {
        /// What it says.
        found: String,
    },
    /// It does not hold any more.
    #[error("it has expired")]
    Expired,
    /// It is older than the one that is known.
    #[error("it has serial {found}; this machine has {known}")]
    Serial {
        /// What it says.
        found: u64,
        /// What the machine has.
        known: u64,
    },
    /// Its rollout makes no sense.
    #[error("its rollout: {0}")]
    Plan(#[from] PlanError),
}

impl Root {
    /// Takes a directory of people that has at least the serial `known`.
    ///
    /// # Errors
    /// When the people keys have not signed it, it is of another organisation, has expired, or is older.
    pub fn directory(
        &self,
        envelope: &Envelope,
        known: u64,
        now: UnixMillis,
    ) -> Result<Directory, StatementError> {
        let directory: Directory = envelope.open(&self.people)?;
        self.is_ours(&directory.org)?;
        if directory.not_after <= now {
            return Err(StatementError::Expired);
        }
        is_not_older(directory.serial, known)?;
        Ok(directory)
    }

    /// Takes a bundle of policy that has at least the serial `known`.
    ///
    /// # Errors
    /// When the policy keys have not signed it, it is of another organisation, is older, or has a candidate
    /// whose plan makes no sense.
    pub fn bundle(&self, envelope: &Envelope, known: u64) -> Result<Bundle, StatementError> {
        let bundle: Bundle = envelope.open(&self.policy)?;
        self.is_ours(&bundle.org)?;
        is_not_older(bundle.serial, known)?;
        if let Some(candidate) = &bundle.candidate {
            candidate.plan.check()?;
        }
        Ok(bundle)
    }

    pub(crate) fn is_ours(&self, org: &str) -> Result<(), StatementError> {
        if org == self.org {
            return Ok(());
        }
        Err(StatementError::Organisation {
            found: org.chars().take(80).collect(),
            expected: self.org.clone(),
        })
    }
}

impl Bundle {
    /// Returns the digest of the policy in force.
    pub fn digest(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }
}

fn is_not_older(found: u64, known: u64) -> Result<(), StatementError> {
    if found < known {
        return Err(StatementError::Serial { found, known });
    }
    Ok(())
}
