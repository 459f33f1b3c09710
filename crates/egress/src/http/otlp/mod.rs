//! The receiver of what agents export about themselves (OTLP), at an address that no program inside can
//! have: HTTP with protocol buffers or JSON, and gRPC, told apart by the first bytes.
//!
//! It sends nothing on and decides nothing. What it takes becomes claims, with the program that exports
//! them; what is too much is refused in the exporter's own protocol and counted, and nobody waits for it.
//!
//! | module | what |
//! |---|---|
//! | `intake` | how much is taken, and its way to the supervisor |
//! | `body` | one export while it is sent |
//! | `claims` | claims as events |
//! | `h1` | exports over HTTP/1 |
//! | `grpc` | exports over HTTP/2, as gRPC has them |

mod body;
mod claims;
mod grpc;
mod h1;
mod intake;

use std::{net::SocketAddr, sync::Arc};

use stockade_agents::otlp::{Encoding, Signal};
use stockade_types::Subject;
use tokio::{net::TcpStream, time::timeout};

pub(crate) use intake::Receiver;

use crate::{
    Proxy, destination,
    limits::{HANDSHAKE_WAIT, HEAD_READ_BYTES},
    stream::Stream,
};

/// How a connection of HTTP/2 begins (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Why an export is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is longer than one may be.
    TooLong,
    /// More is sent than is taken.
    TooMuch,
    /// It is not of the format, and why.
    Malformed(&'static str),
}

impl Refused {
    /// Says it in a few words.
    pub(super) const fn why(self) -> &'static str {
        match self {
            Self::TooLong => "the export is longer than is taken",
            Self::TooMuch => "more is exported than is taken; later exports are taken again",
            Self::Malformed(why) => why,
        }
    }
}

/// An exporter.
pub(super) struct Exporter<'p> {
    proxy: &'p Proxy,
    receiver: &'p Receiver,
    peer: SocketAddr,
    destination: SocketAddr,
    /// Whose it is, once that was asked for.
    subject: Option<Subject>,
}

impl Exporter<'_> {
    /// Takes an export that was read.
    pub(super) async fn export(
        &mut self,
        signal: Signal,
        encoding: Encoding,
        body: body::Held,
    ) -> Result<(), Refused> {
        let taken = self.receiver.read(signal, encoding, body)?;
        if taken.is_empty() {
            return Ok(());
        }
        if self.subject.is_none() {
            let asked = destination::subject(self.proxy, self.peer, self.destination);
            self.subject = Some(asked.await);
        }
        let subject = self.subject.clone().unwrap_or_default();
        self.receiver.queue(subject, taken)
    }
}

/// Serves one connection of an exporter.
pub(crate) async fn serve(proxy: &Arc<Proxy>, socket: TcpStream, destination: SocketAddr) {
    let mut stream = Stream::Plain(socket);
    let (Some(receiver), Ok(peer)) = (&proxy.receiver, stream.peer_addr()) else {
        return stream.reset();
    };
    let Some(_place) = receiver.place() else {
        return stream.reset();
    };
    let mut exporter = Exporter {
        proxy,
        receiver,
        peer,
        destination,
        subject: None,
    };
    let mut read = Vec::new();
    let greeting = timeout(HANDSHAKE_WAIT, greeting(&mut stream, &mut read));
    match greeting.await {
        Ok(Some(true)) => {
            if let Some(socket) = stream.into_socket() {
                grpc::serve(&mut exporter, socket, read).await;
            }
        }
        Ok(Some(false)) => h1::serve(&mut exporter, &mut stream, read).await,
        Ok(None) | Err(_) => {}
    }
}

/// Tells whether HTTP/2 is spoken; `None` if the connection ends before that is known.
async fn greeting(stream: &mut Stream, read: &mut Vec<u8>) -> Option<bool> {
    loop {
        let seen = read.len().min(PREFACE.len());
        if !read.is_empty() && read.get(..seen) != PREFACE.get(..seen) {
            return Some(false);
        }
        if seen == PREFACE.len() {
            return Some(true);
        }
        if !matches!(stream.fill(read, HEAD_READ_BYTES).await, Ok(1..)) {
            return None;
        }
    }
}
