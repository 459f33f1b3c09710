//! The journal: one file of chained and signed lines.
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
//! What stands in `event` is in [`compact`]. Journals of version 1, which name the session, the
//! process and all its arguments in each event, are still read and verified.

mod check;
mod compact;
mod expand;
mod format;
mod read;
mod report;
mod verify;
mod write;

pub use compact::Entry;
pub use read::{ReadError, Reader, read, read_from};
pub use report::{Fault, FaultKind, Verification, VerificationVerdict};
pub use verify::{Progress, VerifyError, verify, verify_with};
pub use write::{Durability, Journal, JournalError};
