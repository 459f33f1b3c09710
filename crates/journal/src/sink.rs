//! Why something is not recorded.

use std::io;

use stockade_event::spool;

use crate::JournalError;

/// Why an event was not accepted; the caller must then deny the effect.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The journal refused.
    #[error("the event was not recorded")]
    Journal(#[source] JournalError),
    /// What the egress process allowed cannot be taken in.
    #[error("what took effect already was not recorded")]
    Spool(#[source] SpoolFault),
    /// The journal was already finished.
    #[error("the journal of this session is closed; nothing more can be recorded")]
    Closed,
    /// The journal has reached its size limit.
    #[error("the journal has reached its {bytes_max} bytes (`record.journal_bytes_max`)")]
    Full {
        /// The limit.
        bytes_max: u64,
    },
}

/// Why the spool cannot be taken in; the session ends then.
#[derive(Debug, thiserror::Error)]
pub enum SpoolFault {
    /// The file cannot be used.
    #[error("the spool of decisions cannot be used")]
    Io(#[source] io::Error),
    /// It has what is no entry.
    #[error("the spool of decisions cannot be understood")]
    Entry(#[source] spool::SpoolError),
    /// It has what the egress process must not write there.
    #[error("the spool of decisions has an event that does not belong there: {0}")]
    Foreign(&'static str),
}
