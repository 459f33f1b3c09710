//! Who may sign what. A machine takes the first one at its enrolment, and each later one only from those
//! that the one before names.

use serde::{Deserialize, Serialize};
use stockade_types::UnixMillis;

use crate::envelope::{Envelope, EnvelopeError, Keys, Statement};

/// Keys of one purpose: more are no better kept.
const KEYS_MAX: usize = 16;

/// Which keys may sign what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// The organisation.
    pub org: String,
    /// Grows by each change; a machine refuses a lower one than it has.
    pub version: u64,
    /// After this it is not used.
    pub not_after: UnixMillis,
    /// Who signs the next root.
    pub root: Keys,
    /// Who signs the directory of people.
    pub people: Keys,
    /// Who signs bundles of policy.
    pub policy: Keys,
    /// Who says that people have voted so.
    pub servers: Keys,
}

impl Statement for Root {
    const TYPE: &'static str = "application/vnd.stockade.root.1+json";
}

/// Why a root is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// It is not signed by those who may.
    #[error("the root: {0}")]
    Envelope(#[from] EnvelopeError),
    /// It is not signed by the keys of the root before it.
    #[error("the keys of the root in force have not signed this one: {0}")]
    Before(EnvelopeError),
    /// It names keys with which nothing could be signed, or anything by too few.
    #[error(
        "the keys for `{0}` are not 1 to {KEYS_MAX} different ones with a threshold from 1 to their number"
    )]
    Keys(&'static str),
    /// It is of another organisation.
    #[error("the root is of `{found}`; this machine belongs to `{expected}`")]
    Organisation {
        /// What it says.
        found: String,
        /// What it has to be.
        expected: String,
    },
    /// It is not newer than the one in force.
    #[error("the root has version {found}; the one in force has {known}")]
    Version {
        /// What it says.
        found: u64,
        /// What the machine has.
        known: u64,
    },
    /// It does not hold any more.
    #[error("the root has expired")]
    Expired,
}

impl Root {
    /// Takes a root that is in force: it is signed by its own keys. Whoever calls this knows by other means
    /// that it is the right one; see [`Self::next`] for the one that follows.
    ///
    /// # Errors
    /// When its own keys have not signed it, they make no sense, or it has expired.
    pub fn open(envelope: &Envelope, now: UnixMillis) -> Result<Self, RootError> {
        let root: Self = envelope.unverified()?;
        root.check()?;
        let root: Self = envelope.open(&root.root)?;
        if root.not_after <= now {
            return Err(RootError::Expired);
        }
        Ok(root)
    }

    /// Takes the root that follows this one.
    ///
    /// # Errors
    /// As [`Self::open`], and when it is of another organisation, is not newer, or the keys of this root have
    /// not signed it.
    pub fn next(&self, envelope: &Envelope, now: UnixMillis) -> Result<Self, RootError> {
        let next = Self::open(envelope, now)?;
        envelope
            .open::<Self>(&self.root)
            .map_err(RootError::Before)?;
        if next.org != self.org {
            return Err(RootError::Organisation {
                found: next.org.chars().take(80).collect(),
                expected: self.org.clone(),
            });
        }
        if next.version <= self.version {
            return Err(RootError::Version {
                found: next.version,
                known: self.version,
            });
        }
        Ok(next)
    }

    fn check(&self) -> Result<(), RootError> {
        for (name, keys) in [
            ("root", &self.root),
            ("people", &self.people),
            ("policy", &self.policy),
            ("servers", &self.servers),
        ] {
            if !keys.make_sense(KEYS_MAX) {
                return Err(RootError::Keys(name));
            }
        }
        Ok(())
    }
}
