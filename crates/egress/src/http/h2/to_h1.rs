//! A judged request of HTTP/2 on its way to a server of HTTP/1, and the response on its way back.
//!
//! The head was read so strictly that it has one meaning in both protocols; its body is framed anew
//! from what came of it.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tokio::time::timeout;

use super::{
    client::{Client, Outcome},
    head::{Carried, Judged, check_trailers, write_h1},
    upload::Upload,
};
use crate::{
    gate::{Incoming, Outgoing, Unsent, count},
    http::{
        Dressed, Field, Searched,
        h1::{
            Malformed,
            body::{Body, Framing},
            chunked::{Manner, Piece},
            head::{ResponseHead, parse_response},
            lines::{self, Scanner, members},
        },
    },
    judge::Allowed,
    limits::{HEAD_READ_BYTES, RELAY_CHUNK_BYTES, RESPONSE_WAIT},
    upstream::Upstream,
    watch::Watch,
};

/// Sends a request and passes its response back; the connection comes back if it can be used again.
pub(super) async fn forward(
    (allowed, dressed): (&Allowed<Judged>, &Dressed<'_, Carried>),
    mut upstream: Box<Upstream>,
    (body, client): (Upload, &mut Client),
    content: &mut Searched<'_>,
) -> (Outcome, Option<Box<Upstream>>) {
    let carried = allowed.permitted.get().carried;
    if carried.websocket {
        let outcome = Outcome::Answer(Malformed("it takes no WebSockets over HTTP/2"));
        return (outcome, Some(upstream));
    }
    let head = write_h1(dressed);
    let method = allowed.permitted.get().head.method.as_str();
    let ended = {
        let (incoming, outgoing) = upstream.server.open(allowed, Watch::over());
        let send = send((body, content), outgoing, head);
        let receive = receive(incoming, method, client);
        both(send, receive).await
    };
    match ended {
        Ok(Kept::Yes) => (Outcome::Whole, Some(upstream)),
        Ok(Kept::No) => (Outcome::Whole, None),
        Err(outcome) => {
            // Half a request must not look like a whole one, and is over at once.
            upstream.server.reset();
            (outcome, None)
        }
    }
}

/// Whether another request may follow on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Yes,
    No,
}

/// Runs both directions; the response decides when the request is over.
async fn both(
    send: impl Future<Output = Result<(), Outcome>>,
    receive: impl Future<Output = Result<Kept, Outcome>>,
) -> Result<Kept, Outcome> {
    tokio::pin!(send, receive);
    let mut sent = None;
    loop {
        tokio::select! {
            biased;
            ended = &mut send, if sent.is_none() => match ended {
                Ok(()) => sent = Some(true),
                // The server may still say why it did not want the rest.
                Err(Outcome::Broken) => sent = Some(false),
                Err(outcome) => return Err(outcome),
            },
            kept = &mut receive => return match (kept?, sent) {
                (kept, Some(true)) => Ok(kept),
                // A body that is still on its way cannot be told from the next request.
                (_, Some(false) | None) => Ok(Kept::No),
            },
        }
    }
}

fn unsent(unsent: Unsent) -> Outcome {
    match unsent {
        Unsent::Failed => Outcome::Broken,
        Unsent::Refused(decision) => Outcome::Refused(decision),
    }
}

/// Sends the head and the body.
async fn send(
    (mut body, content): (Upload, &mut Searched<'_>),
    mut to: Outgoing<'_, Judged>,
    head: Vec<u8>,
) -> Result<(), Outcome> {
    let carried = to.permitted().get().carried;
    let announced = carried
        .length
        .unwrap_or(0)
        .saturating_add(count(head.len()));
    to.announce(announced).map_err(unsent)?;
    to.write(&head).await.map_err(unsent)?;
    drop(head);
    if carried.is_whole {
        return Ok(());
    }
    let mut left = carried.length;
    while let Some(data) = body.data().await {
        let bytes: Bytes = data.map_err(|_| Outcome::TakenBack)?;
        let passed = bytes.len();
        if let Some(left) = &mut left {
            let more = left.checked_sub(count(passed));
            *left = more.ok_or(OTHER_LENGTH)?;
        }
        body.compared().await.map_err(Outcome::from)?;
        let bytes = content.pass(bytes).map_err(Outcome::Refused)?;
        write(&mut to, &bytes, left).await?;
        // It fails for more than came, which is not said here.
        body.passed(passed);
    }
    let trailers = body.trailers().await.map_err(|_| Outcome::TakenBack)?;
    content.read_fields(trailers.as_ref());
    let rest = content.end().map_err(Outcome::Refused)?;
    write(&mut to, &rest, left).await?;
    match left {
        Some(0) => Ok(()),
        Some(_) => Err(OTHER_LENGTH),
        None => {
            let trailers = trailers.unwrap_or_default();
            check_trailers(&trailers).map_err(Outcome::Malformed)?;
            to.write(&last_chunk(&trailers)).await.map_err(unsent)
        }
    }
}

/// Sends bytes of a body, in chunks unless so many are `left`.
async fn write(
    to: &mut Outgoing<'_, Judged>,
    bytes: &[u8],
    left: Option<u64>,
) -> Result<(), Outcome> {
    if bytes.is_empty() {
        return Ok(());
    }
    let written = match left {
        None => to.write(&chunk(bytes)).await,
        Some(_) => to.write(bytes).await,
    };
    written.map_err(unsent)
}

const OTHER_LENGTH: Outcome = Outcome::Malformed(Malformed(
    "a body of another length than `Content-Length` says",
));

/// Writes a piece of a body in the chunked coding; none for no bytes, which would end it.
fn chunk(bytes: &[u8]) -> Vec<u8> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let mut coded = format!("{:x}\r\n", bytes.len()).into_bytes();
    coded.extend_from_slice(bytes);
    coded.extend_from_slice(b"\r\n");
    coded
}

fn last_chunk(trailers: &HeaderMap) -> Vec<u8> {
    let mut coded = b"0\r\n".to_vec();
    for (name, value) in trailers {
        coded.extend_from_slice(name.as_str().as_bytes());
        coded.extend_from_slice(b": ");
        coded.extend_from_slice(value.as_bytes());
        coded.extend_from_slice(b"\r\n");
    }
    coded.extend_from_slice(b"\r\n");
    coded
}

/// Passes the response back.
async fn receive(
    mut from: Incoming<'_>,
    method: &str,
    client: &mut Client,
) -> Result<Kept, Outcome> {
    let mut rest = Vec::new();
    let (head, fields) = loop {
        let head = next_head(&mut from, &mut rest, method);
        let head = client.unless_withdrawn(head).await;
        let (head, fields) = head.ok_or(Outcome::TakenBack)??;
        if head.status == 101 {
            return Err(Outcome::Answer(Malformed(
                "an upgrade that nobody asked for",
            )));
        }
        if !head.is_interim() {
            break (head, fields);
        }
        let interim = response(&head, fields)?;
        client.interim(interim).map_err(|_| Outcome::TakenBack)?;
    };
    let mut body = Body::new(head.framing, Manner::Tolerant);
    if client.cannot_search(&fields, body.is_done()) {
        return Err(Outcome::Unsearchable);
    }
    let whole = response(&head, fields)?;
    client
        .start(whole, body.is_done())
        .map_err(|_| Outcome::TakenBack)?;
    if !body.is_done() {
        pass(&mut from, &mut body, &mut rest, (head.framing, client)).await?;
    }
    Ok(if head.persistent && rest.is_empty() {
        Kept::Yes
    } else {
        Kept::No
    })
}

/// Passes the body back until its end.
async fn pass(
    from: &mut Incoming<'_>,
    body: &mut Body,
    rest: &mut Vec<u8>,
    (framing, client): (Framing, &mut Client),
) -> Result<(), Outcome> {
    let mut trailers = HeaderMap::new();
    loop {
        let mut data = Vec::with_capacity(rest.len());
        let ours = body.read(rest, |piece| match piece {
            Piece::Data(bytes) => data.extend_from_slice(bytes),
            Piece::Trailer(field) => add(&mut trailers, field),
        });
        let ours = ours.map_err(Outcome::Answer)?;
        rest.drain(..ours.min(rest.len()));
        if !data.is_empty() {
            client.write(data.into()).await?;
        }
        if body.is_done() {
            break;
        }
        let filled = timeout(RESPONSE_WAIT, from.fill(rest, RELAY_CHUNK_BYTES));
        match client.unless_withdrawn(filled).await {
            None => return Err(Outcome::TakenBack),
            Some(Ok(Ok(1..))) => {}
            Some(Ok(Ok(0))) if framing == Framing::UntilClose => break,
            Some(Ok(Ok(0) | Err(_)) | Err(_)) => return Err(Outcome::Broken),
        }
    }
    // What a trailer must not say is left out, as it is for who does not read them.
    let trailers = Some(trailers).filter(|all| !all.is_empty() && check_trailers(all).is_ok());
    let ended = client.finish(trailers).await;
    ended.map_err(|_| Outcome::TakenBack)
}

/// Reads the next head with its fields.
async fn next_head(
    from: &mut Incoming<'_>,
    rest: &mut Vec<u8>,
    method: &str,
) -> Result<(ResponseHead, HeaderMap), Outcome> {
    let mut scanner = Scanner::default();
    loop {
        if let Some((head, length)) =
            parse_response(&mut scanner, rest, method).map_err(Outcome::Answer)?
        {
            let beyond = rest.split_off(length.min(rest.len()));
            let bytes = std::mem::replace(rest, beyond);
            let (_, fields) = lines::split(&bytes).map_err(Outcome::Answer)?;
            return Ok((head, translated(&fields)));
        }
        match timeout(RESPONSE_WAIT, from.fill(rest, HEAD_READ_BYTES)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) | Err(_) => return Err(Outcome::Broken),
        }
    }
}

/// Leaves out what is about the connection (RFC 9113 section 8.2.2).
fn translated(fields: &[Field<'_>]) -> HeaderMap {
    const OWN: [&str; 6] = [
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
    ];
    let named = fields.iter().filter(|field| field.is("connection"));
    let named: Vec<&[u8]> = named.flat_map(|field| members(field.value)).collect();
    let mut kept = HeaderMap::new();
    for field in fields {
        let is_own = OWN.iter().any(|name| field.is(name));
        let is_named = named
            .iter()
            .any(|name| field.name.eq_ignore_ascii_case(name));
        if !is_own && !is_named {
            add(&mut kept, *field);
        }
    }
    kept
}

fn add(to: &mut HeaderMap, field: Field<'_>) {
    let name = HeaderName::from_bytes(field.name);
    if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
        // There is room for all that a head can have.
        drop(to.try_append(name, value));
    }
}

fn response(head: &ResponseHead, fields: HeaderMap) -> Result<Response<()>, Outcome> {
    let mut response = Response::new(());
    let status = http::StatusCode::from_u16(head.status);
    *response.status_mut() =
        status.map_err(|_| Outcome::Answer(Malformed("the status line has no status")))?;
    *response.headers_mut() = fields;
    Ok(response)
}
