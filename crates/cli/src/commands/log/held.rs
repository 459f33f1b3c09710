//! What the server of the organisation holds of a journal, by the receipt beside it.

use std::path::Path;

use serde::Serialize;
use stockade_node::{HeldByServer, held_by_server};
use stockade_types::{SessionId, chain};

use crate::{
    exit::Exit,
    human::{number, safe},
};

/// What the receipt beside a journal says.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "held", rename_all = "kebab-case")]
pub(super) enum OnServer {
    /// The server holds it, up to there.
    UpTo {
        /// The last event.
        event: u64,
        /// Bytes.
        bytes: u64,
        /// Whether that is its signed end.
        closed: bool,
    },
    /// The receipt is of an enrolment that is over, and cannot be checked.
    Former,
    /// The journal is not what the server holds, or the receipt is none.
    Contradicted {
        /// What is wrong.
        detail: String,
    },
    /// The receipt or the journal cannot be read.
    Unknown {
        /// Why.
        reason: String,
    },
}

impl OnServer {
    /// Compares the journal in `dir` with the receipt beside it; `None` if there is none.
    pub(super) fn of(session: &SessionId, state: &Path, dir: &Path) -> Option<Self> {
        match held_by_server(state, session, dir) {
            Ok(HeldByServer::Unknown) => None,
            Ok(HeldByServer::Former) => Some(Self::Former),
            Ok(HeldByServer::UpTo(receipt)) => Some(Self::UpTo {
                event: receipt.events,
                bytes: receipt.offset,
                closed: receipt.closed,
            }),
            Ok(HeldByServer::Contradicted(detail)) => Some(Self::Contradicted { detail }),
            Err(error) => Some(Self::Unknown {
                reason: chain(&error),
            }),
        }
    }

    /// Returns what that alone gives.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::UpTo { .. } | Self::Former => Exit::Yes,
            Self::Contradicted { .. } => Exit::No,
            Self::Unknown { .. } => Exit::CannotTell,
        }
    }

    /// Says it, unless it is one of the faults of the journal.
    pub(super) fn line(&self) -> Option<String> {
        Some(match self {
            Self::UpTo { closed: true, .. } => "  held by the server to its end".to_owned(),
            Self::UpTo { event, .. } => {
                format!("  held by the server up to event {}", number(*event))
            }
            Self::Former => {
                "  a receipt of an earlier enrolment is beside it, which is not checked".to_owned()
            }
            Self::Contradicted { .. } => return None,
            Self::Unknown { reason } => {
                format!("  cannot tell what the server holds: {}", safe(reason))
            }
        })
    }
}
