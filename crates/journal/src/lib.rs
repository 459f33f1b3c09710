//! The journal: keeps the events of a session so that no one can change them unnoticed.
//!
//! It is one append-only file of chained and signed lines in the session's directory. [`verify`]
//! says whether the file is unchanged, [`read`] returns the events.
//!
//! ```text
//! {"journal":2,"session":"…","key":"…"}                                    header
//! {"chain":"…","event":{…}}                                                one per event
//! {"chain":"…","checkpoint":{…},"signature":"…"}                           once a second, at the end
//! ```
//! `chain` is SHA-256 over the chain value of the line before and the exact bytes of this line's
//! `event` or `checkpoint`; the first one starts from the header, which binds the session and the
//! public key. A signature covers the chain value and the checkpoint, hence everything above it.
//!
//! [`compact`] describes the content of `event`. [`read`] and [`verify`] still accept journals of
//! version 1, which name the session, the process and all its arguments in each event.

#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

mod bound;
mod check;
mod checker;
mod clock;
mod compact;
mod expand;
mod follow;
mod format;
mod key;
pub mod layout;
mod left;
mod lines;
mod pack;
mod read;
mod record;
mod recording;
mod report;
mod shared;
mod sink;
mod spool;
mod verify;
mod write;

pub use check::Checked;
pub use checker::{Checker, CheckerState, ResumeError};
pub use clock::now;
pub use compact::Entry;
pub use follow::{FollowError, Followed, Follower, Position, follow};
pub use key::{KeyError, SigningKey, VerifyingKey};
pub use left::SPOOL_BYTES_MAX;
pub use lines::{Lines, chain_at, journal_bytes, lines};
pub use pack::{Packed, pack};
pub use read::{ReadError, Reader, Resting, read, read_from};
pub use recording::{RecordingFound, open_recording, recording_digest};
pub use report::{Fault, FaultKind, Verification, VerificationVerdict};
pub use shared::SharedJournal;
pub use sink::{SinkError, SpoolFault};
pub use spool::Spool;
pub use verify::{Progress, VerifyError, verify, verify_with};
pub use write::{Journal, JournalError};
