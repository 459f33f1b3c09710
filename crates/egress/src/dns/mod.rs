//! Names: the session's resolver, which knows only names that policy knows, and our own, which
//! asks the host's name servers once a connection is allowed.

mod message;
mod records;
mod resolver;
mod server;
#[cfg(test)]
mod tests;

pub(crate) use resolver::{Resolver, Unresolved};
pub(crate) use server::{Names, serve_stream, serve_udp, stand_in};
