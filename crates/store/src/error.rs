//! Errors of the index.

use std::{io, path::PathBuf};

use stockade_types::SessionId;

/// Why the index gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The runtime for the database could not be started.
    #[error("cannot start the runtime of the index")]
    Runtime(#[source] io::Error),
    /// A file or folder of the state directory could not be used.
    #[error("cannot {act} `{path}`")]
    Io {
        /// `read`, `create`, …
        act: &'static str,
        /// The operation that failed.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The database refused.
    #[error("the index `{path}` failed: {reason}; it can be deleted and is then built again")]
    Database {
        /// The file.
        path: PathBuf,
        /// The database's error: it repeats its sources, so it is kept as one text.
        reason: String,
    },
    /// A journal could not be read.
    #[error("cannot index session {session}")]
    Journal {
        /// The session.
        session: SessionId,
        /// The reader's error.
        #[source]
        source: stockade_journal::ReadError,
    },
    /// A session could not be read, so its beginning is unknown.
    #[error(
        "which session is the last cannot be told: {count} could not be read, first {first}; name one by its id"
    )]
    NotIndexed {
        /// The number of unreadable sessions.
        count: usize,
        /// The first of them.
        first: SessionId,
    },
    /// There is no session at all.
    #[error("there is no session yet; `stockade run -- CMD` makes one")]
    NoSessions,
    /// The text is neither `last`, nor the beginning of an id, nor a name.
    #[error("`{0}` is not a session; expected an id, the beginning of one, a name, or `last`")]
    NotASession(String),
    /// No session begins with the text.
    #[error("no session begins with `{0}`; `stockade sessions` lists them")]
    NoMatch(String),
    /// More than one session begins with the text.
    #[error("`{prefix}` is the beginning of {count} sessions: {shown}; write more of the id")]
    Ambiguous {
        /// The given text.
        prefix: String,
        /// The number of matches.
        count: usize,
        /// The first few of them.
        shown: String,
    },
}
