//! Which HTTP is spoken inside TLS, and how both sides agree on it (ALPN, RFC 7301).
//!
//! The server is not contacted before a request to it may be sent, and so the client is agreed with
//! first: with HTTP/2 if it offers that, unless the server is known to speak HTTP/1 only. The server
//! is then offered what the client speaks, and HTTP/1 in any case. Who offers something else is agreed
//! with on nothing, and its server offered nothing.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use stockade_types::{Host, Port};

use crate::limits::SPOKEN_HOSTS_MAX;

const HTTP_1: &[u8] = b"http/1.1";
const HTTP_2: &[u8] = b"h2";

/// A version of HTTP, as far as it is agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Http {
    /// HTTP/1.
    One,
    /// HTTP/2.
    Two,
    /// None: HTTP/1, or no HTTP at all.
    Unsaid,
}

impl Http {
    /// All.
    pub(crate) const ALL: [Self; 3] = [Self::One, Self::Two, Self::Unsaid];

    /// Returns what is agreed on with a client that offers `protocols`, where `best` is the best.
    pub(crate) fn with<'p>(protocols: impl Iterator<Item = &'p [u8]>, best: Self) -> Self {
        let mut agreed = Self::Unsaid;
        for protocol in protocols {
            match (protocol, best) {
                (HTTP_2, Self::Two) => return Self::Two,
                (HTTP_1, _) => agreed = Self::One,
                _ => {}
            }
        }
        agreed
    }

    /// Returns what is offered, or accepted, where this one is spoken if possible.
    pub(crate) fn offer(self) -> Vec<Vec<u8>> {
        match self {
            Self::One => vec![HTTP_1.to_vec()],
            Self::Two => vec![HTTP_2.to_vec(), HTTP_1.to_vec()],
            Self::Unsaid => Vec::new(),
        }
    }

    /// Reads what was agreed on.
    pub(crate) fn agreed(protocol: Option<&[u8]>) -> Self {
        match protocol {
            Some(HTTP_2) => Self::Two,
            Some(HTTP_1) => Self::One,
            Some(_) | None => Self::Unsaid,
        }
    }
}

/// What a server spoke when it was last connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// HTTP/1 only.
    One,
    /// HTTP/2.
    Two,
    /// HTTP/2, with WebSockets over it (RFC 8441).
    WebSockets,
}

/// What servers spoke when they were last connected to.
#[derive(Debug, Default)]
pub(crate) struct Spoken(Mutex<HashMap<(Host, Port), Speaks>>);

impl Spoken {
    /// Remembers it.
    pub(crate) fn note(&self, host: &Host, port: Port, speaks: Speaks) {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= SPOKEN_HOSTS_MAX {
            hosts.clear();
        }
        hosts.insert((host.clone(), port), speaks);
    }

    /// Returns what is known of a server.
    pub(crate) fn of(&self, host: &Host, port: Port) -> Option<Speaks> {
        let hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.get(&(host.clone(), port)).copied()
    }

    /// Returns what clients of a host are agreed with on, if they offer it.
    pub(crate) fn best(&self, host: &Host, port: Port) -> Http {
        match self.of(host, port) {
            Some(Speaks::One) => Http::One,
            Some(Speaks::Two | Speaks::WebSockets) | None => Http::Two,
        }
    }
}
