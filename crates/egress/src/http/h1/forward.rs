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
    head::{Carried, write},
    receive::{Back, Got, receive},
    serve::{Exchange, Next},
};
use crate::{
    gate::{Held, Outgoing, Unsent, count},
    http::{Addressed, Answer, Searched, Stop, Tap, Uses},
    judge::Allowed,
    limits::{RELAY_CHUNK_BYTES, RESPONSE_WAIT, WAITING_BYTES_MAX},
    relay::{Answers, relay},
    scrub::Scrubber,
    stream::{Reader, Turn},
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
            Outcome::Answered(answer) => self.answer(&request.head.method, &answer, started).await,
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
        self.answer(&request.head.method, &answer, started).await;
    }

    /// Gives the client an answer of ours in the place of the server's.
    async fn answer(&mut self, method: &str, answer: &Answer, started: bool) {
        if let Some(upstream) = self.upstream.take() {
            // Half a request must not look like a whole one, and is over at once.
            upstream.server.reset();
        }
        if started {
            return self.client.reset();
        }
        send_answer(self.client, method, answer).await;
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
    /// The rest of the request must not leave, or the rest of the response not be read.
    Refused(Box<Decision>),
    /// The rest of the request must not leave, which is recorded; the client is told this.
    Answered(Box<Answer>),
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
            | Self::Answered(_)
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
    Answered(Box<Answer>),
}

impl From<Stop> for Sent {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Refused(decision) => Self::Refused(decision),
            Stop::Answered(answer) => Self::Answered(answer),
        }
    }
}

impl From<Unsent> for Sent {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Failed => Self::ServerGone,
            Unsent::Refused(decision) => Self::Refused(decision),
        }
    }
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
                Sent::Answered(answer) => return Outcome::Answered(answer),
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
                Got::Refused(decision) => Outcome::Refused(decision),
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
        if let Err(stop) = tap.compared().await {
            return stop.into();
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
