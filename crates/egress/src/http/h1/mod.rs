//! HTTP/1.1 as a judge must read it: one meaning or none.
//!
//! The parser is our own because a proxy that decides must not be lenient: whatever two readers
//! could understand differently (RFC 9112 sections 6.3 and 11.2) is refused, and what is sent on
//! is written anew from what was understood.

mod answer;
pub(in crate::http) mod body;
pub(in crate::http) mod chunked;
mod forward;
pub(in crate::http) mod head;
pub(in crate::http) mod lines;
mod opening;
mod proxied;
mod receive;
mod renewal;
mod serve;
#[cfg(test)]
mod tests;

pub(crate) use answer::{linger, send_answer};
pub(crate) use lines::Scanner;
pub(crate) use proxied::{Wish, read_wish};
pub(crate) use serve::{Exchange, Served, serve};

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);
