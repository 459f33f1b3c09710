//! One connection of HTTP/2: its requests, its bounds, its end.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{Reason, server::Connection};
use stockade_policy::AsRequest as _;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsStream;

use super::{
    link::Link,
    request::{self, End},
};
use crate::{
    alpn::Speaks,
    limits::{
        HANDSHAKE_WAIT, HEAD_LIST_BYTES_MAX, KEEP_ALIVE_WAIT, LINGER_IDLE, REFUSAL_WAIT,
        SETTING_PAUSE, STREAM_UNWRITTEN_BYTES, STREAM_WINDOW_BYTES, STREAMS_MAX_SETTING,
        STREAMS_RESET_MAX, STREAMS_UNSEEN_MAX, STREAMS_WINDOW_BYTES, STREAMS_WRONG_MAX,
        TAKEN_BACK_MAX,
    },
    stream::Ahead,
    wire::Revocations,
};

/// A connection of a client.
type Client = Connection<TlsStream<Ahead>, Bytes>;

/// Serves requests until the connection ends, or until what allowed it is taken back.
pub(crate) async fn serve(link: Link, stream: TlsStream<Ahead>, mut revocations: Revocations) {
    let ids = link.allowed.approval_ids();
    let link = Arc::new(link);
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX_SETTING)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(STREAMS_WINDOW_BYTES)
        .max_header_list_size(HEAD_LIST_BYTES_MAX)
        .max_send_buffer_size(STREAM_UNWRITTEN_BYTES)
        .max_concurrent_reset_streams(STREAMS_RESET_MAX)
        .max_pending_accept_reset_streams(STREAMS_UNSEEN_MAX)
        .max_local_error_reset_streams(Some(STREAMS_WRONG_MAX));
    let websockets = link.speaks() == Some(Speaks::WebSockets);
    if websockets {
        builder.enable_connect_protocol();
    }
    let greeting = timeout(HANDSHAKE_WAIT, builder.handshake(stream));
    let mut connection = match greeting.await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return not_read(&link, &error).await,
        Err(_) => return,
    };
    let mut requests = Requests {
        tasks: JoinSet::new(),
        taken_back: 0,
        websockets,
        must_learn: false,
    };
    let carrier = link.carrier();
    let (judge, request) = (&carrier.proxy.judge, carrier.request().as_request());
    let denied = || judge.denies_open(&request, &carrier.allowed.decision);
    let ended = tokio::select! {
        ended = requests.serve(&link, &mut connection) => ended,
        closing = revocations.any_of(&ids, denied) => {
            judge.closed(request.clone(), closing).await;
            Ended::Must(Reason::CANCEL)
        }
    };
    // What is under way goes with it.
    drop(requests);
    match ended {
        Ended::Gone => {}
        Ended::Failed(error) => not_read(&link, &error).await,
        Ended::Idle => {
            connection.graceful_shutdown();
            flush(&mut connection, LINGER_IDLE).await;
        }
        Ended::Must(reason) => {
            if reason == Reason::ENHANCE_YOUR_CALM {
                let why = "more requests were taken back than are worked on";
                drop(
                    link.carrier()
                        .malformed(why, "take back fewer requests")
                        .await,
                );
            }
            connection.abrupt_shutdown(reason);
            flush(&mut connection, REFUSAL_WAIT).await;
        }
    }
}

/// Records a connection that is no HTTP/2; a client that only goes is no refusal.
async fn not_read(link: &Link, error: &h2::Error) {
    if error.is_io() || error.is_remote() {
        return;
    }
    let reason = format!("what was sent is no HTTP/2 that can be read: {error}");
    // The client has its answer: the connection is closed with a reason of the protocol.
    drop(
        link.carrier()
            .malformed(&reason, "send the requests in strict HTTP/2")
            .await,
    );
}

/// Has what is still to be said to the client sent.
async fn flush(connection: &mut Client, wait: Duration) {
    let rest = async {
        // No more requests are taken; those that come are dropped, which resets them.
        while let Some(Ok(_)) = connection.accept().await {}
    };
    drop(timeout(wait, rest).await);
}

/// Why no more requests are taken.
enum Ended {
    /// The client is gone.
    Gone,
    /// What it sent cannot be read.
    Failed(h2::Error),
    /// It asked for nothing for long.
    Idle,
    /// It must go.
    Must(Reason),
}

/// The requests of a connection that are under way.
struct Requests {
    tasks: JoinSet<End>,
    /// How many more were taken back than were answered.
    taken_back: u32,
    /// The client knows that it may ask for WebSockets.
    websockets: bool,
    /// It is to be told.
    must_learn: bool,
}

impl Requests {
    async fn serve(&mut self, link: &Arc<Link>, connection: &mut Client) -> Ended {
        loop {
            tokio::select! {
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, respond))) => {
                        self.tasks.spawn(request::serve(Arc::clone(link), request, respond));
                    }
                    Some(Err(error)) => return Ended::Failed(error),
                    None => return Ended::Gone,
                },
                Some(end) = self.tasks.join_next() => {
                    self.count(end.unwrap_or(End::Answered));
                    if self.taken_back > TAKEN_BACK_MAX {
                        return Ended::Must(Reason::ENHANCE_YOUR_CALM);
                    }
                    self.learn(link, connection);
                }
                () = sleep(SETTING_PAUSE), if self.must_learn => self.learn(link, connection),
                () = sleep(KEEP_ALIVE_WAIT), if self.tasks.is_empty() => return Ended::Idle,
            }
        }
    }

    fn count(&mut self, end: End) {
        match end {
            End::Answered => self.taken_back = self.taken_back.saturating_sub(1),
            End::TakenBack => self.taken_back += 1,
        }
    }

    /// Tells the client of WebSockets, once the server has.
    fn learn(&mut self, link: &Link, connection: &mut Client) {
        self.must_learn = !self.websockets && link.servers.takes_websockets();
        if !self.must_learn {
            return;
        }
        let request = link.carrier().request();
        if let Some(inspection) = &link.proxy.inspection {
            inspection
                .spoken
                .note(&request.host, request.port, Speaks::WebSockets);
        }
        // It fails while an earlier setting is not confirmed, and is said a little later.
        self.websockets = connection.enable_connect_protocol().is_ok();
        self.must_learn = !self.websockets;
    }
}
