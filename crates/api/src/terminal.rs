//! What the terminal of a person and the server say to each other.

use serde::{Deserialize, Serialize};
use stockade_trust::{PublicKey, UserId};
use stockade_types::{ApprovalId, SessionId, UnixMillis};

use crate::node::{QuestionSent, StageStanding};

/// What tokens of terminals begin with: scanners for secrets find them by that.
pub const TERMINAL_TOKEN_PREFIX: &str = "stkp_";
/// What stands first in what a person signs with a new approver key.
const KEY_CONTEXT: &[u8] = b"stockade approver key 1\0";

/// What a terminal gets that asks to be signed in (RFC 8628, section 3.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCode {
    /// What the terminal asks with whether a person has confirmed; only it knows this.
    pub device_code: String,
    /// What a person types.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same with the code.
    pub verification_uri_complete: String,
    /// Seconds until the codes end.
    pub expires_in: u64,
    /// Seconds between two questions at least.
    pub interval: u64,
}

/// Who has confirmed. The terminal shows it before it takes the token of that person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmedBy {
    /// The person.
    pub user: UserId,
    /// The person's name.
    pub name: String,
    /// The organisation.
    pub org: String,
}

/// What a signed-in terminal has.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalToken {
    /// The token.
    pub token: String,
    /// Whose it is.
    pub user: UserId,
    /// The person's name.
    pub name: String,
    /// The organisation.
    pub org: String,
    /// After this it does not work.
    pub expires: UnixMillis,
}

/// Whose token a terminal shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalHere {
    /// The person.
    pub user: UserId,
    /// The person's name.
    pub name: String,
    /// The organisation.
    pub org: String,
    /// When the person last proved in a browser who it is.
    pub signed_in: UnixMillis,
    /// Approver keys of the person that machines know.
    pub keys: Vec<PublicKey>,
}

/// A question for a terminal, which makes its text itself and signs what it made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionThere {
    /// Names the question on the server.
    pub id: String,
    /// The machine that asks.
    pub node: String,
    /// What people call it.
    pub machine: String,
    /// Its session.
    pub session: SessionId,
    /// The question on the machine.
    pub approval: ApprovalId,
    /// `open`, `granted`, `denied`, `expired` or `closed`.
    pub state: String,
    /// What the machine sent.
    pub sent: QuestionSent,
    /// The stages that are open.
    pub stages: Vec<StageStanding>,
    /// Those of them that wait for the caller.
    pub waits_for_you: Vec<String>,
    /// Names of the people who ask, and so have no vote.
    pub requesters: Vec<String>,
}

/// What the server adds to a vote before it is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BallotThere {
    /// The stage that the vote is for.
    pub stage: String,
    /// Until when a yes holds.
    pub not_after: UnixMillis,
}

/// How a question stands after a vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteTaken {
    /// `open`, `granted` or `denied`.
    pub state: String,
}

/// Returns what a person signs with a new approver key, so that nobody registers a key of somebody else.
pub fn key_message(org: &str, user: &UserId, key: &PublicKey) -> Vec<u8> {
    let mut message = KEY_CONTEXT.to_vec();
    for part in [org, &user.0, &key.to_string()] {
        message.extend_from_slice(part.as_bytes());
        message.push(0);
    }
    message
}

impl std::fmt::Debug for TerminalToken {
    /// Shows nothing of the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TerminalToken")
            .field("user", &self.user)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
