//! The gate to a server that speaks HTTP/2: requests go side by side over one connection, and each
//! opens its own way for what was permitted.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::{Connection, ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request, Response};
use stockade_policy::Permitted;
use tokio_rustls::TlsStream;

use super::{Budgets, Counters, Server, Toll, Unsent};
use crate::{
    judge::Allowed,
    limits::{
        HEAD_LIST_BYTES_MAX, STREAM_WINDOW_BYTES, STREAMS_MAX, STREAMS_RESET_MAX,
        STREAMS_WINDOW_BYTES,
    },
    stream::Ahead,
    watch::Watch,
};

/// A server that speaks HTTP/2.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    requests: SendRequest<Bytes>,
    counters: Arc<Counters>,
    budgets: Arc<Budgets>,
}

/// What moves the bytes of [`Streams`]; nothing does if it is not polled. It ends with the connection.
pub(crate) struct Driver(Connection<TlsStream<Ahead>, Bytes>);

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Each stream learns by itself how the connection ended.
        Pin::new(&mut self.0).poll(context).map(drop)
    }
}

impl Server {
    /// Begins to speak HTTP/2, over TLS in which it was agreed on.
    ///
    /// # Errors
    /// When it goes, or is not inside TLS.
    pub(crate) async fn into_streams(self) -> Result<(Streams, Driver), h2::Error> {
        let Some(stream) = self.stream.into_tls() else {
            return Err(Reason::INADEQUATE_SECURITY.into());
        };
        let (requests, connection) = h2::client::Builder::new()
            .enable_push(false)
            .max_concurrent_streams(0)
            .initial_max_send_streams(STREAMS_MAX)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(STREAMS_WINDOW_BYTES)
            .max_header_list_size(HEAD_LIST_BYTES_MAX)
            .max_concurrent_reset_streams(STREAMS_RESET_MAX)
            .handshake(stream)
            .await?;
        let streams = Streams {
            requests,
            counters: self.counters,
            budgets: self.budgets,
        };
        Ok((streams, Driver(connection)))
    }
}

/// How the body of a request comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// There is none.
    WithHead,
    /// After what follows the head.
    Later,
}

impl Streams {
    /// Tells whether the server takes WebSockets over HTTP/2 (RFC 8441), as far as it has said yet.
    pub(crate) fn takes_websockets(&self) -> bool {
        self.requests.is_extended_connect_protocol_enabled()
    }

    /// Waits until another request can be sent.
    ///
    /// # Errors
    /// When none can any more.
    pub(crate) async fn ready(&mut self) -> Result<(), h2::Error> {
        poll_fn(|context| self.requests.poll_ready(context)).await
    }

    /// Sends the head of what `allowed` stands for; `bytes` is how long it is, with the body if that is
    /// known.
    pub(crate) fn send<'a, T>(
        &'a mut self,
        allowed: &'a Allowed<T>,
        (head, ends): (Request<()>, Ends),
        (own, announced): (usize, u64),
    ) -> Result<(Answering<'a>, StreamOut<'a, T>), Unsent> {
        let mut toll = Toll {
            watch: Watch::over(),
            counters: &self.counters,
            budgets: &self.budgets,
            limits: &allowed.decision.terms.bytes_max,
        };
        let looked = toll.budgets.look(toll.limits, announced);
        looked.map_err(Unsent::Refused)?;
        toll.take(own).map_err(Unsent::Refused)?;
        let sent = self.requests.send_request(head, ends == Ends::WithHead);
        let (response, to) = sent.map_err(|_| Unsent::Failed)?;
        let counters = &self.counters;
        let out = StreamOut {
            permitted: &allowed.permitted,
            to,
            toll,
        };
        Ok((Answering { response, counters }, out))
    }
}

/// The way of one request to the server.
pub(crate) struct StreamOut<'a, T> {
    permitted: &'a Permitted<T>,
    to: SendStream<Bytes>,
    toll: Toll<'a>,
}

impl<'a, T> StreamOut<'a, T> {
    /// Returns what may be sent.
    pub(crate) const fn permitted(&self) -> &'a Permitted<T> {
        self.permitted
    }

    /// Sends all of `bytes` as the server takes them, or none of them if they must not leave.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), Unsent> {
        self.toll.pass(&bytes).map_err(Unsent::Refused)?;
        let written = write(&mut self.to, bytes).await;
        written.map_err(|_| Unsent::Failed)
    }

    /// Tells the server that no more comes.
    pub(crate) fn end(&mut self) -> Result<(), Unsent> {
        let ended = self.to.send_data(Bytes::new(), true);
        ended.map_err(|_| Unsent::Failed)
    }

    /// Sends the fields that come after a body, and ends it.
    pub(crate) fn end_with(&mut self, trailers: HeaderMap) -> Result<(), Unsent> {
        for (name, value) in &trailers {
            for bytes in [name.as_str().as_bytes(), value.as_bytes()] {
                self.toll.pass(bytes).map_err(Unsent::Refused)?;
            }
        }
        let ended = self.to.send_trailers(trailers);
        ended.map_err(|_| Unsent::Failed)
    }

    /// Takes back what was sent, as far as that is possible.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.to.send_reset(reason);
    }
}

/// Writes all of `bytes` into a stream as its other side takes them.
///
/// # Errors
/// When the stream was reset or its connection is gone.
pub(crate) async fn write(to: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        to.reserve_capacity(bytes.len());
        while to.capacity() == 0 {
            match poll_fn(|context| to.poll_capacity(context)).await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(Reason::CANCEL.into()),
            }
        }
        let now = bytes.split_to(to.capacity().min(bytes.len()));
        to.send_data(now, false)?;
    }
    Ok(())
}

/// A response that is to come.
pub(crate) struct Answering<'a> {
    response: ResponseFuture,
    counters: &'a Counters,
}

/// What a server says next of its response.
pub(crate) enum Said {
    /// A head before the one of the response (1xx).
    Interim(Response<()>),
    /// The response.
    Final(Response<StreamIn>),
}

impl Answering<'_> {
    /// Waits for the next head.
    ///
    /// # Errors
    /// When the server resets the stream or is gone.
    pub(crate) async fn next(&mut self) -> Result<Said, h2::Error> {
        poll_fn(|context| {
            if let Poll::Ready(Some(interim)) = self.response.poll_informational(context) {
                return Poll::Ready(interim.map(Said::Interim));
            }
            Pin::new(&mut self.response)
                .poll(context)
                .map_ok(|response| Said::Final(response.map(StreamIn)))
        })
        .await
        .inspect(|said| match said {
            Said::Interim(response) => self.counters.add_in(size(response.headers())),
            Said::Final(response) => self.counters.add_in(size(response.headers())),
        })
    }

    /// Says that bytes of a body came.
    pub(crate) fn counters(&self) -> &Counters {
        self.counters
    }
}

/// The body of a response.
pub(crate) struct StreamIn(RecvStream);

impl StreamIn {
    /// Tells whether nothing comes.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_end_stream()
    }

    /// Returns the next bytes; `None` at the end. More come only once they are [passed](Self::passed).
    ///
    /// # Errors
    /// When the server resets the stream or is gone.
    pub(crate) async fn data(&mut self, counters: &Counters) -> Option<Result<Bytes, h2::Error>> {
        let data = self.0.data().await?;
        Some(data.inspect(|bytes| counters.add_in(bytes.len())))
    }

    /// Says that so many bytes were passed on, so that as many more may come.
    pub(crate) fn passed(&mut self, bytes: usize) {
        // It fails for more than came, which is not said here.
        drop(self.0.flow_control().release_capacity(bytes));
    }

    /// Returns the fields after the body.
    ///
    /// # Errors
    /// When the server resets the stream or is gone.
    pub(crate) async fn trailers(&mut self) -> Result<Option<HeaderMap>, h2::Error> {
        self.0.trailers().await
    }
}

/// Returns the bytes of all names and values.
pub(crate) fn size(fields: &HeaderMap) -> usize {
    fields
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum()
}
