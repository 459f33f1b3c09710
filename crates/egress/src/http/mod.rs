//! Requests: what of them is judged, and the protocols that carry them.
//!
//! | module | what |
//! |---|---|
//! | `head` | what is judged, the same for every protocol: method, host, path, fields |
//! | `h1` | HTTP/1: the strict reader, and the connection that carries one request after another |
//!
//! A protocol reads a [`Head`], has it judged as an [`Addressed`] on its connection, and sends what
//! the proof of that holds.

pub(crate) mod h1;
mod head;

pub(crate) use head::{Addressed, Field, Fields, Head};
