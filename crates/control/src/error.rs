//! Why something about the server does not work.

use std::{io, path::PathBuf};

/// Why something about the server does not work.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A file or directory cannot be used.
    #[error("cannot {act} `{path}`")]
    File {
        /// `read`, `create`, …
        act: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is not what it has to be.
    #[error("`{path}` {what}")]
    Wrong {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what was expected.
        what: String,
    },
    /// The directory is not one of a server.
    #[error("`{path}` holds no server; make one with `stockade serve init --data {path}`")]
    NotInitialised {
        /// Which.
        path: PathBuf,
    },
    /// Another server uses the directory.
    #[error("another server uses `{path}`; one directory has one server")]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// A name or address was not accepted.
    #[error("{what} `{value}`: expected {expected}")]
    Value {
        /// Of what.
        what: &'static str,
        /// What was given.
        value: String,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// The state cannot be read or written.
    #[error("the state of the server: {act}")]
    State {
        /// What was done.
        act: &'static str,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// What is stored cannot be read.
    #[error("the state of the server holds {what} that cannot be read: {why}")]
    Stored {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The state is of a newer version.
    #[error("the state of the server has version {found}; this program knows up to {known}")]
    Newer {
        /// What it has.
        found: i64,
        /// What is known.
        known: i64,
    },
    /// What is outside is not as it has to be.
    #[error("{0}")]
    Outside(String),
    /// A certificate cannot be made.
    #[error("a certificate cannot be made")]
    Certificate(#[source] rcgen::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
    /// A statement cannot be signed or opened.
    #[error("a statement: {0}")]
    Statement(#[from] stockade_trust::EnvelopeError),
    /// The server's own record cannot be written.
    #[error("the record of the server")]
    Record(#[source] stockade_journal::JournalError),
    /// Work beside the reactor did not end.
    #[error("work of the server has failed: {0}")]
    Work(String),
    /// The key of the server's own record cannot be used.
    #[error("the key of the record of the server")]
    RecordKey(#[source] stockade_journal::KeyError),
}

impl ControlError {
    pub(crate) fn file(
        act: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { act, path, source }
    }

    pub(crate) fn state(act: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::State { act, source }
    }
}
