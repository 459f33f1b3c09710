//! Receipts: what the server has said, under its signature, that it holds of a journal.
//!
//! The last one is beside the journal. A journal that is not what the server holds up to there, by the
//! chain value, was written anew, even by somebody who has its key.

use std::{io, path::Path};

use stockade_api::{NodeId, Receipt};
use stockade_journal::{chain_at, journal_bytes};
use stockade_trust::{Envelope, EnvelopeError, Keys};
use stockade_types::SessionId;

use crate::{
    files::{self, FileError},
    identity::{Enrolment, Places},
};

/// The last receipt of a journal, in the session directory.
pub const RECEIPT_FILE: &str = "receipt.json";

/// Why a receipt is none, or the journal is not what it is for.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// The server did not sign it.
    #[error("the receipt is not the server's: {0}")]
    Envelope(#[from] EnvelopeError),
    /// It is for another journal.
    #[error("the receipt is for another {0}")]
    Other(&'static str),
    /// The journal is shorter.
    #[error("the server holds {held} bytes of it, up to event {events}, and only {here} are here")]
    Shorter {
        /// Bytes that the server holds.
        held: u64,
        /// The last event that it holds.
        events: u64,
        /// Bytes that are here.
        here: u64,
    },
    /// The journal was written anew.
    #[error(
        "what is here up to event {events} is not what the server holds: it was written anew after it was sent"
    )]
    Differs {
        /// The last event that the server holds.
        events: u64,
    },
    /// The journal cannot be read.
    #[error("cannot read the journal")]
    Journal(#[source] io::Error),
}

/// Of which machine receipts are, and who signs them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signer<'a> {
    pub(crate) org: &'a str,
    pub(crate) node: &'a NodeId,
    pub(crate) servers: &'a Keys,
}

impl<'a> Signer<'a> {
    pub(crate) fn of(enrolment: &'a Enrolment) -> Self {
        Self {
            org: &enrolment.org,
            node: &enrolment.node,
            servers: &enrolment.servers,
        }
    }

    /// Opens a receipt and compares it with the journal of `session` in `dir`.
    pub(crate) fn check(
        &self,
        envelope: &Envelope,
        session: &SessionId,
        dir: &Path,
    ) -> Result<Receipt, ReceiptError> {
        let receipt: Receipt = envelope.open(self.servers)?;
        if receipt.org != self.org {
            return Err(ReceiptError::Other("organisation"));
        }
        if receipt.node != *self.node {
            return Err(ReceiptError::Other("machine"));
        }
        if receipt.session != *session {
            return Err(ReceiptError::Other("session"));
        }
        let here = journal_bytes(dir).map_err(ReceiptError::Journal)?;
        if receipt.offset > here {
            return Err(ReceiptError::Shorter {
                held: receipt.offset,
                events: receipt.events,
                here,
            });
        }
        let chain = chain_at(dir, receipt.offset).map_err(ReceiptError::Journal)?;
        if chain != Some(receipt.chain) {
            return Err(ReceiptError::Differs {
                events: receipt.events,
            });
        }
        Ok(receipt)
    }
}

/// Keeps a receipt, unless there is one for more.
pub(crate) fn keep(dir: &Path, envelope: &Envelope, held: u64, kept: u64) -> Result<(), FileError> {
    if held < kept {
        return Ok(());
    }
    files::replace_json(&dir.join(RECEIPT_FILE), envelope)
}

/// Returns the last receipt of the journal in `dir`; `None` if there is none.
pub(crate) fn last(dir: &Path) -> Result<Option<Envelope>, FileError> {
    files::read_json(&dir.join(RECEIPT_FILE))
}

/// What the server holds of a journal, by the receipt beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldByServer {
    /// There is no receipt, or this machine is not enrolled.
    Unknown,
    /// The receipt is of an enrolment that is over; whose key signed it is not known any more.
    Former,
    /// The journal is what the server holds, up to there.
    UpTo(Box<Receipt>),
    /// It is not, or the receipt is none.
    Contradicted(String),
}

/// Compares the journal of `session` in `dir` with the receipt beside it. `state` is the state directory,
/// where the keys of the server are. Only a verification says whether the lines of the journal chain.
///
/// # Errors
/// When a file cannot be read.
pub fn held_by_server(
    state: &Path,
    session: &SessionId,
    dir: &Path,
) -> Result<HeldByServer, ReceiptError> {
    let unreadable = |error: FileError| ReceiptError::Journal(io::Error::other(error));
    let Some(enrolment) = Enrolment::read(&Places::new(state)).map_err(unreadable)? else {
        return Ok(HeldByServer::Unknown);
    };
    let envelope = match last(dir) {
        Ok(Some(envelope)) => envelope,
        Ok(None) => return Ok(HeldByServer::Unknown),
        Err(error @ FileError::Content { .. }) => {
            return Ok(HeldByServer::Contradicted(error.to_string()));
        }
        Err(error @ FileError::Io { .. }) => return Err(unreadable(error)),
    };
    match Signer::of(&enrolment).check(&envelope, session, dir) {
        Ok(receipt) => Ok(HeldByServer::UpTo(Box::new(receipt))),
        Err(error @ ReceiptError::Journal(_)) => Err(error),
        Err(ReceiptError::Other("organisation" | "machine")) => Ok(HeldByServer::Former),
        Err(error) => Ok(HeldByServer::Contradicted(error.to_string())),
    }
}
