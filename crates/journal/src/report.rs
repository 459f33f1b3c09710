//! The result of a verification.

use std::fmt;

use stockade_types::{Digest, SessionId};

/// What is wrong at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Bytes differ from what was written.
    Changed,
    /// Something that was written is missing.
    Missing,
    /// Something is in a different place from where it was written, or there twice.
    Reordered,
    /// There is more after the signed end.
    UnsignedTail,
    /// The last line has no end although the journal was closed.
    TornTail,
    /// A signature is not one of this journal's key.
    BadSignature,
    /// It is the journal of another session.
    WrongSession,
    /// It was signed with another key.
    WrongKey,
    /// It is not what a server has confirmed that it holds.
    NotHeld,
}

impl FaultKind {
    /// Returns the words for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Missing => "missing",
            Self::Reordered => "reordered",
            Self::UnsignedTail => "unsigned tail",
            Self::TornTail => "torn tail",
            Self::BadSignature => "bad signature",
            Self::WrongSession => "wrong session",
            Self::WrongKey => "wrong key",
            Self::NotHeld => "not what the server holds",
        }
    }
}

/// One fault and where it is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fault {
    /// Line of the journal, from 1; 0 for a file beside it: the head file, or the receipt of a server.
    pub line: u64,
    /// Number of the event it is about, if there is one.
    pub seq: Option<u64>,
    /// What is wrong.
    pub what: FaultKind,
    /// The description.
    pub detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.what) {
            (0, FaultKind::NotHeld) => write!(f, "receipt: ")?,
            (0, _) => write!(f, "head file: ")?,
            (line, _) => write!(f, "line {line}: ")?,
        }
        write!(f, "{}: {}", self.what.as_str(), self.detail)
    }
}

/// The result for a journal as a whole.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum VerificationVerdict {
    /// Every byte is as written, up to a signed end.
    Intact,
    /// There is no signed end: the session is running, its supervisor was killed, or the end was
    /// removed. Nothing else is wrong.
    Unfinished {
        /// Events after the last signature; only the chain vouches for them, not a signature.
        unsigned_events: u64,
        /// Bytes of a last line that was never finished.
        torn_bytes: u64,
        /// Decisions that took effect and that the killed supervisor had not taken into the journal;
        /// nothing vouches for them.
        left_events: u64,
    },
    /// It differs from what was written.
    Broken {
        /// What is wrong, in the order of the file; bounded.
        faults: Vec<Fault>,
        /// How many more there are.
        more: u64,
    },
}

/// The result of a verification.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Verification {
    /// The session.
    pub session: SessionId,
    /// The result.
    #[serde(flatten)]
    pub verdict: VerificationVerdict,
    /// Events in it.
    pub events: u64,
    /// The last event that a good signature covers.
    pub signed_events: u64,
    /// When the last good signature was made, nanoseconds since the epoch.
    pub signed_time_unix_ns: Option<u64>,
    /// Chain value of the last line.
    pub head: Digest,
    /// The public key it was verified with.
    pub key: String,
}

impl Verification {
    /// Adds that a server holds something else than what is here, by its receipt.
    pub fn contradict(&mut self, detail: String) {
        let fault = Fault {
            line: 0,
            seq: None,
            what: FaultKind::NotHeld,
            detail,
        };
        match &mut self.verdict {
            VerificationVerdict::Broken { faults, .. } => faults.push(fault),
            VerificationVerdict::Intact | VerificationVerdict::Unfinished { .. } => {
                self.verdict = VerificationVerdict::Broken {
                    faults: vec![fault],
                    more: 0,
                };
            }
        }
    }

    /// Returns whether every byte is as written, up to a signed end.
    pub const fn is_intact(&self) -> bool {
        matches!(self.verdict, VerificationVerdict::Intact)
    }

    /// Returns whether something is wrong other than a missing end.
    pub const fn is_broken(&self) -> bool {
        matches!(self.verdict, VerificationVerdict::Broken { .. })
    }
}
