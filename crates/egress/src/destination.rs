//! Who wants to go where: what the packets of a connection say, and what the name of its address is.

use std::{
    net::{IpAddr, SocketAddr},
    sync::PoisonError,
};

use stockade_policy::{Control, Decision, NetRequest};
use stockade_types::{Host, HostName, Port, Subject};

use crate::{Proxy, addresses::is_synthetic_space, wire::Protocol};

/// Finds out who wants to go where; `None` for a port that none is.
pub(crate) async fn request(
    proxy: &Proxy,
    peer: SocketAddr,
    destination: SocketAddr,
) -> Option<NetRequest> {
    let port = Port::new(destination.port())?;
    Some(NetRequest {
        host: host_at(proxy, destination.ip().to_canonical(), port),
        port,
        subject: subject(proxy, peer, destination).await,
    })
}

/// Returns the host that a program means by an address.
pub(crate) fn host_at(proxy: &Proxy, address: IpAddr, port: Port) -> Host {
    let name: Option<HostName> = {
        let table = proxy
            .synthetic
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        table.name(address).cloned()
    };
    match name {
        Some(name) => Host::Name(name),
        // What programs reach by any name of their own machine.
        None if address.is_loopback() => {
            local_service(proxy, port).unwrap_or(Host::Address(address))
        }
        None => Host::Address(address),
    }
}

/// Returns whose connection it is. Where it cannot be told who asks, nobody does: rules know how to
/// judge that.
pub(crate) async fn subject(proxy: &Proxy, peer: SocketAddr, destination: SocketAddr) -> Subject {
    let asked = proxy.supervisor.attribute(Protocol::Tcp, peer, destination);
    asked.await.unwrap_or_default()
}

/// Returns the name under which a port of the session's loopback is a service of the machine.
fn local_service(proxy: &Proxy, port: Port) -> Option<Host> {
    let local = Host::Name("localhost".parse().ok()?);
    proxy.resolver.service(&local, port).map(|_| local)
}

/// Returns the refusal of a destination that no rule can open.
pub(crate) fn impossible(request: &NetRequest) -> Option<Decision> {
    let Host::Address(address) = request.host else {
        return None;
    };
    if address.is_loopback() || address.is_unspecified() {
        let reason = "loopback of the session is not reached through the network";
        return Some(Control::Loopback.denies(reason, ""));
    }
    is_synthetic_space(address).then(|| {
        let reason = "this address stands for no name of this session";
        Control::UnknownAddress.denies(reason, "look the name up and connect to the answer")
    })
}
