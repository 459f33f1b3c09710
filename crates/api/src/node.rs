//! The protocol of machines: HTTP/2 over TLS 1.3 with a certificate of the server's authority, JSON.
//!
//! | call | body → answer |
//! |---|---|
//! | `POST /node/v1/enrol` (without a certificate) | [`EnrolRequest`] → [`EnrolAnswer`] |
//! | `POST /node/v1/cert` | – → [`CertificateAnswer`] |
//! | `POST /node/v1/hello` | [`Hello`] → [`HelloAnswer`] |
//! | `POST /node/v1/journals/{session}?offset=N` | whole lines → `Envelope` of a [`crate::Receipt`], with [`crate::limits::PACE_HEADER`]; 409 with `expected`, 422, 429 with `retry_ms` |
//! | `PUT /node/v1/questions/{session}/{approval}` | [`QuestionSent`] → [`QuestionAnswer`] |
//! | `DELETE /node/v1/questions/{session}/{approval}?why=` | – → nothing: the machine asks no more |
//! | `POST /node/v1/acks` | [`Ack`] → nothing |
//! | `POST /node/v1/backlog` | [`Backlog`] → nothing |
//! | `POST /node/v1/leave` | – → nothing |
//! | `GET /node/v1/stream` | – → lines of [`Down`] |
//!
//! Machine and server can be of different versions. What either says about itself may have fields that the
//! other one does not know, and a machine goes on without messages that it does not know. What somebody
//! decides on (questions, and every statement that is signed) has none: it is refused as a whole.

use serde::{Deserialize, Serialize};
use stockade_policy::Review;
use stockade_shown::CanonicalQuestion;
use stockade_trust::{Envelope, Keys, Nonce, PublicKey, RelyingParty, UserId};
use stockade_types::{ApprovalId, Digest, RolloutArm, SessionId, UnixMillis};

use crate::NodeId;

/// How Stockade is installed on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Install {
    /// By a user, who can stop the agent of the machine and change its files.
    User,
    /// By root.
    System,
}

/// What a machine says about itself; nothing of it is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Version of Stockade.
    pub version: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Its own name.
    pub hostname: String,
    /// Tiers that work.
    pub tiers: Vec<String>,
    /// Guarantees that do not hold there.
    pub guarantees_missing: Vec<String>,
}

/// A machine asks to belong to the organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// The secret of the token.
    pub secret: String,
    /// What people call the machine.
    pub name: String,
    /// Its key.
    pub key: PublicKey,
    /// Signature of the key over [`crate::proof_message`], in base64url.
    pub proof: String,
    /// What it says about itself.
    pub facts: Facts,
    /// The public key of its journals, 64 hexadecimal digits.
    pub journal_key: String,
    /// How it is installed.
    pub install: Install,
}

/// What a machine brings beside the token by which it enrols.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMachine {
    /// Its key.
    pub key: PublicKey,
    /// Signature of the key over [`crate::proof_message`], in base64url.
    pub proof: String,
    /// What it says about itself.
    pub facts: Facts,
    /// The public key of its journals, 64 hexadecimal digits.
    pub journal_key: String,
    /// How it is installed.
    pub install: Install,
}

/// The machine of a job asks to belong to the organisation; the server names it after the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobEnrolRequest {
    /// What the platform that runs the job says of it: a token of OpenID Connect.
    pub token: String,
    /// The machine.
    pub machine: NewMachine,
}

/// The machine of a job belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnrolAnswer {
    /// What people call it.
    pub name: String,
    /// Everything else.
    #[serde(flatten)]
    pub answer: EnrolAnswer,
}

/// A machine whose certificate is over asks for a new one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpiredRequest {
    /// Which machine.
    pub node: NodeId,
    /// When it asks.
    pub at: UnixMillis,
    /// Signature of its key over [`crate::renewal_message`], in base64url.
    pub proof: String,
}

/// The machine belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolAnswer {
    /// The organisation.
    pub org: String,
    /// Names the machine.
    pub node: NodeId,
    /// Its certificate and those above it, PEM.
    pub certificate: String,
    /// The certificate of the server's authority, PEM.
    pub ca: String,
    /// Who may sign what: `trust::Root`.
    pub root: Envelope,
    /// The people: `trust::Directory`.
    pub directory: Envelope,
    /// Keys of the server.
    pub servers: Keys,
    /// Where people vote.
    pub party: RelyingParty,
    /// Whose machine it is.
    pub owner: Option<UserId>,
    /// The policy in force.
    pub bundle: Option<Envelope>,
    /// Which step of its rollout it is: `trust::Pointer`.
    pub pointer: Option<Envelope>,
    /// Which team the machine belongs to: `trust::Membership`. Without it, it belongs to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membership: Option<Envelope>,
    /// The time of the server.
    pub now: UnixMillis,
}

/// A new certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateAnswer {
    /// The certificate and those above it, PEM.
    pub certificate: String,
    /// Until when it is valid.
    pub not_after: UnixMillis,
    /// The time of the server.
    pub now: UnixMillis,
}

/// A session of which the machine has a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionHere {
    /// Which.
    pub session: SessionId,
    /// How many bytes it has.
    pub offset: u64,
    /// Whether it runs.
    pub live: bool,
}

/// The bundle that a machine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleHere {
    /// The channel.
    pub channel: String,
    /// The serial.
    pub serial: u64,
    /// SHA-256 of its policy in force.
    pub digest: Digest,
    /// Where its rollout stands there, if it has a candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutHere>,
}

/// Where a rollout stands on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutHere {
    /// The rollout.
    pub rollout: String,
    /// The step of the last pointer that it took; 0 without one.
    pub step: u32,
    /// On which side of the step it is.
    pub arm: RolloutArm,
}

/// What a machine says first on each connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What it says about itself.
    pub facts: Facts,
    /// Its sessions: those that run, and those whose journals the server does not have whole.
    pub sessions: Vec<SessionHere>,
    /// The bundle that it has.
    pub bundle: Option<BundleHere>,
    /// The serial of the directory that it has; 0 for none.
    pub directory_serial: u64,
    /// The time of the machine.
    pub now: UnixMillis,
}

/// A place in the journal of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Which session.
    pub session: SessionId,
    /// How many bytes of it.
    pub offset: u64,
}

/// What the server lacks, and what the machine lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAnswer {
    /// From where on the journals of these sessions are wanted.
    pub wanted: Vec<Position>,
    /// The bundle in force, if the machine has another one.
    pub bundle: Option<Envelope>,
    /// Which step of its rollout it is.
    pub pointer: Option<Envelope>,
    /// The people, if the machine has an older directory.
    pub directory: Option<Envelope>,
    /// Which team the machine belongs to: `trust::Membership`. Without it, nothing has ever changed about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membership: Option<Envelope>,
    /// The time of the server.
    pub now: UnixMillis,
}

/// What a machine has recorded and the server does not hold yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backlog {
    /// Bytes of journals.
    pub bytes: u64,
    /// Since when the oldest of them waits.
    pub oldest: Option<UnixMillis>,
}

/// What became of a bundle on a machine, or in one of its sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The channel.
    pub channel: String,
    /// The serial.
    pub serial: u64,
    /// What became of it.
    pub state: AckState,
    /// Why it is not used.
    pub error: Option<String>,
    /// The session, if it is about one.
    pub session: Option<SessionId>,
    /// Where its rollout stands there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutHere>,
}

/// What became of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AckState {
    /// It is verified, and on the disk of the machine: the next session runs under it.
    Stored,
    /// A session runs under it.
    Active,
    /// It is not used.
    Failed,
}

/// A question of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuestionSent {
    /// Everything that its text is made of. The server makes the text itself.
    pub question: CanonicalQuestion,
    /// What the machine drew for this question alone.
    pub nonce: Nonce,
    /// The policy that asks.
    pub revision: Digest,
    /// Who has to say yes.
    pub review: Review,
    /// The text as the machine shows it: SHA-256 of `stockade_shown::Shown`. The server compares its own.
    pub rendered: Digest,
    /// User id of the session.
    pub uid: u32,
    /// Whose session it is, if the machine knows: that person has no vote.
    pub user: Option<UserId>,
}

/// How a question stands that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionAnswer {
    /// The answer, if there is one.
    pub answer: Option<Answered>,
    /// The stages that are open.
    pub stages: Vec<StageStanding>,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Answered {
    /// People have allowed it: `trust::Grant`, which the machine checks.
    Granted {
        /// The statement.
        envelope: Envelope,
    },
    /// It is denied.
    Denied {
        /// Why.
        reason: Option<String>,
        /// Who denied it.
        by: String,
    },
}

/// How many of those who are asked have answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageStanding {
    /// The stage.
    pub name: String,
    /// How many have said yes.
    pub have: u32,
    /// How many must.
    pub need: u32,
    /// Until when.
    pub until: UnixMillis,
    /// The role that is asked too, because the others took long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also: Option<String>,
}

/// One line of the stream down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Down {
    /// The connection is there.
    Heartbeat {
        /// The time of the server.
        at: UnixMillis,
    },
    /// A bundle.
    Bundle {
        /// The statement.
        envelope: Envelope,
    },
    /// Which step of the rollout of the bundle it is: `trust::Pointer`.
    Pointer {
        /// The statement.
        envelope: Envelope,
    },
    /// The people.
    Directory {
        /// The statement.
        envelope: Envelope,
    },
    /// Which team the machine belongs to: `trust::Membership`.
    Membership {
        /// The statement.
        envelope: Envelope,
    },
    /// A question is answered.
    Answer {
        /// The session.
        session: SessionId,
        /// The question.
        approval: ApprovalId,
        /// The answer.
        answer: Answered,
    },
    /// Who is waited for.
    Case {
        /// The session.
        session: SessionId,
        /// The question.
        approval: ApprovalId,
        /// The stages that are open.
        stages: Vec<StageStanding>,
    },
    /// An order: `crate::Order`.
    Order {
        /// The statement.
        envelope: Envelope,
    },
    /// The journal of a session has to be sent again from `expected` on.
    Resync {
        /// The session.
        session: SessionId,
        /// How many bytes the server has.
        expected: u64,
    },
    /// The server ends; connect again at a random time within this.
    Restarting {
        /// How long, in milliseconds.
        spread_ms: u64,
    },
    /// The machine does not belong to the organisation any more.
    Retired,
    /// A server that is newer says something else. A machine goes on without.
    #[serde(other)]
    Unknown,
}
