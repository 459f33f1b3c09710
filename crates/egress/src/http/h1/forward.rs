//! One judged request on its way to the server, and the response on its way back.

use std::sync::atomic::{AtomicBool, Ordering};

use stockade_policy::{Decision, NetRequest};
use stockade_types::DecisionId;
use tokio::time::timeout;

use super::{
    Malformed,
    answer::{linger, send_answer},
    body::{Body, Framing},
    chunked::{Manner, Piece},
    head::{Carried, parse_response, write},
    lines::{self, Scanner},
    serve::{Exchange, Next},
};
use crate::{
    gate::{Held, Incoming, Outgoing, Unsent, count},
    http::{Addressed, Answer, Searched, Tap, Uses},
    judge::Allowed,
    limits::{HEAD_READ_BYTES, RELAY_CHUNK_BYTES, RESPONSE_WAIT, WAITING_BYTES_MAX},
    relay::{Answers, relay},
    scrub::{Passage, Scrubber},
    stream::{Reader, Turn, Writer},
    watch::Watch,
};

/// A request of HTTP/1 that may be sent.
type AllowedRequest = Allowed<Addressed<Carried>>;

impl Exchange<'_> {
    /// Sends a judged request and passes its response back.
    pub(super) async fn forward(
        &mut self,
        (allowed, uses, decision): (&AllowedRequest, &Uses, DecisionId),
        first: bool,
    ) -> Next {
        let request = allowed.permitted.get();
        let denied = &allowed.decision.terms.content_denied;
        let mut content = match self.carrier.proxy.contents.body(&request.head, denied) {
            Ok(content) => content,
            Err(decision) => {
                self.stop(allowed, *decision, false).await;
                return Next::Close;
            }
        };
        let Some(upstream) = self.upstream.as_mut() else {
            return Next::Close;
        };
        let credentials = &self.carrier.proxy.credentials;
        let NetRequest { host, port, .. } = self.carrier.request();
        let scrubber = credentials.scrubber(host, *port);
        let scrubber = scrubber.as_deref();
        let dressed = credentials.dress(&allowed.permitted, uses);
        let head = write(&dressed, upstream.forward.as_ref());
        let started = AtomicBool::new(false);
        let mut server_rest = Vec::new();
        let tap = Tap::new(&self.carrier, request, decision);
        let outcome = {
            // Each request is judged as a whole, so that nothing of it is left to watch.
            let (incoming, outgoing) = upstream.server.open(allowed, Watch::over());
            let (from, to) = self.client.split();
            let body = (&mut self.pending, &mut content, &tap);
            let send = send(from, outgoing, &head, body);
            let back = Back {
                request,
                scrubber,
                started: &started,
                tap: &tap,
            };
            let receive = receive(incoming, to, back, &mut server_rest);
            both(send, receive).await
        };
        self.carrier.found_in_body(decision, &mut content);
        let started = started.load(Ordering::Relaxed);
        let persistent = request.carried.persistent;
        outcome.tell(tap);
        match outcome {
            Outcome::Whole {
                persistent: true, ..
            } if persistent => return Next::Another,
            Outcome::Switched => {
                Box::pin(self.tunnel(allowed, server_rest, scrubber)).await;
            }
            Outcome::Unsearchable => {
                let answer = self.carrier.unsearchable(request).await;
                send_answer(self.client, &request.head.method, &answer).await;
            }
            Outcome::Answer(malformed) => self.refuse_answer(malformed, started).await,
            Outcome::Malformed(malformed) if !started => self.refuse_malformed(malformed).await,
            Outcome::Malformed(malformed) => {
                // The connection is closed either way; the event is for the record.
                drop(self.carrier.malformed(malformed.0, "").await);
            }
            Outcome::Refused(decision) => self.stop(allowed, *decision, started).await,
            Outcome::Broken if !started => self.no_response(allowed, first).await,
            Outcome::Whole {
                body_sent: false, ..
            } => {
                // The server did not want the rest; the client is still to read its answer.
                linger(self.client).await;
            }
            Outcome::Whole { .. } => {}
            // Half a response must not look like a whole one.
            Outcome::Broken => self.client.reset(),
        }
        Next::Close
    }

    /// Answers where the server did not. On a kept connection closing is what makes clients try
    /// again, as they would without us between (RFC 9112 section 9.3.1).
    async fn no_response(&mut self, allowed: &AllowedRequest, first: bool) {
        if first {
            let method = &allowed.permitted.get().head.method;
            let host = &self.carrier.request().host;
            let text = format!("`{host}` did not send a response that could be read");
            send_answer(self.client, method, &Answer::unserved(&text)).await;
        }
    }

    /// Records that the rest of a request must not leave, and says so where no response was begun.
    async fn stop(&mut self, allowed: &AllowedRequest, decision: Decision, started: bool) {
        let request = allowed.permitted.get();
        let answer = self.carrier.stop(request, decision).await;
        if let Some(upstream) = self.upstream.take() {
            // Half a request must not look like a whole one, and is over at once.
            upstream.server.reset();
        }
        if started {
            return self.client.reset();
        }
        send_answer(self.client, &request.head.method, &answer).await;
    }

    /// Passes on what was read beyond the heads, and then everything: from here on the bytes are
    /// opaque.
    async fn tunnel(
        &mut self,
        allowed: &AllowedRequest,
        server_rest: Vec<u8>,
        scrubber: Option<&Scrubber>,
    ) {
        let Some(upstream) = self.upstream.as_mut() else {
            return;
        };
        let pending = (std::mem::take(&mut self.pending), Watch::over());
        let back = (server_rest, scrubber.map_or(Answers::AsIs, Answers::Clean));
        // However it ended, both sides are closed and the event says what passed.
        drop(relay(self.client, &mut upstream.server, allowed, pending, back).await);
    }
}

enum Outcome {
    /// The response was passed on whole.
    Whole {
        /// Another request may follow.
        persistent: bool,
        /// So was the body of the request.
        body_sent: bool,
    },
    /// The server switched to the protocol that was asked for.
    Switched,
    /// The request's body is not one.
    Malformed(Malformed),
    /// The rest of the request must not leave.
    Refused(Box<Decision>),
    /// The response is not one.
    Answer(Malformed),
    /// The response cannot be searched for credentials.
    Unsearchable,
    /// A side ended early.
    Broken,
}

impl Outcome {
    /// Says to who read the exchange how it ended.
    fn tell(&self, tap: Tap) {
        match self {
            Self::Whole { .. } => tap.is_whole(),
            Self::Refused(_) => tap.is_refused(),
            Self::Switched
            | Self::Malformed(_)
            | Self::Answer(_)
            | Self::Unsearchable
            | Self::Broken => {}
        }
        drop(tap);
    }
}

enum Sent {
    Whole,
    ServerGone,
    ClientGone,
    Malformed(Malformed),
    Refused(Box<Decision>),
}

impl From<Unsent> for Sent {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Failed => Self::ServerGone,
            Unsent::Refused(decision) => Self::Refused(decision),
        }
    }
}

enum Got {
    Whole {
        persistent: bool,
    },
    Switched,
    /// The response can be read in more than one way, or in none.
    Malformed(Malformed),
    Unsearchable,
    Broken,
}

/// What matters for a response.
#[derive(Clone, Copy)]
struct Back<'a> {
    request: &'a Addressed<Carried>,
    /// What it is searched for.
    scrubber: Option<&'a Scrubber>,
    /// Set once the client has some of it.
    started: &'a AtomicBool,
    /// Reads it.
    tap: &'a Tap,
}

/// Runs both directions; the response decides when the exchange is over.
async fn both(send: impl Future<Output = Sent>, receive: impl Future<Output = Got>) -> Outcome {
    tokio::pin!(send, receive);
    let mut sent = None;
    loop {
        tokio::select! {
            // First, so that an answer never overtakes the end of a body that was sent: an empty one
            // ends when it is looked at.
            biased;
            end = &mut send, if sent.is_none() => match end {
                Sent::Malformed(malformed) => return Outcome::Malformed(malformed),
                Sent::Refused(decision) => return Outcome::Refused(decision),
                Sent::ClientGone => return Outcome::Broken,
                // The server may still say why it did not want the rest.
                Sent::Whole => sent = Some(true),
                Sent::ServerGone => sent = Some(false),
            },
            got = &mut receive => return match got {
                // A body that is still on its way cannot be told from the next request.
                Got::Whole { persistent } => {
                    let body_sent = sent == Some(true);
                    Outcome::Whole { persistent: persistent && body_sent, body_sent }
                }
                Got::Switched => Outcome::Switched,
                Got::Malformed(malformed) => Outcome::Answer(malformed),
                Got::Unsearchable => Outcome::Unsearchable,
                Got::Broken => Outcome::Broken,
            },
        }
    }
}

/// Sends the head and the body; `pending` was read of the client already.
async fn send(
    mut from: Reader<'_>,
    mut to: Outgoing<'_, Addressed<Carried>>,
    head: &[u8],
    (pending, content, tap): (&mut Vec<u8>, &mut Searched<'_>, &Tap),
) -> Sent {
    let carried = to.permitted().get().carried;
    let framing = carried.framing;
    let length = match framing {
        Framing::Length(bytes) => bytes,
        Framing::Empty | Framing::Chunked | Framing::UntilClose => 0,
    };
    if let Err(unsent) = to.announce(length.saturating_add(count(head.len()))) {
        return unsent.into();
    }
    if carried.websocket {
        content.is_socket();
    }
    if let Err(decision) = content.refusal() {
        return Sent::Refused(decision);
    }
    if let Err(unsent) = to.write(head).await {
        return unsent.into();
    }
    let mut body = Body::new(framing, Manner::Strict);
    if content.denies() || tap.is_there() {
        return send_held(from, to, body, (pending, content, tap)).await;
    }
    if !body.is_done() && !pending.is_empty() {
        let ours = match searched(&mut body, pending, (content, tap)) {
            Ok(ours) => ours,
            Err(malformed) => return Sent::Malformed(malformed),
        };
        let beyond = pending.split_off(ours.min(pending.len()));
        let bytes = std::mem::replace(pending, beyond);
        if let Err(unsent) = to.write(&bytes).await {
            return unsent.into();
        }
    }
    while !body.is_done() {
        let turn = to.pass(&mut from, pending, |bytes| {
            searched(&mut body, bytes, (content, tap))
        });
        match timeout(RESPONSE_WAIT, turn).await {
            Ok(Turn::Moved) => {}
            Ok(Turn::Refused(Held::Unfit(malformed))) => return Sent::Malformed(malformed),
            Ok(Turn::Refused(Held::Refused(decision))) => return Sent::Refused(decision),
            Ok(Turn::WriteFailed) => return Sent::ServerGone,
            Ok(Turn::Ended | Turn::ReadFailed) | Err(_) => return Sent::ClientGone,
        }
    }
    content.finish();
    Sent::Whole
}

/// Follows a body, whose content is searched; returns how many of the bytes belong to it.
fn searched(
    body: &mut Body,
    bytes: &[u8],
    (content, tap): (&mut Searched<'_>, &Tap),
) -> Result<usize, Malformed> {
    body.read(bytes, |piece| match piece {
        Piece::Data(data) => {
            content.read(data);
            tap.request(data);
        }
        Piece::Trailer(field) => content.read(field.value),
    })
}

/// Sends a body of which no byte may leave that is part of a secret, so that what could still become one
/// waits for what comes next; or that is a call of a model, so that its end waits for what is known of the
/// tools in it.
async fn send_held(
    mut from: Reader<'_>,
    mut to: Outgoing<'_, Addressed<Carried>>,
    mut body: Body,
    (pending, content, tap): (&mut Vec<u8>, &mut Searched<'_>, &Tap),
) -> Sent {
    let mut held = Vec::new();
    while !body.is_done() {
        if pending.is_empty() {
            let read = from.fill(pending, RELAY_CHUNK_BYTES);
            match timeout(RESPONSE_WAIT, read).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) | Err(_) => return Sent::ClientGone,
            }
        }
        let ours = match searched(&mut body, pending, (content, tap)) {
            Ok(ours) => ours,
            Err(malformed) => return Sent::Malformed(malformed),
        };
        let beyond = pending.split_off(ours.min(pending.len()));
        held.append(&mut std::mem::replace(pending, beyond));
        if body.is_done() {
            content.finish();
        }
        if let Err(decision) = tap.compared().await {
            return Sent::Refused(decision);
        }
        if !content.denies() {
            if let Err(unsent) = to.write(&held).await {
                return unsent.into();
            }
            held.clear();
            continue;
        }
        if content.is_open() && held.len() > WAITING_BYTES_MAX {
            content.is_too_long();
        }
        if let Err(decision) = content.refusal() {
            return Sent::Refused(decision);
        }
        if !content.is_open() {
            if let Err(unsent) = to.write(&held).await {
                return unsent.into();
            }
            held.clear();
        }
    }
    Sent::Whole
}

async fn receive(
    mut from: Incoming<'_>,
    mut to: Writer<'_>,
    back: Back<'_>,
    rest: &mut Vec<u8>,
) -> Got {
    let Back {
        request,
        scrubber,
        tap,
        ..
    } = back;
    let head = loop {
        let mut scanner = Scanner::default();
        let (head, mut bytes) = loop {
            match parse_response(&mut scanner, rest, &request.head.method) {
                Err(malformed) => return Got::Malformed(malformed),
                Ok(Some((head, length))) => {
                    let beyond = rest.split_off(length.min(rest.len()));
                    break (head, std::mem::replace(rest, beyond));
                }
                Ok(None) => {}
            }
            match timeout(RESPONSE_WAIT, from.fill(rest, HEAD_READ_BYTES)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) | Err(_) => return Got::Broken,
            }
        };
        if head.status == 101 && !request.carried.websocket {
            return Got::Broken;
        }
        if let Some(scrubber) = scrubber {
            if head.coded && head.framing != Framing::Empty {
                return Got::Unsearchable;
            }
            scrubber.clean(&mut bytes);
        }
        back.started.store(true, Ordering::Relaxed);
        if to.write_all(&bytes).await.is_err() {
            return Got::Broken;
        }
        if !head.is_interim() {
            follow(tap, head.status, &bytes);
            break head;
        }
    };
    if head.status == 101 {
        return Got::Switched;
    }
    let whole = match scrubber {
        Some(scrubber) => {
            let how = (head.framing, scrubber, tap);
            clean_body(&mut from, &mut to, how, rest).await
        }
        None => receive_body(&mut from, &mut to, (head.framing, tap), rest).await,
    };
    if whole {
        Got::Whole {
            persistent: head.persistent,
        }
    } else {
        Got::Broken
    }
}

/// Says which answer the next bytes are of.
fn follow(tap: &Tap, status: u16, head: &[u8]) {
    if !tap.is_there() {
        return;
    }
    let fields = lines::split(head).map(|(_, fields)| fields);
    let fields = fields.unwrap_or_default();
    let codings = fields.iter().filter(|field| field.is("content-encoding"));
    tap.head(status, codings.map(|field| field.value));
}

async fn receive_body(
    from: &mut Incoming<'_>,
    to: &mut Writer<'_>,
    (framing, tap): (Framing, &Tap),
    rest: &mut Vec<u8>,
) -> bool {
    if tap.is_there() {
        return told_body(from, to, (framing, tap), rest).await;
    }
    let mut body = Body::new(framing, Manner::Tolerant);
    if !body.is_done() && !rest.is_empty() {
        let Ok(ours) = body.feed(rest) else {
            return false;
        };
        let beyond = rest.split_off(ours.min(rest.len()));
        let bytes = std::mem::replace(rest, beyond);
        if to.write_all(&bytes).await.is_err() {
            return false;
        }
    }
    while !body.is_done() {
        let turn = from.pass(to, rest, |bytes| body.feed(bytes));
        match timeout(RESPONSE_WAIT, turn).await {
            Ok(Turn::Moved) => {}
            Ok(Turn::Ended) => return framing == Framing::UntilClose,
            Ok(Turn::Refused(_) | Turn::ReadFailed | Turn::WriteFailed) | Err(_) => return false,
        }
    }
    true
}

/// The same, where a call of a model is read: what it asks for is recorded before it is passed on.
async fn told_body(
    from: &mut Incoming<'_>,
    to: &mut Writer<'_>,
    (framing, tap): (Framing, &Tap),
    rest: &mut Vec<u8>,
) -> bool {
    let mut body = Body::new(framing, Manner::Tolerant);
    while !body.is_done() {
        if rest.is_empty() {
            match timeout(RESPONSE_WAIT, from.fill(rest, RELAY_CHUNK_BYTES)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) => return framing == Framing::UntilClose,
                Ok(Err(_)) | Err(_) => return false,
            }
        }
        let read = body.read(rest, |piece| match piece {
            Piece::Data(data) => tap.answer(data),
            Piece::Trailer(_) => {}
        });
        let Ok(ours) = read else {
            return false;
        };
        let beyond = rest.split_off(ours.min(rest.len()));
        let bytes = std::mem::replace(rest, beyond);
        tap.recorded().await;
        if to.write_all(&bytes).await.is_err() {
            return false;
        }
    }
    true
}

/// The same, without the values of credentials. What says how the body is split up must be plain, so
/// that nothing is hidden in it.
async fn clean_body(
    from: &mut Incoming<'_>,
    to: &mut Writer<'_>,
    (framing, scrubber, tap): (Framing, &Scrubber, &Tap),
    rest: &mut Vec<u8>,
) -> bool {
    let mut body = Body::new(framing, Manner::Strict);
    let mut passage = Passage::default();
    let mut content = Vec::new();
    while !body.is_done() {
        if rest.is_empty() {
            match timeout(RESPONSE_WAIT, from.fill(rest, RELAY_CHUNK_BYTES)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) => {
                    let last = passage.push(scrubber, &[], &[], true);
                    return framing == Framing::UntilClose && to.write_all(&last).await.is_ok();
                }
                Ok(Err(_)) | Err(_) => return false,
            }
        }
        content.clear();
        let Ok(ours) = body.feed_parts(rest, &mut content) else {
            return false;
        };
        let parts = content.iter().cloned();
        parts.for_each(|part| tap.answer(rest.get(part).unwrap_or_default()));
        let beyond = rest.split_off(ours.min(rest.len()));
        let bytes = std::mem::replace(rest, beyond);
        let clean = passage.push(scrubber, &bytes, &content, body.is_done());
        tap.recorded().await;
        if to.write_all(&clean).await.is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{Got, Outcome, Sent, both};

    /// An answer that is there at once must not hide that an empty body was sent: the connection
    /// would be closed although it could be kept.
    #[tokio::test]
    async fn an_early_answer_keeps_the_connection() {
        for _ in 0..1000 {
            let whole = async { Got::Whole { persistent: true } };
            let outcome = both(async { Sent::Whole }, whole).await;
            let Outcome::Whole {
                persistent: true, ..
            } = outcome
            else {
                panic!("the connection is not kept");
            };
        }
        let whole = async { Got::Whole { persistent: true } };
        let outcome = both(std::future::pending(), whole).await;
        assert!(matches!(
            outcome,
            Outcome::Whole {
                persistent: false,
                ..
            }
        ));
    }
}
