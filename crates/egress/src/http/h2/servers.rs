//! The connections to the server that the requests of one connection share.

use std::{
    future::poll_fn,
    sync::{Mutex, PoisonError},
    task::Poll,
};

use tokio::{sync::Mutex as Turn, task::JoinHandle};

use crate::{
    alpn::{Http, Speaks},
    dial::{Carries, Silent, Unreachable},
    gate::{Driver, Streams},
    http::Carrier,
    limits::KEPT_SERVERS_MAX,
    upstream::{Failed, Opened, Upstream},
};

/// A connection to the server, for one request.
pub(crate) enum Server {
    /// One of HTTP/1, for this request alone.
    One(Box<Upstream>),
    /// One of HTTP/2, shared with others.
    Two(Streams),
}

/// All connections to the server.
#[derive(Default)]
pub(crate) struct Servers {
    /// The one of HTTP/2, with which every request goes.
    two: Mutex<Option<Shared>>,
    /// Those of HTTP/1 that carry no request now.
    one: Mutex<Vec<Upstream>>,
    /// One request at a time finds out what the server speaks.
    opening: Turn<()>,
}

/// A connection of HTTP/2, which ends when this is dropped.
struct Shared {
    streams: Streams,
    task: JoinHandle<()>,
    ends_by_itself: bool,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.ends_by_itself {
            self.task.abort();
        }
    }
}

impl Shared {
    fn start(streams: Streams, driver: Driver, opened: Opened) -> Self {
        let task = tokio::spawn(async move {
            driver.await;
            // It tells of the end.
            drop(opened);
        });
        Self {
            streams,
            task,
            ends_by_itself: false,
        }
    }
}

impl Servers {
    /// Takes a connection that is there.
    pub(crate) async fn take(&self) -> Option<Server> {
        if let Some(streams) = self.shared() {
            return Some(Server::Two(streams));
        }
        loop {
            let upstream = lock(&self.one).pop()?;
            if !is_over(&upstream).await {
                return Some(Server::One(Box::new(upstream)));
            }
        }
    }

    /// Keeps a connection of HTTP/1 whose request is over.
    pub(crate) fn keep(&self, upstream: Box<Upstream>) {
        let mut all = lock(&self.one);
        if all.len() < KEPT_SERVERS_MAX {
            all.push(*upstream);
        }
    }

    /// Tells whether the server takes WebSockets over HTTP/2, as far as it has said yet.
    pub(crate) fn takes_websockets(&self) -> bool {
        let shared = self.shared();
        shared.is_some_and(|streams| streams.takes_websockets())
    }

    /// Forgets the connection of HTTP/2, which takes no more requests; those under way go on, and it
    /// ends with the last of them.
    pub(crate) fn retire(&self) {
        if let Some(mut old) = lock(&self.two).take() {
            old.ends_by_itself = true;
        }
    }

    fn shared(&self) -> Option<Streams> {
        let shared = lock(&self.two);
        let shared = shared.as_ref().filter(|one| !one.task.is_finished())?;
        Some(shared.streams.clone())
    }

    /// Makes a connection, or takes one of HTTP/2 that another request has made meanwhile.
    pub(crate) async fn open(&self, carrier: Carrier<'_>) -> Result<Server, Failed> {
        let (host, port) = (&carrier.request().host, carrier.request().port);
        let spoken = carrier.proxy.inspection.as_ref().map(|own| &own.spoken);
        let best = spoken.map_or(Http::One, |spoken| spoken.best(host, port));
        let turn = match best {
            Http::One | Http::Unsaid => None,
            Http::Two => Some(self.opening.lock().await),
        };
        if let Some(streams) = self.shared() {
            return Ok(Server::Two(streams));
        }
        let said = (None, Some("http/2 in tls that was opened".to_owned()));
        let made = (None, Carries::Sealed(best));
        let upstream = Box::pin(Upstream::open(carrier.proxy, carrier.allowed, made, said));
        let upstream = upstream.await?;
        let note = |speaks| {
            if let (Some(spoken), Http::Two) = (spoken, best) {
                spoken.note(host, port, speaks);
            }
        };
        if upstream.http != Http::Two {
            note(Speaks::One);
            drop(turn);
            return Ok(Server::One(Box::new(upstream)));
        }
        note(Speaks::Two);
        let (server, opened) = upstream.into_parts();
        let (streams, driver) = server.into_streams().await.map_err(|error| {
            Failed::Unreachable(Unreachable::Refused {
                host: host.to_string(),
                how: Silent::Other(error.to_string()),
            })
        })?;
        let shared = Shared::start(streams.clone(), driver, opened);
        *lock(&self.two) = Some(shared);
        Ok(Server::Two(streams))
    }
}

/// Tells whether a server has ended a kept connection, or speaks unasked.
async fn is_over(upstream: &Upstream) -> bool {
    let mut speaks = std::pin::pin!(upstream.server.speaks());
    poll_fn(|context| Poll::Ready(speaks.as_mut().poll(context).is_ready())).await
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
