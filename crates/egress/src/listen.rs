//! Accepting: listeners and datagram sockets, each with its own bounded set of tasks.

use std::{io, net::SocketAddr, sync::Arc};

use stockade_policy::is_telemetry;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::sleep,
};

use crate::{
    Datagrams, EgressError, ListenerKind, Proxy, connection, dns,
    http::otlp,
    inside_proxy,
    limits::{ACCEPT_PAUSE, CONNECTIONS_MAX, DNS_STREAMS_MAX},
    stream::Stream,
};

/// Starts one task per socket. Dropping the set ends them and all that they accepted.
pub(crate) fn start(
    proxy: &Arc<Proxy>,
    tcp: Vec<(std::net::TcpListener, ListenerKind)>,
    udp: Vec<Box<dyn Datagrams>>,
) -> Result<JoinSet<()>, EgressError> {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let streams = Arc::new(Semaphore::new(DNS_STREAMS_MAX));
    let mut tasks = JoinSet::new();
    for (listener, kind) in tcp {
        let listener = nonblocking(listener).map_err(|source| EgressError::Descriptor {
            which: "listener",
            source,
        })?;
        let slots = match kind {
            ListenerKind::DnsTcp => Arc::clone(&streams),
            ListenerKind::Redirected | ListenerKind::Direct => Arc::clone(&connections),
        };
        tasks.spawn(accept(Arc::clone(proxy), listener, kind, slots));
    }
    for socket in udp {
        tasks.spawn(dns::serve_udp(Arc::clone(proxy), Arc::from(socket)));
    }
    // With no socket at all there is nothing to wait for but the control connection.
    tasks.spawn(std::future::pending());
    Ok(tasks)
}

fn nonblocking(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn accept(
    proxy: Arc<Proxy>,
    listener: TcpListener,
    kind: ListenerKind,
    slots: Arc<Semaphore>,
) {
    let mut tasks = JoinSet::new();
    loop {
        // Ended tasks are taken out as they come, so the set holds only what is open.
        while tasks.try_join_next().is_some() {}
        // Where all slots are taken the kernel's backlog is the queue.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let Ok((client, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let proxy = Arc::clone(&proxy);
        tasks.spawn(async move {
            let _slot = slot;
            serve(&proxy, client, kind).await;
        });
    }
}

async fn serve(proxy: &Arc<Proxy>, client: TcpStream, kind: ListenerKind) {
    // Interactive protocols suffer without it; where it fails they are only slow.
    drop(client.set_nodelay(true));
    let Ok(destination) = destination(proxy, &client, kind) else {
        return Stream::Plain(client).reset();
    };
    if is_telemetry(destination.ip(), destination.port()) {
        return Box::pin(otlp::serve(proxy, client, destination)).await;
    }
    match kind {
        // A client that breaks off or babbles is simply left.
        ListenerKind::DnsTcp => drop(dns::serve_stream(proxy, client, destination).await),
        ListenerKind::Direct if proxy.is_inside_proxy(destination) => {
            inside_proxy::serve(proxy, Stream::Plain(client), destination).await;
        }
        ListenerKind::Redirected | ListenerKind::Direct => {
            connection::serve(proxy, Stream::Plain(client), destination).await;
        }
    }
}

fn destination(proxy: &Proxy, client: &TcpStream, kind: ListenerKind) -> io::Result<SocketAddr> {
    match kind {
        ListenerKind::Redirected => (proxy.original_destination)(client),
        ListenerKind::Direct | ListenerKind::DnsTcp => client.local_addr(),
    }
}
