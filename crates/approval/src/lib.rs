//! Approvals: questions to a person, their answers, and the socket through which a second
//! terminal reaches them.
//!
//! [`Desk`] is the only place that turns an ask into a grant. It is a plain state machine behind
//! one lock: a question is announced to the journal, open, being settled, settled. No step goes
//! back, so a denied question can never be granted, and a question that cannot be recorded is
//! denied. [`Inbox`] makes the desk available on a Unix socket in the session directory, [`Client`]
//! is the other end of that socket.
#![forbid(unsafe_code)]

mod asking;
mod client;
mod covered;
mod desk;
mod exchange;
mod granting;
mod inbox;
mod lending;
mod peer;
mod protocol;
mod question;
mod reviewing;
mod settling;
mod state;
#[cfg(test)]
mod tests;
mod view;

pub use asking::WAIT_SLICE;
pub use client::{Client, ClientError, Watching};
pub use covered::CoveredBy;
pub use desk::{Clock, Desk, Observer, REASON_BYTES_MAX};
pub use exchange::{AnswerError, Asker, DeskEvent, Hand, Opinion, Outcome, Progress, Verify};
pub use granting::GRANT_BYTES_MAX;
pub use inbox::{Inbox, InboxError, InboxOptions};
pub use peer::Peer;
pub use protocol::{QuestionLine, Reply, SOCKET_NAME};
pub use question::{Answer, Case, Question, Settled};
pub use stockade_shown::{Row, Shown};
pub use view::{Lasting, QuestionView};
