//! Names with ports, and ports on both sides of the boundary.

use std::fmt;

use serde::{Deserialize, Serialize};
use stockade_types::{HostName, Port};

/// A name and a port.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(into = "String", try_from = "String")]
pub struct Endpoint {
    /// The name.
    pub host: HostName,
    /// The port.
    pub port: Port,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WANTED: &str = "expected a name and a port";
        let (host, port) = text.rsplit_once(':').ok_or(WANTED)?;
        Ok(Self {
            host: host.parse().map_err(|_| WANTED)?,
            port: number(port).ok_or(WANTED)?,
        })
    }
}

/// A port of the session that exists on the machine's loopback.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The port on which a program of the session listens.
    pub inside: Port,
    /// The port on the machine.
    pub outside: Port,
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.inside == self.outside {
            write!(f, "{}", self.inside)
        } else {
            write!(f, "{} as {}", self.inside, self.outside)
        }
    }
}

/// Reads a port.
pub(crate) fn number(text: &str) -> Option<Port> {
    text.parse().ok().and_then(Port::new)
}
