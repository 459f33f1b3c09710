//! Exports over HTTP/2 without TLS, as gRPC has them: one message up, an empty one back.

use bytes::{Buf as _, Bytes};
use h2::{
    Reason, RecvStream,
    server::{self, SendResponse},
};
use http::{HeaderMap, HeaderValue, Request, Response};
use stockade_agents::otlp::{Encoding, Signal};
use tokio::{net::TcpStream, time::timeout};

use super::{
    Exporter, Refused,
    body::{Body, Held},
};
use crate::{
    limits::{
        EXPORT_STREAMS_MAX, EXPORT_WAIT, EXPORT_WINDOW_BYTES, HANDSHAKE_WAIT, HEAD_LIST_BYTES_MAX,
        KEEP_ALIVE_WAIT, STREAMS_RESET_MAX, STREAMS_UNSEEN_MAX, STREAMS_WRONG_MAX,
    },
    stream::Ahead,
};

/// What stands before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// An empty message.
const NOTHING: &[u8] = &[0; PREFIX_BYTES];

/// Results of calls (gRPC, status codes).
mod status {
    pub(super) const OK: u16 = 0;
    pub(super) const INVALID_ARGUMENT: u16 = 3;
    pub(super) const RESOURCE_EXHAUSTED: u16 = 8;
    pub(super) const UNIMPLEMENTED: u16 = 12;
}

/// Serves the calls of a connection, one after the other.
pub(super) async fn serve(exporter: &mut Exporter<'_>, socket: TcpStream, read: Vec<u8>) {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(EXPORT_STREAMS_MAX)
        .initial_window_size(EXPORT_WINDOW_BYTES)
        .initial_connection_window_size(EXPORT_WINDOW_BYTES)
        .max_header_list_size(HEAD_LIST_BYTES_MAX)
        .max_concurrent_reset_streams(STREAMS_RESET_MAX)
        .max_pending_accept_reset_streams(STREAMS_UNSEEN_MAX)
        .max_local_error_reset_streams(Some(STREAMS_WRONG_MAX));
    let greeting = timeout(HANDSHAKE_WAIT, builder.handshake(Ahead::new(read, socket)));
    let Ok(Ok(mut connection)) = greeting.await else {
        return;
    };
    while let Ok(Some(Ok((request, respond)))) = timeout(KEEP_ALIVE_WAIT, connection.accept()).await
    {
        let one = timeout(EXPORT_WAIT, call(exporter, request, respond));
        tokio::pin!(one);
        // The connection is worked on while the call is: its body comes over it.
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut one => break ended.is_ok(),
                next = connection.accept() => match next {
                    // One export at a time is enough for exporters; another one may be sent again.
                    Some(Ok((_, mut other))) => other.send_reset(Reason::REFUSED_STREAM),
                    Some(Err(_)) | None => return,
                },
            }
        };
        if !ended {
            break;
        }
    }
    connection.graceful_shutdown();
    let rest = async { while let Some(Ok(_)) = connection.accept().await {} };
    drop(timeout(HANDSHAKE_WAIT, rest).await);
}

/// Takes what one call exports, and answers.
async fn call(
    exporter: &mut Exporter<'_>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let (head, mut stream) = request.into_parts();
    let signal = match head.uri.path() {
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Signal::Logs,
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Signal::Traces,
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Signal::Metrics,
        _ => {
            rest(&mut stream).await;
            return answer(respond, status::UNIMPLEMENTED, "no such service");
        }
    };
    let coding = head.headers.get("grpc-encoding");
    let coding = coding.map_or(&b""[..], HeaderValue::as_bytes);
    let held = message(exporter, &mut stream, coding).await;
    let Some(held) = held else { return };
    let taken = match held {
        Ok(held) => exporter.export(signal, Encoding::Binary, held).await,
        Err(refused) => {
            rest(&mut stream).await;
            Err(refused)
        }
    };
    let Err(refused) = taken else {
        return answer(respond, status::OK, "");
    };
    exporter.receiver.refused(refused);
    let code = match refused {
        Refused::TooLong | Refused::TooMuch => status::RESOURCE_EXHAUSTED,
        Refused::Malformed(_) => status::INVALID_ARGUMENT,
    };
    answer(respond, code, refused.why());
}

/// Takes in what a client still sends, in bounds: many see no answer that comes before they are done.
async fn rest(stream: &mut RecvStream) {
    let mut left = usize::try_from(EXPORT_WINDOW_BYTES).unwrap_or(usize::MAX);
    while let Some(Ok(data)) = stream.data().await {
        // Where this fails the client is gone, which shows when the next piece is read.
        drop(stream.flow_control().release_capacity(data.len()));
        left = left.saturating_sub(data.len());
        if left == 0 {
            return;
        }
    }
}

/// Reads the one message of a call; `None` if the client ends before it does.
async fn message(
    exporter: &Exporter<'_>,
    stream: &mut RecvStream,
    coding: &[u8],
) -> Option<Result<Held, Refused>> {
    const FORM: Refused = Refused::Malformed("it is no single message of gRPC");
    let (mut prefix, mut left) = (Vec::new(), 0_usize);
    let mut body = None;
    while let Some(data) = stream.data().await {
        let mut data = data.ok()?;
        // Where this fails the client is gone, which shows when the next piece is read.
        drop(stream.flow_control().release_capacity(data.len()));
        if body.is_none() {
            let wanted = PREFIX_BYTES - prefix.len();
            let here = data.split_to(wanted.min(data.len()));
            prefix.extend_from_slice(&here);
            let [flag, length @ ..] = prefix.as_slice() else {
                continue;
            };
            let Ok(length) = <[u8; 4]>::try_from(length) else {
                continue;
            };
            left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            let coding = match flag {
                0 => &b""[..],
                1 => coding,
                _ => return Some(Err(FORM)),
            };
            body = match Body::new(exporter.receiver.room(), coding) {
                Ok(body) => Some(body),
                Err(refused) => return Some(Err(refused)),
            };
        }
        let Some(open) = &mut body else { continue };
        if data.remaining() > left {
            return Some(Err(FORM));
        }
        left -= data.remaining();
        if let Err(refused) = open.feed(&data) {
            return Some(Err(refused));
        }
    }
    match body {
        Some(body) if left == 0 => Some(body.finish()),
        Some(_) | None => Some(Err(FORM)),
    }
}

/// Answers a call: an empty message, or none, and its status.
fn answer(mut respond: SendResponse<Bytes>, code: u16, why: &'static str) {
    let mut response = Response::new(());
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", kind);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(code));
    if code != status::OK {
        trailers.insert("grpc-message", HeaderValue::from_static(why));
        // All of the answer is in its head.
        response.headers_mut().extend(trailers);
        drop(respond.send_response(response, true));
        return;
    }
    // The client may be gone.
    let sent = respond.send_response(response, false).and_then(|mut body| {
        body.send_data(Bytes::from_static(NOTHING), false)?;
        body.send_trailers(trailers)
    });
    drop(sent);
}
