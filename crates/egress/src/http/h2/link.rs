//! What the requests of one connection of HTTP/2 share.

use std::sync::Arc;

use stockade_policy::NetRequest;

use super::servers::Servers;
use crate::{Proxy, alpn::Speaks, http::Carrier, judge::Allowed};

/// A connection that speaks HTTP/2, and where it leads.
pub(crate) struct Link {
    /// The process.
    pub(crate) proxy: Arc<Proxy>,
    /// The decision on the connection.
    pub(crate) allowed: Box<Allowed<NetRequest>>,
    /// The connections to the server.
    pub(crate) servers: Servers,
}

impl Link {
    /// Begins without a connection to the server.
    pub(crate) fn new(proxy: Arc<Proxy>, allowed: Box<Allowed<NetRequest>>) -> Self {
        Self {
            proxy,
            allowed,
            servers: Servers::default(),
        }
    }

    /// Returns what requests are judged by.
    pub(crate) fn carrier(&self) -> Carrier<'_> {
        Carrier {
            proxy: &self.proxy,
            allowed: &self.allowed,
            sealed: true,
        }
    }

    /// Returns what the server spoke when it was last connected to.
    pub(super) fn speaks(&self) -> Option<Speaks> {
        let request = self.carrier().request();
        let inspection = self.proxy.inspection.as_ref()?;
        inspection.spoken.of(&request.host, request.port)
    }
}
