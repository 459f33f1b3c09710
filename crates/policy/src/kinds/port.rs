//! Ports on which programs of the session listen. No rule is about them, so one file is enough.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use stockade_types::{Port, Subject, Target};

use crate::canonical::Canonical;

/// A port of the session is about to be published on the machine's loopback, under the same number.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct PortRequest {
    /// The port on which a program of the session listens.
    pub port: Port,
    /// The program that listens.
    #[serde(default)]
    pub subject: Subject,
}

impl PortRequest {
    pub(crate) fn target(&self) -> Target {
        Target {
            host: Some(Ipv4Addr::LOCALHOST.to_string()),
            port: Some(self.port.get()),
            ..Target::default()
        }
    }

    /// Adds everything that identifies this exact request.
    pub(crate) fn hash(&self, hash: &mut Canonical) {
        hash.field(b"port").field(&self.port.get().to_be_bytes());
        hash.field(self.subject.exe.as_bytes());
    }

    /// Adds the parts that were shown: any port.
    #[expect(clippy::unused_self, reason = "the same as of every other request")]
    pub(crate) fn hash_shape(&self, hash: &mut Canonical) {
        hash.field(b"port");
    }
}
