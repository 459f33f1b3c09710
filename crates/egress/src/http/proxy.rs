//! Serving one client connection that speaks HTTP/1: each request is judged, then passed on.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use stockade_policy::{Approvals, AsRequest, Control, Decision, Permitted, Request};
use stockade_types::{Host, Port, Subject};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    time::timeout,
};

use super::{
    Malformed,
    answer::{answer, answer_denied, answer_failed, body_of, linger, unrecorded},
    body::{Body, Framing},
    chunked::Manner,
    head::{Addressed, OTHER_UPGRADE, RequestHead, parse_request, parse_response},
    lines::Scanner,
};
use crate::{
    Proxy,
    dial::Carries,
    judge::{Allowed, Judgement, Waiter, decided},
    limits::{HANDSHAKE_WAIT, KEEP_ALIVE_WAIT, RELAY_CHUNK_BYTES, RESPONSE_WAIT},
    relay::{Counters, Turn, fill, reset, turn_accepted},
    upstream::Upstream,
    wire::Decided,
};

/// Bytes read at once while a head is not complete.
const HEAD_READ_BYTES: usize = 16 * 1024;
const _: () = assert!(HEAD_READ_BYTES <= RELAY_CHUNK_BYTES);

/// A client connection that speaks HTTP, and where it leads.
pub(crate) struct Exchange<'a> {
    /// The process.
    pub(crate) proxy: &'a Proxy,
    /// The client.
    pub(crate) client: &'a mut TcpStream,
    /// The address it connected to.
    pub(crate) destination: SocketAddr,
    /// What was read of it and not used.
    pub(crate) pending: Vec<u8>,
    /// Where the connection leads.
    pub(crate) host: Host,
    /// Its port.
    pub(crate) port: Port,
    /// Who opened it.
    pub(crate) subject: Subject,
    /// The decision on the connection.
    pub(crate) allowed: &'a Allowed,
    /// The connection that was made before the client was connected.
    pub(crate) made: Option<Upstream>,
    /// The connection to the host, once there is one.
    pub(crate) upstream: &'a mut Option<Upstream>,
}

/// What becomes of the client after one request.
enum Next {
    /// It may send another request.
    Another,
    /// Its connection is to be closed.
    Close,
    /// Both connections are a tunnel now.
    Tunnel,
}

/// Serves requests until the connection ends. Returns true when it became a tunnel, whose first
/// bytes are already passed on.
pub(crate) async fn serve(exchange: &mut Exchange<'_>) -> bool {
    let mut first = true;
    loop {
        let head = match read_head(exchange, first).await {
            Ok(Some(head)) => head,
            Ok(None) => return false,
            Err(malformed) => {
                exchange.refuse_malformed(malformed).await;
                return false;
            }
        };
        match exchange.request(head, first).await {
            Next::Another => first = false,
            Next::Close => return false,
            Next::Tunnel => return true,
        }
    }
}

/// Reads the next request head; `None` when there will be none.
async fn read_head(
    exchange: &mut Exchange<'_>,
    first: bool,
) -> Result<Option<RequestHead>, Malformed> {
    if exchange.pending.is_empty() && !first && !next_request_comes(exchange).await {
        return Ok(None);
    }
    let mut scanner = Scanner::default();
    let (client, _) = exchange.client.split();
    let pending = &mut exchange.pending;
    let whole = async {
        loop {
            if let Some((head, length)) = parse_request(&mut scanner, pending)? {
                pending.drain(..length);
                return Ok(Some(head));
            }
            match fill(&client, pending, HEAD_READ_BYTES).await {
                Ok(0) if !pending.is_empty() => {
                    return Err(Malformed("the client ended before its head did"));
                }
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    };
    timeout(HANDSHAKE_WAIT, whole)
        .await
        .unwrap_or(Err(Malformed("the head was not complete in time")))
}

/// Waits on a kept connection; false when either side ends it.
async fn next_request_comes(exchange: &mut Exchange<'_>) -> bool {
    let (mut ours, mut theirs) = ([0], [0]);
    let server = async {
        match exchange.upstream.as_ref() {
            Some(upstream) => upstream.stream.peek(&mut theirs).await.map(|_| ()),
            None => std::future::pending().await,
        }
    };
    let either = async {
        tokio::select! {
            biased;
            read = exchange.client.peek(&mut ours) => matches!(read, Ok(1..)),
            // A server that speaks unasked ends the connection (RFC 9112 section 9.5).
            _ = server => false,
        }
    };
    timeout(KEEP_ALIVE_WAIT, either).await.unwrap_or(false)
}

impl Exchange<'_> {
    async fn request(&mut self, head: RequestHead, first: bool) -> Next {
        let addressed = Addressed {
            head,
            host: self.host.clone(),
            port: self.port,
            subject: self.subject.clone(),
        };
        let (http, head) = (addressed.as_request(), &addressed.head);
        if let Some(decision) = self.mismatch(head).or_else(|| self.overridden(head)) {
            return self.deny(http, decision, head).await;
        }
        if self.upstream.is_none()
            && let Some(decision) = self.proxy.request_out_of_reach(&http, self.allowed)
        {
            return self.deny(http, decision, head).await;
        }
        let mut revocations = self.proxy.supervisor.revocations();
        let held = &self.allowed.approvals;
        let waiter = Waiter {
            client: self.client,
            destination: self.destination,
        };
        let judged = self.proxy.judge.judge(&addressed, held, waiter).await;
        let allowed = match judged {
            Judgement::Permitted(allowed) => allowed,
            Judgement::Denied(decision) => return self.deny(http, *decision, head).await,
        };
        if self.upstream.is_none() {
            let (made, detail) = (self.made.take(), Some("http".to_owned()));
            let made = (made, Carries::Requests);
            match Upstream::open(self.proxy, self.allowed, made, (None, detail)).await {
                Ok(upstream) => *self.upstream = Some(upstream),
                Err(failed) => {
                    failed.answer_http(self.client, &head.method).await;
                    return Next::Close;
                }
            }
        }
        let entry = Decided {
            approvals: own_approvals(&allowed, held),
            ..decided(http, allowed.decision.clone())
        };
        if let Err(error) = self.proxy.judge.record(entry).await {
            answer_failed(self.client, 503, &head.method, &unrecorded(&error)).await;
            return Next::Close;
        }
        let ids = allowed.approval_ids();
        tokio::select! {
            next = self.forward(&allowed.permitted, first) => next,
            () = revocations.any_of(&ids) => {
                reset(self.client);
                Next::Close
            }
        }
    }

    /// Returns the refusal of a request whose `Host` is not where the connection leads.
    fn mismatch(&self, head: &RequestHead) -> Option<Decision> {
        let same_port = head.port.is_none_or(|port| port == self.port.get());
        if head.host == self.host && same_port {
            return None;
        }
        let wanted = head.port.map_or_else(
            || head.host.to_string(),
            |port| format!("{}:{port}", head.host),
        );
        let reason = format!(
            "the request is for `{wanted}`, but the connection is to `{}:{}`",
            self.host, self.port
        );
        Some(Control::NameMismatch.denies(reason, "connect to the host that the request is for"))
    }

    /// Returns the refusal of a request with another path or method than the one that is judged.
    fn overridden(&self, head: &RequestHead) -> Option<Decision> {
        let field = head
            .overriding
            .filter(|_| self.allowed.decision.http_only)?;
        let reason =
            format!("`{field}` can name another path or method than the one that is judged");
        Some(Control::HttpFraming.denies(reason, "send the request without this field"))
    }

    async fn deny(&mut self, request: Request, decision: Decision, head: &RequestHead) -> Next {
        let record = self.proxy.judge.record(decided(request, decision)).await;
        answer_denied(self.client, &head.method, &record).await;
        Next::Close
    }

    async fn refuse_malformed(&mut self, malformed: Malformed) {
        let request = self.allowed.permitted.get().clone();
        let remedy = if malformed == OTHER_UPGRADE {
            "name the server as a service of the machine in `[network.services]`: what is said to one \
             is passed on as it is"
        } else {
            "send the request in strict HTTP/1.1"
        };
        let decision = Control::HttpFraming.denies(malformed.to_string(), remedy);
        let entry = Decided {
            detail: Some("refused while it was open".to_owned()),
            ..decided(request, decision)
        };
        let record = self.proxy.judge.record(entry).await;
        answer(self.client, 400, "GET", &body_of(&record)).await;
    }

    /// Records that a server's answer was not passed on, and says so where nothing of it was.
    async fn refuse_answer(&mut self, malformed: Malformed, started: bool) {
        let request = self.allowed.permitted.get().clone();
        let reason = format!("the answer of `{}`: {malformed}", self.host);
        let remedy = "have the server answer in strict HTTP/1.1, or reach it with TLS";
        let decision = Control::HttpFraming.denies(reason, remedy);
        let record = self.proxy.judge.record(decided(request, decision)).await;
        if started {
            // Half an answer must not look like a whole one.
            return reset(self.client);
        }
        answer(self.client, 502, "GET", &body_of(&record)).await;
    }

    /// Sends a judged request and passes its response back.
    async fn forward(&mut self, permitted: &Permitted<Addressed>, first: bool) -> Next {
        let head = &permitted.get().head;
        let Some(upstream) = self.upstream.as_mut() else {
            return Next::Close;
        };
        let bytes = Addressed::write(permitted, upstream.forward.as_ref());
        let counters = std::sync::Arc::clone(&upstream.counters);
        if upstream.stream.write_all(&bytes).await.is_err() {
            return self.no_response(head, first).await;
        }
        counters.add_out(length(bytes.len()));
        let started = AtomicBool::new(false);
        let mut server_rest = Vec::new();
        let outcome = {
            let (client_read, mut client_write) = self.client.split();
            let (server_read, mut server_write) = upstream.stream.split();
            let send = send_body(
                (&client_read, &mut server_write),
                permitted,
                &mut self.pending,
                &counters,
            );
            let receive = receive(
                (&server_read, &mut client_write),
                head,
                &mut server_rest,
                &counters,
                &started,
            );
            both(send, receive).await
        };
        match outcome {
            Outcome::Whole { persistent, .. } if persistent && head.persistent => Next::Another,
            Outcome::Switched => self.tunnel(&server_rest).await,
            Outcome::Answer(malformed) => {
                self.refuse_answer(malformed, started.load(Ordering::Relaxed))
                    .await;
                Next::Close
            }
            Outcome::Malformed(malformed) if !started.load(Ordering::Relaxed) => {
                self.refuse_malformed(malformed).await;
                Next::Close
            }
            Outcome::Malformed(malformed) => {
                let net = self.allowed.permitted.get().clone();
                let decision = Control::HttpFraming.denies(malformed.to_string(), "");
                // The connection is closed either way; the event is for the record.
                drop(self.proxy.judge.record(decided(net, decision)).await);
                Next::Close
            }
            Outcome::Broken if !started.load(Ordering::Relaxed) => {
                self.no_response(head, first).await
            }
            Outcome::Whole { body_sent, .. } => {
                if !body_sent {
                    // The server did not want the rest; the client is still to read its answer.
                    linger(self.client).await;
                }
                Next::Close
            }
            Outcome::Broken => {
                // Half a response must not look like a whole one.
                reset(self.client);
                Next::Close
            }
        }
    }

    /// Answers where the server did not. On a kept connection closing is what makes clients try
    /// again, as they would without us between (RFC 9112 section 9.3.1).
    async fn no_response(&mut self, head: &RequestHead, first: bool) -> Next {
        if first {
            let text = format!("`{}` did not send a response that could be read", self.host);
            answer_failed(self.client, 502, &head.method, &text).await;
        }
        Next::Close
    }

    /// Passes on what was read beyond the heads; from here on the bytes are opaque.
    async fn tunnel(&mut self, server_rest: &[u8]) -> Next {
        let Some(upstream) = self.upstream.as_mut() else {
            return Next::Close;
        };
        let pending = std::mem::take(&mut self.pending);
        let sent = upstream.stream.write_all(&pending).await;
        let returned = self.client.write_all(server_rest).await;
        if sent.is_err() || returned.is_err() {
            return Next::Close;
        }
        upstream.counters.add_out(length(pending.len()));
        upstream.counters.add_in(length(server_rest.len()));
        Next::Tunnel
    }
}

/// Approvals that are used by the request and not already by its connection.
fn own_approvals(
    allowed: &Allowed<Addressed>,
    held: &Approvals,
) -> Vec<stockade_types::ApprovalId> {
    let ids = allowed.approvals.ids();
    ids.filter(|id| !held.ids().any(|other| other == *id))
        .cloned()
        .collect()
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
    /// The response is not one.
    Answer(Malformed),
    /// A side ended early.
    Broken,
}

enum Sent {
    Whole,
    ServerGone,
    ClientGone,
    Malformed(Malformed),
}

enum Got {
    Whole {
        persistent: bool,
    },
    Switched,
    /// The response can be read in more than one way, or in none.
    Malformed(Malformed),
    Broken,
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
                Got::Broken => Outcome::Broken,
            },
        }
    }
}

async fn send_body(
    (from, to): (&ReadHalf<'_>, &mut WriteHalf<'_>),
    permitted: &Permitted<Addressed>,
    pending: &mut Vec<u8>,
    counters: &Counters,
) -> Sent {
    let mut body = Body::new(permitted.get().head.framing, Manner::Strict);
    if !body.is_done() && !pending.is_empty() {
        let ours = match body.feed(pending) {
            Ok(ours) => ours,
            Err(malformed) => return Sent::Malformed(malformed),
        };
        let beyond = pending.split_off(ours.min(pending.len()));
        let bytes = std::mem::replace(pending, beyond);
        if to.write_all(&bytes).await.is_err() {
            return Sent::ServerGone;
        }
        counters.add_out(length(bytes.len()));
    }
    while !body.is_done() {
        let mut accept = |bytes: &[u8]| body.feed(bytes);
        match timeout(RESPONSE_WAIT, turn_accepted(from, to, pending, &mut accept)).await {
            Ok(Turn::Moved(bytes)) => counters.add_out(bytes),
            Ok(Turn::Refused(malformed)) => return Sent::Malformed(malformed),
            Ok(Turn::WriteFailed) => return Sent::ServerGone,
            Ok(Turn::Ended | Turn::ReadFailed) | Err(_) => return Sent::ClientGone,
        }
    }
    Sent::Whole
}

async fn receive(
    (from, to): (&ReadHalf<'_>, &mut WriteHalf<'_>),
    request: &RequestHead,
    rest: &mut Vec<u8>,
    counters: &Counters,
    started: &AtomicBool,
) -> Got {
    let head = loop {
        let mut scanner = Scanner::default();
        let (head, bytes) = loop {
            match parse_response(&mut scanner, rest, &request.method) {
                Err(malformed) => return Got::Malformed(malformed),
                Ok(Some((head, length))) => {
                    let beyond = rest.split_off(length.min(rest.len()));
                    break (head, std::mem::replace(rest, beyond));
                }
                Ok(None) => {}
            }
            match timeout(RESPONSE_WAIT, fill(from, rest, HEAD_READ_BYTES)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) | Err(_) => return Got::Broken,
            }
        };
        if head.status == 101 && !request.websocket {
            return Got::Broken;
        }
        started.store(true, Ordering::Relaxed);
        if to.write_all(&bytes).await.is_err() {
            return Got::Broken;
        }
        counters.add_in(length(bytes.len()));
        if !head.is_interim() {
            break head;
        }
    };
    if head.status == 101 {
        return Got::Switched;
    }
    let whole = receive_body((from, to), head.framing, rest, counters).await;
    if whole {
        Got::Whole {
            persistent: head.persistent,
        }
    } else {
        Got::Broken
    }
}

async fn receive_body(
    (from, to): (&ReadHalf<'_>, &mut WriteHalf<'_>),
    framing: Framing,
    rest: &mut Vec<u8>,
    counters: &Counters,
) -> bool {
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
        counters.add_in(length(bytes.len()));
    }
    while !body.is_done() {
        let mut accept = |bytes: &[u8]| body.feed(bytes);
        match timeout(RESPONSE_WAIT, turn_accepted(from, to, rest, &mut accept)).await {
            Ok(Turn::Moved(bytes)) => counters.add_in(bytes),
            Ok(Turn::Ended) => return framing == Framing::UntilClose,
            Ok(Turn::Refused(_) | Turn::ReadFailed | Turn::WriteFailed) | Err(_) => return false,
        }
    }
    true
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
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
