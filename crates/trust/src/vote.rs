//! One vote, and what it binds.

use serde::{Deserialize, Serialize};
use stockade_policy::{Scope, Strength};
use stockade_types::{ApprovalId, Digest, SessionId, UnixMillis};

use crate::{
    key::KeyId,
    nonce::Nonce,
    passkey::{Assertion, PasskeyError, RelyingParty},
    people::{User, UserId},
    standing::Choice,
};

/// A vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// Who voted.
    pub user: UserId,
    /// For which stage; empty for breaking the glass.
    pub stage: String,
    /// What.
    pub choice: Choice,
    /// How far the voter's yes reaches.
    pub scope: Scope,
    /// Until when it holds.
    pub not_after: UnixMillis,
    /// Why, in the voter's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When, by the clock of who took the vote.
    pub at: UnixMillis,
    /// How it is known that it is that person's.
    pub proof: Proof,
}

/// How it is known whose vote it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "lowercase", deny_unknown_fields)]
pub enum Proof {
    /// The server says that the person was signed in.
    Session {},
    /// A passkey of the person has signed the ballot.
    Passkey(Assertion),
    /// A key of the person has signed the ballot.
    Key {
        /// Which.
        key: KeyId,
        /// The signature, in base64url.
        signature: String,
    },
}

/// The question that a vote is about: everything that another question would have otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Ballot<'a> {
    /// The organisation.
    pub org: &'a str,
    /// The machine that asks.
    pub node: &'a str,
    /// Its session.
    pub session: &'a SessionId,
    /// The question.
    pub approval: &'a ApprovalId,
    /// What the machine drew for this question alone.
    pub nonce: Nonce,
    /// The exact request.
    pub request: Digest,
    /// The policy that asks.
    pub revision: Digest,
    /// The text that the voter saw.
    pub rendered: Digest,
}

/// Why a vote is not known to be its person's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The stage needs more than a session of the server.
    #[error("it was only signed in for; the stage needs {}", strong(*.0))]
    Weak(Strength),
    /// The stage needs a passkey.
    #[error("it is proved with an approver key; the stage needs a passkey")]
    KeyIsWeak,
    /// The key is of several people, so that nobody knows who has signed.
    #[error("its key is of several people in the directory")]
    Shared,
    /// The person has no such passkey or key.
    #[error("it is proved with a {0} that the person does not have")]
    Unknown(&'static str),
    /// The passkey did not sign this ballot.
    #[error("its passkey: {0}")]
    Passkey(#[from] PasskeyError),
    /// The key did not sign this ballot.
    #[error("its key has not signed this ballot")]
    Key,
}

/// Says what proves a vote at least.
const fn strong(strength: Strength) -> &'static str {
    match strength {
        Strength::Session => "a session",
        Strength::Key => "an approver key or a passkey",
        Strength::Passkey => "a passkey",
    }
}

/// What stands first in what is signed, so that nothing else that is signed can be taken for a vote.
const CONTEXT: &[u8] = b"stockade vote v1";

impl Ballot<'_> {
    /// Returns what the voter signs: SHA-256 of everything that the vote is about, each part with its
    /// length. It is the challenge of a passkey, and the message of a key.
    pub fn challenge(&self, vote: &Vote) -> Digest {
        let mut bytes = Vec::with_capacity(512);
        let mut add = |part: &[u8]| {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part);
        };
        let choice = match vote.choice {
            Choice::Allow => "allow",
            Choice::Deny => "deny",
        };
        add(CONTEXT);
        add(self.org.as_bytes());
        add(self.node.as_bytes());
        add(self.session.as_str().as_bytes());
        add(self.approval.to_string().as_bytes());
        add(self.nonce.as_bytes());
        add(self.request.as_bytes());
        add(self.revision.as_bytes());
        add(self.rendered.as_bytes());
        add(vote.user.0.as_bytes());
        add(vote.stage.as_bytes());
        add(choice.as_bytes());
        add(vote.scope.to_string().as_bytes());
        add(&vote.not_after.0.to_be_bytes());
        add(if vote.reason.is_some() { b"1" } else { b"0" });
        add(vote.reason.as_deref().unwrap_or_default().as_bytes());
        Digest::of(&bytes)
    }

    /// Checks that a vote is the person's, as strongly as it has to be: an approver key proves less than a
    /// passkey, and is enough only where the stage says so.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(
        &self,
        vote: &Vote,
        user: &User,
        strength: Strength,
        party: &RelyingParty,
    ) -> Result<(), ProofError> {
        let challenge = self.challenge(vote);
        match &vote.proof {
            Proof::Session {} => match strength {
                Strength::Session => Ok(()),
                Strength::Key | Strength::Passkey => Err(ProofError::Weak(strength)),
            },
            Proof::Passkey(assertion) => {
                let mut known = user.passkeys.iter();
                let passkey = known.find(|one| one.is(assertion));
                let passkey = passkey.ok_or(ProofError::Unknown("passkey"))?;
                Ok(passkey.check(assertion, challenge.as_bytes(), party)?)
            }
            Proof::Key { key, signature } => {
                match strength {
                    Strength::Session | Strength::Key => {}
                    // A stage that wants an authenticator does not take a file.
                    Strength::Passkey => return Err(ProofError::KeyIsWeak),
                }
                let known = user.keys.iter().find(|one| one.id() == *key);
                let known = known.ok_or(ProofError::Unknown("key"))?;
                let signature = crate::base64url::decode(signature).ok_or(ProofError::Key)?;
                let is_signed = known.has_signed(challenge.as_bytes(), &signature);
                is_signed.then_some(()).ok_or(ProofError::Key)
            }
        }
    }
}
