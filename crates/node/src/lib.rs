//! The agent of a machine that belongs to an organisation, and the terminal of a person of it.
//!
//! It enrols the machine, ships the journals of its user, carries questions and answers, keeps the policy and
//! the people, takes orders, and renews its certificate. It believes the server nothing that is not signed: a
//! receipt, an order, a bundle and everything else that changes something here is a statement under a key
//! that was pinned at enrolment. A grant it only carries: the session that asked checks it.
//!
//! | module | what |
//! |---|---|
//! | `enrol` | a token becomes a key, a certificate and what the machine pins |
//! | `identity` | where that is kept |
//! | `agent` | the running agent: one connection, and all that goes over it |
//! | `scan` | the sessions of the user, and how far their journals are |
//! | `shipping` | what is sent next, without IO |
//! | `trust` | what sessions believe: who may sign what, the people, the policy |
//! | `receipts` | what the server holds, by its signature |
//! | `connecting`, `http`, `tls` | the connection |
//! | `terminal` | the terminal of a person: signing in, questions and votes, and approver keys |
//! | `member` | a machine without its agent, for tests that play many |
//! | `backoff`, `clock`, `runtime` | when to connect again, the time, and the one thread |
//! | `files` | files that are replaced as a whole |
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

mod agent;
mod backoff;
mod clock;
mod connecting;
mod enrol;
mod files;
mod http;
mod identity;
mod member;
mod receipts;
mod runtime;
mod scan;
mod shipping;
pub mod terminal;
mod tls;
mod trust;

pub use agent::{
    AgentError, Link, Note, Options, Status, Tell, flush, leave, run, run_until, status, stop,
};
pub use enrol::{Enrol, EnrolError, EnrolJob, enrol, enrol_job};
pub use files::FileError;
pub use http::HttpError;
pub use identity::{Enrolment, NODE_DIR, TRUST_DIR, is_of_job};
pub use member::{Connected, DownStream, Member};
pub use receipts::{HeldByServer, RECEIPT_FILE, ReceiptError, held_by_server};
pub use trust::TrustError;
// Who enrols a machine gives these.
pub use stockade_api::{
    EnrolToken,
    node::{Facts, Install},
};

pub use shipping::{Answered, BATCH_BYTES_MAX, Here, JOURNALS_MAX, Next, Shipping, Stopped};
