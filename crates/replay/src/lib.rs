//! What another policy would have said in recorded sessions.
//!
//! Events go in, one session after the other, and a report comes out. From each recorded decision the
//! request is made again ([`rebuild`]) and judged by the proposed policy alone, without answers of people. The
//! record is compared in the same way: a request about which a person was asked counts as asked, whatever
//! the answer was.
//!
//! A verdict is exact if the record has everything that the decision rests on. If not, the report names what
//! is [`Missing`]. Decisions that no rule makes, such as the refusal of a system call, are counted and not
//! judged.
//!
//! Memory does not grow with the number of events or sessions: every table here has a bound, and beyond it the
//! report is coarser, never wrong.
//!
//! This crate reads no file and no clock, so that the server can use it on its evidence as well.
#![forbid(unsafe_code)]

mod facts;
mod missing;
mod rebuild;
mod report;
mod session;
mod shown;

pub use missing::Missing;
pub use report::{Example, Group, Outcome, Report};
pub use session::{Replay, Session};
