//! What an agent and the servers of tools that it starts say to each other over pipes.
//!
//! Presets have agents start such a server by `/run/stockade/mcp`, the shim, which passes every byte on and
//! tells the supervisor of calls, results and definitions. A call waits for the verdict; what a server says
//! of its tools waits until it was compared. All of it is the agent's cooperation, as for hooks: an agent
//! can start a server without the shim, and a server can do whatever the boundary lets it do.

mod client;
mod limits;
mod outbox;
mod pipes;
mod serve;
mod wire;
pub(crate) mod wrapping;

use std::{io, os::unix::net::UnixListener, path::Path, sync::Arc};

use crate::{
    hooks::Answers,
    inside_socket::{self, Serving, Staff},
    pins::Comparing,
};

use self::{
    limits::{CLIENTS_MAX, STACK_BYTES},
    serve::Service,
};

pub use client::mcp_main;

/// The socket, in the directory that the session sees as `/run/stockade`.
pub(crate) const SOCKET: &str = "servers";
/// The same, inside.
const PLACE: &str = "/run/stockade/servers";
/// The shim's name there.
pub(crate) const PROGRAM: &str = "mcp";

/// Opens the socket in the directory that the session sees.
pub(crate) fn open(inside: &Path) -> io::Result<UnixListener> {
    inside_socket::listen(inside, SOCKET)
}

/// Starts to answer shims.
pub(crate) fn start(
    listener: UnixListener,
    answers: Arc<Answers>,
    comparing: Arc<Comparing>,
) -> io::Result<Serving> {
    let staff = Staff {
        names: ("servers", "server"),
        clients_max: CLIENTS_MAX,
        stack_bytes: STACK_BYTES,
    };
    let service = Service::new(answers, comparing);
    Serving::start(listener, staff, move |stream| service.answer(&stream))
}
