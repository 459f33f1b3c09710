//! What the server says under its signature.

use serde::{Deserialize, Serialize};
use stockade_trust::Statement;
use stockade_types::{Digest, SessionId, UnixMillis};

use crate::NodeId;

/// The server has these bytes of a journal: it has checked them, and they are on its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The organisation.
    pub org: String,
    /// The machine.
    pub node: NodeId,
    /// Its session.
    pub session: SessionId,
    /// How many bytes.
    pub offset: u64,
    /// The number of the last event in them.
    pub events: u64,
    /// The chain value of the last line.
    pub chain: Digest,
    /// Whether that is the signed end.
    pub closed: bool,
    /// When, by the clock of the server.
    pub at: UnixMillis,
}

impl Statement for Receipt {
    const TYPE: &'static str = "application/vnd.stockade.receipt.1+json";
}

/// What a machine shall do with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// End it.
    Stop,
}

/// An order to a machine, by a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The organisation.
    pub org: String,
    /// Which machine.
    pub node: NodeId,
    /// Which session.
    pub session: SessionId,
    /// What.
    pub what: What,
    /// Names the order, so that it is carried out once.
    pub id: String,
    /// Who gave it.
    pub by: stockade_trust::UserId,
    /// After this it is not carried out.
    pub not_after: UnixMillis,
}

impl Statement for Order {
    const TYPE: &'static str = "application/vnd.stockade.order.1+json";
}
