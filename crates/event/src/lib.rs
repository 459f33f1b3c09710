//! What happened in a session: the closed [`Event`] enum, its [`Envelope`], and the [`Journal`]
//! that keeps them so that nobody can quietly change them.
//!
//! The journal is one append-only file of JSON lines in the session's directory. Every line is
//! chained to the one before it with SHA-256 and the head of the chain is signed (Ed25519) once a
//! second and at the end. [`verify`] says whether the file is what was written.
#![forbid(unsafe_code)]

mod bound;
mod catalogue;
mod envelope;
mod event;
mod journal;
mod key;
pub mod layout;
mod sink;
pub mod summary;
mod tally;

pub use catalogue::{FieldDoc, KindDoc};
pub use envelope::{Envelope, Stamp, Truncated, rfc3339};
pub use event::{Counts, Event, LayerSeen, SessionOutcome, catalogue};
pub use journal::{
    Durability, Entry, Fault, FaultKind, Journal, JournalError, Progress, ReadError, Reader,
    Verification, VerificationVerdict, VerifyError, read, read_from, verify, verify_with,
};
pub use key::{KeyError, SigningKey, VerifyingKey};
pub use sink::{SharedJournal, Sink, SinkError};
pub use summary::Summary;
pub use tally::Tally;

/// Version of the persisted schema; a change of meaning of any field is a new number.
pub const SCHEMA_VERSION: u32 = 1;
