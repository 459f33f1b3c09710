//! The private conversation between the egress process and the supervisor.
//!
//! Each frame is a length (four bytes, big-endian) and that many bytes of JSON. The egress process
//! numbers its requests, so many can be under way; the supervisor answers each once, in any order,
//! and may send [`FromSupervisor::Revoke`] at any time, and at last [`FromSupervisor::Finish`]: all
//! connections end and their ends are recorded. When the connection closes, the egress
//! process ends and all connections of the session end with it.

mod client;
mod layer;
mod server;
mod spool;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use stockade_agents::Intent;
use stockade_event::{Durability, Event, spool::Lease};
use stockade_policy::{Approvals, Decision, Request};
use stockade_types::{
    Answerer, ApprovalId, ClaimSource, DecisionId, DecisionRecord, Digest, Host, Port, RawText,
    RequestKind, RuleId, Subject,
};

use crate::limits::{DEFINED_BYTES_MAX, DEFINED_MAX, FRAME_BYTES_MAX};

pub(crate) use client::{Client, Closing, No, Revocations, Unanswered};
pub use layer::LayerPart;
pub use server::{Replies, Requests, server};

/// Transport of a connection that is to be attributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A connected TCP socket.
    Tcp,
    /// A UDP socket.
    Udp,
}

/// A decision that is about to take effect; the supervisor journals it before it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// What was judged.
    pub request: Request,
    /// The answer of the policy or of a built-in control of the egress process.
    pub decision: Decision,
    /// The host as the client wrote it, where it is not a canonical name; takes the place of the
    /// target's host in the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
    /// The checked address that is dialled next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Server name in the TLS `ClientHello`, escaped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// What else is known, for example `opaque`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The approvals that this decision rests on, each a use to be journaled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<ApprovalId>,
}

impl Decided {
    /// Makes the event that journals the decision from its record.
    pub fn event(&self, mut record: DecisionRecord) -> Event {
        if let Some(shown) = &self.shown {
            record.target.host = Some(shown.clone());
        }
        match record.kind {
            RequestKind::Name => Event::NameDecided { decision: record },
            RequestKind::Http => Event::HttpDecided { decision: record },
            RequestKind::Exec => Event::ExecDecided { decision: record },
            RequestKind::File => Event::FileDenied { decision: record },
            RequestKind::Call => Event::CallRefused { decision: record },
            RequestKind::Credential => Event::CredentialRefused { decision: record },
            RequestKind::Tool => Event::ToolDecided {
                decision: record,
                id: None,
            },
            // Of ports and definitions this process decides nothing; where it says so, it is a connection
            // that it means.
            RequestKind::Net | RequestKind::Port | RequestKind::Definition => {
                Event::ConnectionDecided {
                    decision: record,
                    address: self.address,
                    sni: self.sni.clone(),
                    detail: self.detail.clone(),
                }
            }
        }
    }
}

/// Tools of servers as a request shows them to a model, those that are not known yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defined {
    /// Whose form they were read in.
    pub form: String,
    /// The agent.
    pub process: Subject,
    /// The decision that allowed the request, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionId>,
    /// Where they were learned.
    pub learned_from: ClaimSource,
    /// What is the same for all that one request, or one start of a server, shows.
    pub visit: DecisionId,
    /// The definitions.
    pub definitions: Vec<DefinitionSeen>,
    /// Why there may be more of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

/// One definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefinitionSeen {
    /// The server, by the name that the agent has for it.
    pub server: RawText,
    /// The tool, without the server; empty for what is said of the server itself.
    pub tool: RawText,
    /// SHA-256 of description and schema in one form.
    pub digest: Digest,
    /// These, if they are short enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<RawText>,
    /// It has characters that nobody sees.
    #[serde(default)]
    pub is_hiding: bool,
}

impl DefinitionSeen {
    /// Cuts definitions into as many as one message has room for each; of none there is one part too.
    pub fn in_parts(all: Vec<Self>) -> Vec<Vec<Self>> {
        let mut parts = vec![Vec::new()];
        let mut bytes = 0;
        for one in all {
            let more = one.text.as_ref().map_or(0, |text| text.as_bytes().len());
            let is_full = |part: &Vec<Self>| {
                !part.is_empty() && (part.len() >= DEFINED_MAX || bytes + more > DEFINED_BYTES_MAX)
            };
            if parts.last().is_none_or(is_full) {
                parts.push(Vec::new());
                bytes = 0;
            }
            bytes += more;
            if let Some(part) = parts.last_mut() {
                part.push(one);
            }
        }
        parts
    }
}

/// What a server of SSH proved of itself on a connection of the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostProof {
    /// Where the connection leads.
    pub host: Host,
    /// Its port.
    pub port: Port,
    /// The decision that allowed the connection.
    pub decision: DecisionId,
    /// The server's key, as on the wire (RFC 4253 section 6.6).
    pub key: Vec<u8>,
    /// Its signature over the exchange.
    pub signature: Vec<u8>,
}

/// A token of a login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its credential in the policy.
    pub credential: RuleId,
    /// What servers get.
    pub value: Value,
}

impl Token {
    /// Makes one.
    pub fn new(credential: RuleId, value: &str) -> Self {
        Self {
            credential,
            value: Value(value.to_owned()),
        }
    }
}

/// New tokens of a login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// The login.
    pub login: RuleId,
    /// The decision that allowed the request for them.
    pub decision: DecisionId,
    /// The tokens.
    pub tokens: Vec<Token>,
    /// For how many seconds they are valid.
    pub lifetime_s: Option<u64>,
    /// They were given for a token of the same login; others are of a new login, perhaps somebody
    /// else's, and never get into the owner's file.
    pub is_same_login: bool,
}

/// The value of a token, which no message shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value(String);

impl Value {
    /// Gives it to code that needs it.
    pub const fn expose(&self) -> &String {
        &self.0
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// What the egress process asks of the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum ToSupervisor {
    /// Which process owns the socket? Answered by [`FromSupervisor::Subject`].
    Attribute {
        /// Number of the request.
        id: u64,
        /// Transport.
        protocol: Protocol,
        /// The socket's own address inside the session.
        source: SocketAddr,
        /// Where it wanted to go.
        destination: SocketAddr,
    },
    /// Journal a decision. Answered by [`FromSupervisor::Decided`].
    Decided {
        /// Number of the request.
        id: u64,
        /// How many of the next decisions the egress process wants to let happen without asking first;
        /// with any, it appends to the spool no more before the answer.
        #[serde(default)]
        lease: u64,
        /// The decision.
        #[serde(flatten)]
        decided: Box<Decided>,
    },
    /// Journal an event. Answered by [`FromSupervisor::Recorded`].
    Record {
        /// Number of the request.
        id: u64,
        /// The event.
        event: Event,
        /// How safe it must be before the answer.
        durability: Durability,
    },
    /// Journal what an agent or a model said. Answered by [`FromSupervisor::Recorded`], with number 0 if
    /// it was said before.
    Claimed {
        /// Number of the request.
        id: u64,
        /// The event.
        event: Event,
        /// What it names, if it is a tool call.
        #[serde(default)]
        intent: Intent,
    },
    /// Get approvals for a request whose verdict is ask. Answered by [`FromSupervisor::Answer`].
    ///
    /// The supervisor first looks for a grant that covers the request. It uses (consumes) what it
    /// answers with at once, so each answer lets this one request through.
    Ask {
        /// Number of the request.
        id: u64,
        /// What is asked about.
        request: Request,
        /// The decision with verdict ask.
        decision: Decision,
    },
    /// May a model read these definitions? A person may have to be asked. Answered by
    /// [`FromSupervisor::Compared`].
    Compare {
        /// Number of the request.
        id: u64,
        /// The definitions.
        #[serde(flatten)]
        defined: Box<Defined>,
    },
    /// Does a request belong to a command that was approved or allowed? Nothing is used for it.
    /// Answered by [`FromSupervisor::Covered`].
    Covered {
        /// Number of the request.
        id: u64,
        /// What is asked about.
        request: Request,
    },
    /// A host proved itself on a connection that is allowed; its proof is passed on to the client next.
    /// Answered by [`FromSupervisor::Noted`].
    Proved {
        /// Number of the request.
        id: u64,
        /// The proof.
        proof: Box<HostProof>,
    },
    /// Which tokens of a login does its owner's file have that were not told yet? Answered by
    /// [`FromSupervisor::Tokens`].
    Tokens {
        /// Number of the request.
        id: u64,
        /// The login.
        login: RuleId,
    },
    /// Tokens of a login are other ones now: journal it, and write them to the owner's file. Answered by
    /// [`FromSupervisor::Recorded`], also where the file has to stay as it is.
    Renewed {
        /// Number of the request.
        id: u64,
        /// The tokens.
        #[serde(flatten)]
        renewed: Renewed,
    },
    /// What becomes of a held connection ([`FromSupervisor::Connecting`]). Not answered.
    Release {
        /// Number of its packet.
        id: u64,
        /// What becomes of it.
        word: Word,
    },
    /// The program that an [`ToSupervisor::Ask`] or [`ToSupervisor::Compare`] was for does not wait any more. Not answered.
    Withdraw {
        /// Number of that request.
        id: u64,
    },
}

impl ToSupervisor {
    /// Returns the number of the request.
    pub const fn id(&self) -> u64 {
        match self {
            Self::Attribute { id, .. }
            | Self::Decided { id, .. }
            | Self::Record { id, .. }
            | Self::Claimed { id, .. }
            | Self::Ask { id, .. }
            | Self::Compare { id, .. }
            | Self::Covered { id, .. }
            | Self::Proved { id, .. }
            | Self::Tokens { id, .. }
            | Self::Renewed { id, .. }
            | Self::Release { id, .. }
            | Self::Withdraw { id } => *id,
        }
    }
}

/// A connection whose first packet is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connecting {
    /// Number of the packet.
    pub packet: u32,
    /// The socket's own address inside the session.
    pub source: SocketAddr,
    /// Where it wants to go.
    pub destination: SocketAddr,
}

/// What a program is told of a held connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// It goes on.
    Go,
    /// Nobody listens there.
    Refused,
    /// There is no way to that host, or no such host.
    NoHost,
    /// There is no way to that network.
    NoNetwork,
    /// Nothing: the host did not answer either.
    Silence,
}

/// The answer to an ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub enum Answer {
    /// Approvals with which the policy is to be asked again.
    Granted {
        /// The approvals.
        approvals: Approvals,
    },
    /// No: by a person, by time, or because nobody can be asked.
    Refused {
        /// Why, in the words that the program is to see.
        reason: String,
        /// Who said so, if it was the answer to the question.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Answerer>,
    },
}

/// What the supervisor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum FromSupervisor {
    /// Answers [`ToSupervisor::Attribute`]; a process that is gone is a subject without an id.
    Subject {
        /// Number of the request.
        id: u64,
        /// The process.
        subject: Subject,
    },
    /// Answers [`ToSupervisor::Decided`]: the record is in the journal.
    Decided {
        /// Number of the request.
        id: u64,
        /// The record.
        record: Box<DecisionRecord>,
        /// The numbers of decisions that may take effect once they are in the spool.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease: Option<Lease>,
    },
    /// Answers [`ToSupervisor::Record`]: the event is in the journal.
    Recorded {
        /// Number of the request.
        id: u64,
        /// Number of the event.
        seq: u64,
    },
    /// Answers [`ToSupervisor::Ask`].
    Answer {
        /// Number of the request.
        id: u64,
        /// The answer.
        #[serde(flatten)]
        answer: Answer,
    },
    /// Answers [`ToSupervisor::Compare`].
    Compared {
        /// Number of the request.
        id: u64,
        /// The refusal, if no model may read them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<Box<Decision>>,
    },
    /// Answers [`ToSupervisor::Covered`].
    Covered {
        /// Number of the request.
        id: u64,
        /// Whether it belongs to a command.
        covered: bool,
    },
    /// Answers [`ToSupervisor::Proved`].
    Noted {
        /// Number of the request.
        id: u64,
    },
    /// Answers [`ToSupervisor::Tokens`].
    Tokens {
        /// Number of the request.
        id: u64,
        /// The tokens.
        tokens: Vec<Token>,
    },
    /// Answers any request that could not be served; whatever depends on it is denied.
    Failed {
        /// Number of the request.
        id: u64,
        /// Why.
        reason: String,
    },
    /// A program connects, and is held until [`ToSupervisor::Release`].
    Connecting(Connecting),
    /// Closes what an approval opened.
    Revoke {
        /// The approval.
        approval: ApprovalId,
    },
    /// A part of a policy that was published since the session began. With the last part, what it denies is
    /// denied, and open connections that it denies are closed.
    Tighten(LayerPart),
    /// The policy in force is the session's own again: none denies beside it.
    Untighten,
    /// Ends all connections, has their ends recorded and ends the process.
    Finish,
}

impl FromSupervisor {
    /// Returns the number of the request that this answers.
    pub const fn id(&self) -> Option<u64> {
        match self {
            Self::Subject { id, .. }
            | Self::Decided { id, .. }
            | Self::Recorded { id, .. }
            | Self::Answer { id, .. }
            | Self::Compared { id, .. }
            | Self::Covered { id, .. }
            | Self::Noted { id }
            | Self::Tokens { id, .. }
            | Self::Failed { id, .. } => Some(*id),
            Self::Connecting(_)
            | Self::Revoke { .. }
            | Self::Tighten(_)
            | Self::Untighten
            | Self::Finish => None,
        }
    }
}

/// Why a frame could not be sent or read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The connection failed.
    #[error("the control connection failed")]
    Io(#[source] io::Error),
    /// The other side sent a length that no frame has.
    #[error("a frame of {0} bytes is longer than {FRAME_BYTES_MAX}")]
    TooLong(usize),
    /// The other side sent something that is not a message of this version.
    #[error("a frame is not a message of this version")]
    Json(#[source] serde_json::Error),
}

/// Bytes in front of each frame.
const PREFIX_BYTES: usize = 4;

/// Makes one frame.
fn frame<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let mut bytes = vec![0; PREFIX_BYTES];
    serde_json::to_writer(&mut bytes, message).map_err(WireError::Json)?;
    let length = bytes.len() - PREFIX_BYTES;
    let prefix = u32::try_from(length)
        .ok()
        .filter(|_| length <= FRAME_BYTES_MAX)
        .ok_or(WireError::TooLong(length))?;
    if let Some(start) = bytes.first_chunk_mut::<PREFIX_BYTES>() {
        *start = prefix.to_be_bytes();
    }
    Ok(bytes)
}

/// Reads the length in front of a frame.
fn frame_length(prefix: [u8; PREFIX_BYTES]) -> Result<usize, WireError> {
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(WireError::TooLong(length));
    }
    Ok(length)
}

/// Tells whether an error between two frames only means that the other process has ended: with
/// replies unread the end is a reset (unix(7)).
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
    )
}

fn message<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    serde_json::from_slice(bytes).map_err(WireError::Json)
}
