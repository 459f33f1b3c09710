//! Where the agent keeps what it is, and what it pinned when it was enrolled.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stockade_api::NodeId;
use stockade_trust::{Keys, SecretKey, UserId};
use stockade_types::UnixMillis;
use zeroize::Zeroizing;

use crate::files::{self, FileError};

/// The directory of the agent, in the state directory.
pub const NODE_DIR: &str = "node";
/// The directory of what sessions of this user believe, in the state directory.
pub const TRUST_DIR: &str = "trust";
/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// The places of the agent's files.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    state: PathBuf,
}

impl Places {
    pub(crate) fn new(state: &Path) -> Self {
        Self {
            state: state.to_owned(),
        }
    }

    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    pub(crate) fn node(&self) -> PathBuf {
        self.state.join(NODE_DIR)
    }

    pub(crate) fn trust(&self) -> PathBuf {
        self.state.join(TRUST_DIR)
    }

    /// The private key, 32 bytes.
    pub(crate) fn key(&self) -> PathBuf {
        self.node().join("key")
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.node().join("certificate.json")
    }

    /// Is written last: with it the machine is enrolled.
    pub(crate) fn enrolment(&self) -> PathBuf {
        self.node().join("enrolment.json")
    }

    pub(crate) fn status(&self) -> PathBuf {
        self.node().join("status.json")
    }

    /// A running agent has its lock.
    pub(crate) fn lock(&self) -> PathBuf {
        self.node().join("lock")
    }
}

/// What the machine knows since it was enrolled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// Where the server is.
    pub url: String,
    /// The organisation.
    pub org: String,
    /// Names the machine.
    pub node: NodeId,
    /// What people call it.
    pub name: String,
    /// Whose machine it is.
    pub owner: Option<UserId>,
    /// When it was enrolled; journals of sessions that started before stay here.
    pub since: UnixMillis,
    /// The certificate of the server's authority, PEM.
    pub authority: String,
    /// Keys of the server.
    pub servers: Keys,
    /// Whether it is the machine of a job, which is gone afterwards.
    #[serde(default)]
    pub of_job: bool,
}

impl Enrolment {
    pub(crate) fn read(places: &Places) -> Result<Option<Self>, FileError> {
        files::read_json(&places.enrolment())
    }
}

/// Tells whether a machine is enrolled as that of a job.
///
/// # Errors
/// When the enrolment cannot be read.
pub fn is_of_job(state: &Path) -> Result<bool, FileError> {
    let enrolment = Enrolment::read(&Places::new(state))?;
    Ok(enrolment.is_some_and(|enrolment| enrolment.of_job))
}

/// The certificate of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificate {
    /// With those above it, PEM.
    pub(crate) pem: String,
    /// When it came, by the clock of this machine.
    pub(crate) since: UnixMillis,
    /// Until when it is valid, by the clock of this machine.
    pub(crate) until: UnixMillis,
}

impl Certificate {
    /// Tells whether it is over: no server takes it any more.
    pub(crate) const fn is_over(&self, now: UnixMillis) -> bool {
        now.0 >= self.until.0
    }

    /// Returns when a new one is fetched: after half of its time.
    pub(crate) const fn renewal(&self) -> UnixMillis {
        let lasts = self.until.0.saturating_sub(self.since.0);
        UnixMillis(self.since.0.saturating_add(lasts / 2))
    }
}

/// The private key of the machine.
pub(crate) struct NodeKey(Zeroizing<[u8; KEY_BYTES]>);

impl NodeKey {
    /// Draws a new one.
    pub(crate) fn draw() -> Result<Self, getrandom::Error> {
        let mut seed = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *seed)?;
        Ok(Self(seed))
    }

    pub(crate) fn read(places: &Places) -> Result<Option<Self>, FileError> {
        let path = places.key();
        let Some(bytes) = files::read(&path)?.map(Zeroizing::new) else {
            return Ok(None);
        };
        let seed = <[u8; KEY_BYTES]>::try_from(bytes.as_slice());
        let seed = seed.map_err(|_| FileError::Content {
            path,
            why: format!("it has {} bytes; a key has {KEY_BYTES}", bytes.len()),
        })?;
        Ok(Some(Self(Zeroizing::new(seed))))
    }

    pub(crate) fn write(&self, places: &Places) -> Result<(), FileError> {
        files::replace(&places.key(), &*self.0)
    }

    pub(crate) fn seed(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    pub(crate) fn secret(&self) -> SecretKey {
        SecretKey::from_seed(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use stockade_types::UnixMillis;

    use super::Certificate;

    #[test]
    fn a_certificate_renews_itself_at_half_its_time_for_a_hundred_days() {
        let day = 24 * 60 * 60 * 1_000;
        let mut certificate = Certificate {
            pem: String::new(),
            since: UnixMillis(0),
            until: UnixMillis(day),
        };
        let (mut now, mut renewals) = (0, 0);
        while now < 100 * day {
            now += 60_000;
            if now >= certificate.renewal().0 {
                assert!(now < certificate.until.0, "it was never invalid");
                certificate.since = UnixMillis(now);
                certificate.until = UnixMillis(now + day);
                renewals += 1;
            }
        }
        assert_eq!(renewals, 200);
    }
}
