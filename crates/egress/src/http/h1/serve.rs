//! Serving one client connection that speaks HTTP/1: each request is judged, then passed on.

use std::net::SocketAddr;

use stockade_policy::{Approvals, AsRequest, Control, Decision, NetRequest, Request};
use stockade_types::{Host, Port, Subject};
use tokio::time::timeout;

use super::{
    Malformed,
    answer::{answer, answer_denied, answer_failed, body_of, unrecorded},
    head::{Carried, OTHER_UPGRADE, RequestHead, parse_request},
    lines::Scanner,
};
use crate::{
    Proxy,
    dial::Carries,
    http::{Addressed, Head},
    judge::{Allowed, Judgement, Waiter, decided},
    limits::{HANDSHAKE_WAIT, KEEP_ALIVE_WAIT, RELAY_CHUNK_BYTES},
    stream::Stream,
    upstream::Upstream,
    wire::Decided,
};

/// Bytes read at once while a head is not complete.
pub(super) const HEAD_READ_BYTES: usize = 16 * 1024;
const _: () = assert!(HEAD_READ_BYTES <= RELAY_CHUNK_BYTES);

/// A client connection that speaks HTTP, and where it leads.
pub(crate) struct Exchange<'a> {
    /// The process.
    pub(crate) proxy: &'a Proxy,
    /// The client.
    pub(crate) client: &'a mut Stream,
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
    pub(crate) allowed: &'a Allowed<NetRequest>,
    /// How the server is reached.
    pub(crate) carries: Carries,
    /// The connection that was made before the client was connected.
    pub(crate) made: Option<Upstream>,
    /// The connection to the host, once there is one.
    pub(crate) upstream: &'a mut Option<Upstream>,
}

/// What becomes of the client after one request.
pub(super) enum Next {
    /// It may send another request.
    Another,
    /// Its connection is to be closed.
    Close,
}

/// Serves requests until the connection ends.
pub(crate) async fn serve(exchange: &mut Exchange<'_>) {
    let mut first = true;
    loop {
        let head = match read_head(exchange, first).await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(malformed) => return exchange.refuse_malformed(malformed).await,
        };
        match exchange.request(head, first).await {
            Next::Another => first = false,
            Next::Close => return,
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
    let (mut client, _) = exchange.client.split();
    let pending = &mut exchange.pending;
    let whole = async {
        loop {
            if let Some((head, length)) = parse_request(&mut scanner, pending)? {
                pending.drain(..length);
                return Ok(Some(head));
            }
            match client.fill(pending, HEAD_READ_BYTES).await {
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
    let server = async {
        match exchange.upstream.as_ref() {
            Some(upstream) => upstream.server.speaks().await,
            None => std::future::pending().await,
        }
    };
    let either = async {
        tokio::select! {
            biased;
            speaks = exchange.client.speaks() => matches!(speaks, Ok(true)),
            // A server that speaks unasked ends the connection (RFC 9112 section 9.5).
            () = server => false,
        }
    };
    timeout(KEEP_ALIVE_WAIT, either).await.unwrap_or(false)
}

impl Exchange<'_> {
    async fn request(&mut self, head: RequestHead, first: bool) -> Next {
        let RequestHead { head, carried } = head;
        let addressed = Addressed {
            head,
            carried,
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
            let detail = match self.carries {
                Carries::Sealed => "http in tls that was opened",
                Carries::Requests | Carries::Bytes => "http",
            };
            let detail = Some(detail.to_owned());
            let made = (self.made.take(), self.carries);
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
            next = self.forward(&allowed, first) => next,
            () = revocations.any_of(&ids) => {
                self.client.reset();
                Next::Close
            }
        }
    }

    /// Returns the refusal of a request whose `Host` is not where the connection leads.
    fn mismatch(&self, head: &Head) -> Option<Decision> {
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
    fn overridden(&self, head: &Head) -> Option<Decision> {
        if !self.allowed.decision.http_only {
            return None;
        }
        let field = head.overriding()?;
        let reason =
            format!("`{field}` can name another path or method than the one that is judged");
        Some(Control::HttpFraming.denies(reason, "send the request without this field"))
    }

    async fn deny(&mut self, request: Request, decision: Decision, head: &Head) -> Next {
        let record = self.proxy.judge.record(decided(request, decision)).await;
        answer_denied(self.client, &head.method, &record).await;
        Next::Close
    }

    pub(super) async fn refuse_malformed(&mut self, malformed: Malformed) {
        let request = self.allowed.permitted.get().as_request();
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
    pub(super) async fn refuse_answer(&mut self, malformed: Malformed, started: bool) {
        let request = self.allowed.permitted.get().as_request();
        let reason = format!("the answer of `{}`: {malformed}", self.host);
        let remedy = "have the server answer in strict HTTP/1.1, or reach it with TLS";
        let decision = Control::HttpFraming.denies(reason, remedy);
        let record = self.proxy.judge.record(decided(request, decision)).await;
        if started {
            // Half an answer must not look like a whole one.
            return self.client.reset();
        }
        answer(self.client, 502, "GET", &body_of(&record)).await;
    }
}

/// Approvals that are used by the request and not already by its connection.
fn own_approvals(
    allowed: &Allowed<Addressed<Carried>>,
    held: &Approvals,
) -> Vec<stockade_types::ApprovalId> {
    let ids = allowed.approvals.ids();
    ids.filter(|id| !held.ids().any(|other| other == *id))
        .cloned()
        .collect()
}
